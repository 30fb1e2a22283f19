"""The errors that the server raises itself. They know nothing of HTTP."""

from __future__ import annotations


class ServerError(Exception):
    """Base class of every error that the server raises itself."""


class ServerSettingsError(ServerError):
    """Raised when the server cannot start with the settings that it was given.

    The message names the setting, shows the value and says what is allowed.
    """


class ServerBusyError(ServerError):
    """Raised when every place in which a request may wait is taken.

    Args:
        waiting_for: What the places are for, such as "a run".
        max_waiting: How many requests may wait for it.
        retry_after_s: After how many seconds it is worth asking again.
    """

    def __init__(self, waiting_for: str, *, max_waiting: int, retry_after_s: int = 5) -> None:
        super().__init__(
            f"The server is busy: {max_waiting} requests wait for {waiting_for} already, "
            f"and no more may (setting max_waiting). Try again later."
        )
        self.max_waiting = max_waiting
        self.retry_after_s = retry_after_s


class ServerStoppingError(ServerError):
    """Raised when a run is asked for, or still waits for its turn, while the server stops.

    Args:
        retry_after_s: After how many seconds it is worth asking again.
    """

    def __init__(self, *, retry_after_s: int = 5) -> None:
        super().__init__("The server is stopping and starts no more runs. Try again later.")
        self.retry_after_s = retry_after_s
