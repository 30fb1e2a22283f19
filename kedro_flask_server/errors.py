"""The errors that the server raises itself. They know nothing of HTTP."""

from __future__ import annotations

from kedro_flask_server.text import bounded

NOT_LOADED = "The project's pipelines cannot be loaded; the log says why."
"""Why a server is not ready whose project fails when it is imported."""


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
    """Raised when all waiting slots are taken.

    Args:
        waiting_for: What the slots are for, such as "a snapshot".
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


class RunGoneError(TryAgainError):
    """Raised when a run that was taken in is gone before it has started, with its database.

    Args:
        run_id: The run.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"Run {run_id} is gone: the database of the runs was deleted or replaced. Send it "
            "again."
        )


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


class QuotaError(TryAgainError):
    """Raised when somebody has as many runs under way as they may.

    Args:
        who: Their name.
        limit: How many they may have.
        kind: Which runs count: ``active`` or ``queued``.
    """

    def __init__(self, who: str, limit: int, kind: str) -> None:
        super().__init__(f"{who} has {limit} {kind} runs, and may have no more (max_{kind}).")


class UnauthorizedError(ServerError):
    """Raised when a request has to say who sends it, and does not, or not truly."""


class ForbiddenError(ServerError):
    """Raised when somebody asks for what they may not have."""


class ApiKeyExistsError(ServerError):
    """Raised when a key is made whose name another one has.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a key {name!r} already: revoke it, or choose another name.")


class UnknownApiKeyError(ServerError):
    """Raised when there is no key of a name.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no key {bounded(name, 100)!r} that could be revoked.")
