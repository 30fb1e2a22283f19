"""Starts the server on the example project, sends it a run, and leaves it up to try.

Takes the options of ``kedro server start``. The server's log goes to a file, so that the answers
and what to do next stand last.
"""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

PROJECT = Path(__file__).parent / "breast_cancer"
LOG = PROJECT / "server.log"
RUN = {"pipeline_names": ["__default__"], "params": {"forest": {"trees": 20}}}


def main() -> int:
    """Run the example, until it is stopped; return the server's exit code."""
    # A shell that starts this in the background has it ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    print(f"Starting the server on {PROJECT.name} (its log: {LOG}).", flush=True)
    command = [sys.executable, "-u", "-m", "kedro", "server", "start", *sys.argv[1:]]
    with LOG.open("wb") as log:
        server = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log)
    with suppress(KeyboardInterrupt):
        address = _wait_for_address(server)
        if address:
            _send_run(address)
        server.wait()
    server.terminate()
    return server.wait()


def _wait_for_address(server: subprocess.Popen) -> str:
    """Return the server's address once it listens; nothing where it has ended."""
    while server.poll() is None:
        printed = LOG.read_text(errors="replace")
        found = re.search(r"^Address: +(\S+)", printed, re.MULTILINE)
        if found and "Stop with" in printed:
            return found[1]
        time.sleep(0.05)
    print(LOG.read_text(errors="replace"), file=sys.stderr)
    return ""


def _send_run(address: str) -> None:
    body = json.dumps(RUN)
    print(f"\nPOST {address}/run {body}", flush=True)
    request = urllib.request.Request(
        f"{address}/run", body.encode(), {"Content-Type": "application/json"}
    )
    _show(request)
    print(f"\nGET {address}/scores/forest")
    _show(f"{address}/scores/forest")
    with urllib.request.urlopen(f"{address}/pipelines/inference") as response:
        samples = json.load(response)["inputs"]["samples"]["example"]
    body = json.dumps({"inputs": {"samples": samples}, "save": False})
    print(f"\nPOST {address}/pipelines/inference/run {body[:100]} ...")
    request = urllib.request.Request(
        f"{address}/pipelines/inference/run", body.encode(), {"Content-Type": "application/json"}
    )
    _show(request)
    print(
        f"\nThe server stays up; Ctrl-C stops it. Try it yourself:\n"
        f"  a browser:  {address}/ui, and {address}/docs for the API\n"
        f"  curl {address}/runs\n"
        f"  curl -X POST {address}/run -H 'Content-Type: application/json' -d '{{}}'",
        flush=True,
    )


def _show(request: "urllib.request.Request | str") -> None:
    with urllib.request.urlopen(request) as response:
        print(f"{response.status} {response.read().decode().strip()}")


if __name__ == "__main__":
    sys.exit(main())
