"""How a node or a dataset ends, as a test has ordered it in a file beside the data."""

import os
import signal
import time
from pathlib import Path

ORDER = Path("data/order")
LOG = Path("data/executed")


def note(node: str) -> None:
    """Note that a node executes, and end as ordered for it."""
    with LOG.open("a") as log:
        log.write(f"{node}\n")
    obey(node)


def obey(place: str) -> None:
    """Do what is ordered for a place: ``kill``, ``raise`` or ``sleep``."""
    if not ORDER.exists():
        return
    what, where = ORDER.read_text().split()
    if where != place:
        return
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        time.sleep(100)
    raise RuntimeError(f"ordered at {place}")
