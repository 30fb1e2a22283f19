"""Measures what an API key costs a request, beside Kedro's own server, which knows none.

Requests with and without a key are sent in turn to two servers on one project, so that what else
the machine does falls on both alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import yaml

from kedro_flask_server.access.api_keys import create_secret, hash_secret
from tests.servers import PROJECTS, copy_project, kedro_flask_server, kedro_own_server

OTHER_KEYS = 100
"""As many keys has the server beside the one that is sent."""


def write_keys(folder: Path) -> tuple[Path, str]:
    """Write a file of keys, and return it and one of the keys."""
    secrets = [create_secret() for _ in range(OTHER_KEYS + 1)]
    path = folder / "keys.yml"
    entries = [
        {"name": f"key-{number}", "sha256": hash_secret(secret.encode()), "scopes": ["read"]}
        for number, secret in enumerate(secrets)
    ]
    path.write_text(yaml.safe_dump(entries))
    return path, secrets[-1]


def main() -> None:
    """Measure, and print the medians over all requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000, help="of each kind; default 4,000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keys, secret = write_keys(Path(folder))
        project = copy_project(PROJECTS / "probe", Path(folder))
        with (
            kedro_own_server(project) as kedro,
            kedro_flask_server(project) as local,
            kedro_flask_server(
                project,
                KEDRO_SERVER_API_KEYS_FILE=str(keys),
                KEDRO_SERVER_STATE_DIR=f"{folder}/state",
            ) as guarded,
        ):
            guarded.client.headers["Authorization"] = f"Bearer {secret}"
            clients = {
                "Kedro's own": kedro.client,
                "no key": local.client,
                "a key": guarded.client,
            }
            durations = measure(clients, options.requests)
    print(f"GET /docs, median of {options.requests} requests each, {OTHER_KEYS + 1} keys")
    for name, each in durations.items():
        print(f"{name:>12}: {statistics.median(each):.3f} ms")
    cost = statistics.median(durations["a key"]) - statistics.median(durations["no key"])
    ratio = statistics.median(durations["a key"]) / statistics.median(durations["Kedro's own"])
    print(f"a key costs {cost:.3f} ms a request; with it, ours / Kedro's own: {ratio:.2f}")


def measure(clients: dict[str, httpx.Client], requests: int) -> dict[str, list[float]]:
    """Return how long each request took, in milliseconds."""
    durations: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(requests):
        for name, client in clients.items():
            began = time.perf_counter()
            client.get("/docs").raise_for_status()
            durations[name].append((time.perf_counter() - began) * 1000)
    return durations


if __name__ == "__main__":
    main()
