"""Command lines that do the same as a request."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pprint import pformat
from textwrap import indent
from typing import Any

from kedro_flask_server.model.run import RunRequest

# The options of ``kedro run`` that take names, by the fields of a request.
_LISTS = {
    "pipeline_names": "pipelines",
    "from_inputs": "from-inputs",
    "to_outputs": "to-outputs",
    "from_nodes": "from-nodes",
    "to_nodes": "to-nodes",
    "node_names": "nodes",
    "tags": "tags",
    "namespaces": "namespaces",
}
_FLAGS = {"is_async": "async", "only_missing_outputs": "only-missing-outputs"}

# Texts that ``--params`` takes for texts, and names that it takes for one name.
_PLAIN_TEXT = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "none", "nan", "inf", "infinity"}


def kedro_command(request: RunRequest, *, env: str, conf_source: str | None = None) -> str | None:
    """Return the ``kedro run`` that does the same as a request.

    Args:
        request: The request.
        env: Its configuration environment.
        conf_source: The server's configuration source; None for the project's own.

    Returns:
        The line, for a shell; None where ``--params`` cannot take the parameters, such as lists.
        https://docs.kedro.org/en/stable/build/commands/ has the options.
    """
    options = [f"--env={env}"]
    if conf_source is not None:
        options.append(f"--conf-source={conf_source}")
    options += [
        f"--{option}={','.join(getattr(request, name))}"
        for name, option in _LISTS.items()
        if getattr(request, name)
    ]
    if request.runner:
        options.append(f"--runner={request.runner}")
    options += [f"--{option}" for name, option in _FLAGS.items() if getattr(request, name)]
    if request.load_versions:
        versions = ",".join(f"{name}:{each}" for name, each in request.load_versions.items())
        options.append(f"--load-versions={versions}")
    if request.params:
        try:
            options.append(f"--params={','.join(_assignments(request.params, ''))}")
        except ValueError:
            return None
    return shlex.join(["kedro", "run", *options])


def curl_command(request: RunRequest, url: str) -> str:
    """Return the ``curl`` that sends a request.

    Args:
        request: The request.
        url: The address of ``/run``.
    """
    body = json.dumps(request.given())
    return shlex.join(["curl", url, "--json", body])


def python_program(request: RunRequest, url: str) -> str:
    """Return the Python program that sends a request.

    Args:
        request: The request.
        url: The server's address.
    """
    given = pformat(request.given(), sort_dicts=False, width=88)
    return (
        "from kedro_flask_server.client import Client\n\n"
        f"with Client({url!r}) as client:\n"
        f"    print(client.run({indent(given, '    ' * 2).strip()}))\n"
    )


def _assignments(params: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in params.items():
        if not _PLAIN_NAME.fullmatch(name):
            raise ValueError
        if isinstance(value, dict) and value:
            yield from _assignments(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and abs(value) < 1e15):
        return repr(value)
    if isinstance(value, str) and _PLAIN_TEXT.fullmatch(value) and value.lower() not in _WORDS:
        return value
    raise ValueError
