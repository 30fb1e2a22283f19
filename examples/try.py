"""Starts the server on the example project, sends it a run, and leaves it up to try.

Takes the options of ``kedro server start``.
"""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

PROJECT = Path(__file__).parent / "breast_cancer"
RUN = {"pipeline_names": ["__default__"], "params": {"forest": {"trees": 20}}}


def main() -> int:
    """Run the example, until it is stopped; return the server's exit code."""
    command = [sys.executable, "-u", "-m", "kedro", "server", "start", *sys.argv[1:]]
    server = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    address = ""
    try:
        for line in server.stdout:
            print(line, end="", flush=True)
            found = re.match(r"Address: +(\S+)", line)
            if found:
                address = found[1]
            if address and "Stop with" in line:
                _send_run(address)
    finally:
        server.terminate()
        code = server.wait()
    return code


def _send_run(address: str) -> None:
    body = json.dumps(RUN)
    print(f"\nPOST {address}/run {body}", flush=True)
    request = urllib.request.Request(
        f"{address}/run", body.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        print(f"{response.status} {response.read().decode()}")
    with urllib.request.urlopen(f"{address}/scores/forest") as response:
        print(f"GET {address}/scores/forest\n{response.status} {response.read().decode()}")
    print("Try it yourself: the address of the API reference is above. Ctrl-C stops.\n", flush=True)


if __name__ == "__main__":
    # A shell that starts it in the background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
