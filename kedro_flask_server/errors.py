"""The errors that the server raises itself. They know nothing of HTTP."""

from __future__ import annotations

from kedro_flask_server.text import bounded


class ServerError(Exception):
    """Base class of every error that the server raises itself."""


class ServerSettingsError(ServerError):
    """Raised when the server cannot start with the settings that it was given.

    The message names the setting, shows the value and says what is allowed.
    """


class TryAgainError(ServerError):
    """Base class of the errors that pass: it is worth asking again.

    Attributes:
        retry_after_s: After how many seconds.
    """

    retry_after_s = 5


class ServerBusyError(TryAgainError):
    """Raised when every place in which a request or a run may wait is taken.

    Args:
        waiting_for: What the places are for, such as "a snapshot".
        limit: How many there are.
        setting: The setting that says so.
    """

    def __init__(self, waiting_for: str, *, limit: int, setting: str) -> None:
        super().__init__(
            f"The server is busy: {limit} wait for {waiting_for} already, and no more may "
            f"(setting {setting}). Try again later."
        )


class ServerStoppingError(TryAgainError):
    """Raised when a run is asked for, or still waits for its turn, while the server stops."""

    def __init__(self) -> None:
        super().__init__("The server is stopping and starts no more runs. Try again later.")


class StoreUnavailableError(TryAgainError):
    """Raised when the store of the runs cannot be reached, or cannot be written.

    Args:
        reason: What its database says.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The store of the runs is not available: {reason}")
        self.reason = reason


class UnknownRunError(ServerError):
    """Raised when there is no run with an id.

    Args:
        run_id: The id.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {bounded(run_id, 100)!r}.")


class RunEndedError(ServerError):
    """Raised when a run that has ended is to be cancelled.

    Args:
        run_id: Its id.
        status: How it ended.
    """

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"Run {run_id} has ended ({status}): there is nothing to cancel.")


class KeyReusedError(ServerError):
    """Raised when an idempotency key comes again with another request."""

    def __init__(self) -> None:
        super().__init__("This key was sent before, with another request body.")


class KeyInUseError(TryAgainError):
    """Raised when an idempotency key comes again while its first request is taken in."""

    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("The first request with this key is being taken in. Try again.")
