"""The signals that the programs of this package depend on."""

from __future__ import annotations

import signal
import sys
from typing import Any


def reset_signals() -> None:
    """Undo what the program that has started this one chose for its own signals.

    What is blocked or ignored there is so here, too: nothing would be known of children that
    end (SIGCHLD), of the end that is asked for (SIGTERM, SIGINT), and of a lease's (SIGALRM). A
    hangup stays ignored, as ``nohup`` is to have it.
    """
    if sys.platform == "win32":
        return
    handlers: dict[signal.Signals, Any] = {
        signal.SIGALRM: signal.SIG_DFL,
        signal.SIGCHLD: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
