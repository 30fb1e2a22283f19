"""The errors that the server raises itself. They know nothing of HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kedro_flask_server.text import bounded

NOT_LOADED = "The project's pipelines cannot be loaded; the log says why."
"""Why a server is not ready whose project fails when it is imported."""


UNLOCATED = (
    "Runs do not wait for each other because of %s: where it lies cannot be told from the catalog "
    "(setting dataset_conflicts)"
)
"""A warning about datasets, by their names."""


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


class RunNotEndedError(ServerError):
    """Raised when the data of a run is to be deleted that has not ended.

    Args:
        run_id: Its id.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(f"Run {run_id} has not ended: its data is in use.")


class RetryRefusedError(ServerError):
    """Raised when a run cannot be retried.

    Attributes:
        refusals: Why, each a ``type``, which a request may force or not, where it is (``loc``), and
            a message (``msg``).
        run_id: The run of its chain that has not ended, if that is the reason.
    """

    def __init__(self, refusals: Sequence[Mapping[str, Any]], run_id: str | None = None) -> None:
        super().__init__("; ".join(str(each["msg"]) for each in refusals))
        self.refusals = [dict(each) for each in refusals]
        self.run_id = run_id


class DatasetConflictError(ServerError):
    """Raised when a run would read or write what another one writes, and does not wait.

    Attributes:
        dataset: The dataset.
        run_id: The other run, which executes or is queued before.
    """

    def __init__(self, dataset: str, run_id: str) -> None:
        super().__init__(
            f"Run {run_id} is in the way: it uses the dataset {bounded(dataset, 200)!r}, which one "
            "of both writes (setting dataset_conflicts). Send it again once that has ended."
        )
        self.dataset = dataset
        self.run_id = run_id


class UnknownPipelineError(ServerError):
    """Raised when there is no pipeline of a name.

    Args:
        name: The name.
        known: The names of the project's pipelines.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"There is no pipeline {bounded(name, 200)!r}. The pipelines are: "
            f"{bounded(', '.join(sorted(known)), 2_000)}."
        )


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


class StorageFullError(ServerError):
    """Raised when there is no space for the data that a request gives.

    Args:
        setting: The setting that says how much there is.
    """

    def __init__(self, setting: str) -> None:
        super().__init__(f"There is no space for the data of this request (setting {setting}).")


class UnknownOutputError(ServerError):
    """Raised when a run has returned no data for a dataset.

    Args:
        run_id: The run.
        dataset: The dataset.
        known: The datasets of which it has returned data.
    """

    def __init__(self, run_id: str, dataset: str, known: Iterable[str]) -> None:
        there_are = bounded(", ".join(sorted(known)), 2_000) or "none"
        super().__init__(
            f"Run {run_id} has returned no data of {bounded(dataset, 200)!r}. It has of: "
            f"{there_are}."
        )


class DataGoneError(ServerError):
    """Raised when the data of a run is asked for that was deleted.

    Args:
        run_id: The run.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"The data of run {run_id} is gone: it was deleted, or kept for long enough (setting "
            "keep_outputs_hours)."
        )


class NotServedError(ServerError):
    """Raised when a pipeline is to load other data that has no workers of its own.

    Args:
        name: The pipeline.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The pipeline {bounded(name, 200)!r} is not served (setting served_pipelines)."
        )


class PipelineNotReadyError(TryAgainError):
    """Raised when a served pipeline takes no calls now.

    Attributes:
        pipeline: The pipeline.
        is_of_project: Whether the reason is what the project's code says.
    """

    def __init__(self, pipeline: str, reason: str, *, is_of_project: bool = False) -> None:
        super().__init__(f"The pipeline {bounded(pipeline, 200)!r} takes no calls now: {reason}")
        self.pipeline = pipeline
        self.is_of_project = is_of_project


class NothingToLoadError(ServerError):
    """Raised where a dataset is not there that a served pipeline has to load.

    Attributes:
        dataset: The dataset.
    """

    def __init__(self, dataset: str) -> None:
        super().__init__(f"there is nothing to load for the dataset '{dataset}' yet.")
        self.dataset = dataset


class LoadFailedError(ServerError):
    """Raised when a served pipeline cannot load what it should; what it has loaded stays.

    Args:
        reason: Why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(bounded(reason, 2_000))


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
