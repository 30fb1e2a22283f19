"""Every setting of the server, once: its name, type, unit, default and meaning."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from kedro_flask_server.config.parsers import (
    FILE,
    FOLDER,
    HOST,
    LINK,
    ORIGIN,
    POOLS,
    PROXY,
    RETRIES,
    SERVED,
    SOURCE,
    TIMEOUT,
    YES_OR_NO,
    Parser,
    by_pipeline,
    list_of,
    number,
    one_of,
    text,
    whole,
)
from kedro_flask_server.model.executors import EXECUTORS, PROCESSES, available_executors
from kedro_flask_server.model.queue import MAX_PRIORITY, MIN_PRIORITY, Pool, QueueLimits
from kedro_flask_server.model.retry_rule import RetryRule
from kedro_flask_server.model.served import ServedSettings

VARIABLE_PREFIX = "KEDRO_SERVER_"
"""Begins the environment variable of each setting."""

ALLOW, WAIT, REFUSE = CONFLICT_RULES = ("allow", "wait", "refuse")
"""What a run does that is in conflict with another one (setting ``dataset_conflicts``)."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""The names of this machine that no other machine can take."""


def default_workers() -> int:
    """Return how many runs execute at a time by default.

    Returns:
        4, or the number of processors that this process may use where that is less.
    """
    if hasattr(os, "sched_getaffinity"):
        return min(4, len(os.sched_getaffinity(0)))
    return min(4, os.cpu_count() or 1)


def _setting(
    default: Any,
    parser: Parser,
    *,
    meaning: str,
    variables: tuple[str, ...] = (),
    is_secret: bool = False,
) -> Any:
    metadata = {
        "parse": parser.parse,
        "allowed": parser.allowed,
        "meaning": meaning,
        "variables": variables,
        "is_secret": is_secret,
    }
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not is_secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The settings of one server. Each field's metadata says what it means and allows."""

    project_path: Path
    env: str | None = _setting(
        None,
        text("the name of a configuration environment"),
        meaning="Kedro's configuration environment, for every endpoint alike",
        variables=("KEDRO_SERVER_ENV", "KEDRO_ENV"),
    )
    conf_source: str | None = _setting(
        None,
        SOURCE,
        meaning="where the configuration is; None: the project's `CONF_SOURCE`",
    )
    host: str = _setting(
        "127.0.0.1",
        text("a host name or address"),
        meaning="the address that `kedro server start` listens on",
    )
    port: int = _setting(
        8000,
        whole(0, 65_535),
        meaning="the port that `kedro server start` listens on; 0 takes a free one",
    )
    workers: int = _setting(
        default_workers,
        whole(1, 128),
        meaning="how many runs execute at a time (default: 4, or the processors that the "
        "process may use where those are fewer)",
    )
    executor: str = _setting(
        lambda: available_executors()[0],
        one_of(
            *available_executors(),
            allowed="'processes' or, which is all there is on Windows, 'threads'",
        ),
        meaning=f"where runs execute: {', or '.join(each.meaning for each in EXECUTORS)} "
        "(default: `processes`; on Windows `threads`)",
    )
    max_runs_per_worker: int = _setting(
        1,
        whole(1),
        meaning="how many runs a worker process executes, one after the other, before another "
        "takes its place",
    )
    worker_start_method: str = _setting(
        "auto",
        one_of("auto", "fork", "spawn"),
        meaning="how a worker process comes by the project: forked from a process that has "
        "loaded it, or a program of its own; `auto` forks where nothing that is loaded forbids it",
    )
    max_worker_rss_mb: int | None = _setting(
        None,
        whole(1, unit="megabytes"),
        meaning="a worker process that holds more memory after a run (resident, in MB) ends, "
        "however few runs it has executed",
    )
    worker_memory_limit_mb: int | None = _setting(
        None,
        whole(1, unit="megabytes"),
        meaning="how much memory a worker process, and each that it starts, may take (Linux: "
        "RLIMIT_DATA, in MB); a run that wants more fails with `MemoryError`",
    )
    cancel_grace_s: float = _setting(
        5.0,
        number(0, 86_400),
        meaning="how many seconds a run in a process gets to end itself when it is cancelled or "
        "takes too long; after that it is killed, with all that it has started",
    )
    max_waiting: int = _setting(
        32,
        whole(0, 256),
        meaning="how many requests may wait for runs, besides one for each of `workers`, and as "
        "many for a snapshot; the next is refused with 503",
    )
    max_queued: int = _setting(
        1_000,
        whole(1),
        meaning="how many runs may be queued; the next is refused with 503",
    )
    concurrency: Mapping[str, int] = _setting(
        dict,
        by_pipeline(
            whole(1), allowed='a mapping of pipelines to whole numbers, such as {"train": 1}'
        ),
        meaning="how many runs of a pipeline execute at a time, for those that are named, over "
        "all servers of the project and environment together",
    )
    pools: Mapping[str, Pool] = _setting(
        dict,
        POOLS,
        meaning="slots that pipelines share, over all servers of the project and environment "
        "together: a run starts once each pool has as many free slots as its pipelines take",
    )
    priorities: Mapping[str, int] = _setting(
        dict,
        by_pipeline(
            whole(MIN_PRIORITY, MAX_PRIORITY),
            allowed='a mapping of pipelines to whole numbers from -100 to 100, such as {"train": '
            "-10}",
        ),
        meaning="the priority of a pipeline's runs where the request gives none; the highest is "
        "next, and 0 the default",
    )
    queue_timeout_s: float | Mapping[str, float] | None = _setting(
        None,
        TIMEOUT,
        meaning="how many seconds a run may be queued, all of them or those of the pipelines that "
        "are named; then it fails with `QueueTimeout`",
    )
    dataset_conflicts: str | None = _setting(
        None,
        one_of(*CONFLICT_RULES),
        meaning="what a run does that would write what an executing or earlier queued one reads or "
        "writes, or read what that writes: `allow` starts it, `wait` queues it, `refuse` answers "
        "409; None: `wait` with processes, `allow` with threads",
    )
    conflict_exempt_pipelines: tuple[str, ...] = _setting(
        tuple,
        list_of(text(""), allowed='a list of pipelines, such as ["reporting"]'),
        meaning="pipelines whose runs wait for no other run's datasets, and for which none waits",
    )
    shared_paths: tuple[str, ...] = _setting(
        tuple,
        list_of(FOLDER, allowed='a list of folders, such as ["/mnt/data"]'),
        meaning="folders that are the same on all machines, such as a network file system; other "
        "local paths belong to their machine",
    )
    skip_failed_versions: bool = _setting(
        False,
        YES_OR_NO,
        meaning="whether the latest version of a dataset is one whose run has succeeded; otherwise "
        "it may be one that a failed run left, which the run's `warnings` say",
    )
    retries: Mapping[str, RetryRule] = _setting(
        dict,
        RETRIES,
        meaning="how often the runs of a pipeline that fail are retried, from the start, for those "
        "that are named: how many `times` in a chain, after how many seconds (`delay_s`), and for "
        "which `errors`, by the names of their classes or of classes above",
    )
    project_revision: str | None = _setting(
        None,
        text("a text, such as a commit or a version"),
        meaning="the revision of the project's code that runs are recorded with; None: what git "
        "says of the project's folder",
    )
    run_timeout_s: float | Mapping[str, float] | None = _setting(
        None,
        TIMEOUT,
        meaning="how many seconds a run may take, all of them or those of the pipelines that are "
        "named; a longer one fails with `RunTimeout`",
    )
    max_sync_wait_s: float | None = _setting(
        None,
        number(0),
        meaning="how many seconds a request may wait for its run; after that it is answered with "
        "202 and the run, which goes on",
    )
    idempotency_hours: float = _setting(
        24.0,
        number(0, 8_760, unit="hours"),
        meaning="how many hours an `Idempotency-Key` counts",
    )
    state_dir: str | None = _setting(
        None,
        FOLDER,
        meaning="the folder in which the server keeps its runs; None: `.kedro_server` in the "
        "project",
    )
    database_url: str | None = _setting(
        None,
        text(
            "postgresql://user:password@host:port/name, with several hosts as "
            "host:port,host:port, or sqlite:////folder/file"
        ),
        meaning="the database of the runs; None: SQLite, in `state_dir`",
        is_secret=True,
    )
    data_url: str | None = _setting(
        None,
        text("a folder, or a URL of fsspec such as s3://bucket/folder"),
        meaning="where the data lies that requests give and runs return, which several servers "
        "share; None: `data` in `state_dir`",
    )
    keep_outputs_hours: float = _setting(
        24.0,
        number(0, 876_000, unit="hours"),
        meaning="how many hours the data that a request gave and its run returned is kept after "
        "the run's end",
    )
    max_stored_data_bytes: int = _setting(
        10_737_418_240,
        whole(1_048_576, unit="bytes"),
        meaning="how many bytes of such data are kept at a time; a request that gives more is "
        "refused with 507",
    )
    min_free_disk_bytes: int = _setting(
        268_435_456,
        whole(0, unit="bytes"),
        meaning="a request with data is refused with 507 where the disk of `state_dir`, of the "
        "data or of temporary files would have less space left; runs go on",
    )
    max_data_bytes: int = _setting(
        104_857_600,
        whole(1, unit="bytes"),
        meaning="the largest body of a request with data in bytes; a larger one is refused with "
        "413",
    )
    max_inline_output_bytes: int = _setting(
        1_048_576,
        whole(0, 67_108_864, unit="bytes"),
        meaning="a dataset that is larger is returned by its address, and not in the answer itself",
    )
    allow_excel: bool = _setting(
        False,
        YES_OR_NO,
        meaning="whether workbooks of Excel are read that a request gives",
    )
    served_pipelines: Mapping[str, ServedSettings] = _setting(
        dict,
        SERVED,
        meaning="pipelines that have workers of their own, in which the datasets of `preload` stay "
        "loaded, and answer calls within milliseconds; see [Fast calls](serving.md)",
    )
    lease_s: float = _setting(
        60.0,
        number(3, 86_400),
        meaning="after how many seconds without a word a server is taken for dead by servers on "
        "other machines",
    )
    keep_runs: int = _setting(
        100_000,
        whole(0),
        meaning="how many runs that have ended are kept, those that ended last",
    )
    keep_days: float = _setting(
        90.0,
        number(0, 36_500, unit="days"),
        meaning="how many days a run is kept after its end",
    )
    max_log_bytes: int = _setting(
        1_048_576,
        whole(0, 67_108_864),
        meaning="how many bytes of log are kept of a run, in UTF-8; what follows is cut",
    )
    max_streams: int = _setting(
        32,
        whole(0, 128),
        meaning="how many clients may follow events or logs at a time, over Server-Sent Events; "
        "the next is refused with 503",
    )
    ui: bool = _setting(
        True,
        YES_OR_NO,
        meaning="whether there are pages for people at `/ui`",
    )
    max_page_streams: int = _setting(
        32,
        whole(0, 128),
        meaning="how many pages of active runs may hold a stream at a time; the next asks again "
        "every 3 seconds instead",
    )
    viz_url: str | None = _setting(
        None,
        LINK,
        meaning="the address of a kedro-viz that pages of pipelines link to",
    )
    log_format: str = _setting(
        "auto",
        one_of("auto", "rich", "plain", "json"),
        meaning="how log records are written that Kedro has rich draw: `auto` draws them on a "
        "terminal, and writes a plain line for each elsewhere; `json` writes JSON Lines",
    )
    drain_timeout_s: float = _setting(
        20.0,
        number(0),
        meaning="how many seconds the runs under way get to end once the server is told to stop",
    )
    shutdown_delay_s: float = _setting(
        0.0,
        number(0, 3_600),
        meaning="how many seconds the server goes on to serve once it is told to stop, while "
        "`/health/ready` is 503 already (`kedro server start`)",
    )
    max_body_bytes: int = _setting(
        1_048_576,
        whole(1, unit="bytes"),
        meaning="the largest request body in bytes; a larger one is refused with 413",
    )
    receive_timeout_s: float = _setting(
        10.0,
        number(0.1, 3_600),
        meaning="within how many seconds a request must have come in whole, under "
        "`kedro server start`; a slower client is cut off",
    )
    send_timeout_s: float = _setting(
        60.0,
        number(0.1, 3_600),
        meaning="within how many seconds a client must take some of its answer, under "
        "`kedro server start`; one that does not is cut off",
    )
    max_buffered_bytes: int = _setting(
        67_108_864,
        whole(1_048_576, unit="bytes"),
        meaning="how many bytes of request bodies, and as many of answers that were not taken yet, "
        "the server holds at a time, over all connections (`kedro server start`)",
    )
    allow_anonymous: bool = _setting(
        False,
        YES_OR_NO,
        meaning="whether the server may be used without a key or another login",
    )
    api_keys_file: str | None = _setting(
        None,
        FILE,
        meaning="a YAML file with API keys, beside those of the database, read again when it "
        "changes",
    )
    public_endpoints: tuple[str, ...] = _setting(
        tuple,
        list_of(
            text(""), allowed='a list of names of Flask endpoints, such as ["my_blueprint.page"]'
        ),
        meaning="views that are open to all, beside `/health` and its probes",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        lambda: LOOPBACK_HOSTS,
        list_of(HOST, allowed='a list of host names, such as ["kedro.example.com", ".internal"]'),
        meaning="the hosts that requests may name, with a port or for any port; `.internal` is "
        "all below that, and `*` any (default: `localhost`, `127.0.0.1` and `[::1]`)",
    )
    allowed_origins: tuple[str, ...] = _setting(
        tuple,
        list_of(ORIGIN, allowed='a list of origins, such as ["https://portal.example.com"]'),
        meaning="the other sites whose pages may send requests (CORS)",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        tuple,
        list_of(
            PROXY,
            allowed='a list of addresses and networks, such as ["10.0.0.0/8"], or "unix" for a '
            "Unix socket",
        ),
        meaning="the proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` count",
    )
    allow_param_interpolation: bool = _setting(
        False,
        YES_OR_NO,
        meaning="whether `params` may hold `${…}` and `???`, which OmegaConf resolves: with a "
        "resolver such as `oc.env`, a caller reads the environment of the server",
    )
    expose_error_messages: bool = _setting(
        True,
        YES_OR_NO,
        meaning="whether clients are told the messages, tracebacks and logs of runs that fail, "
        "and not the type of the error alone",
    )


def timeout_of(limit: float | Mapping[str, float] | None, pipelines: Iterable[str]) -> float | None:
    """Return how many seconds a run may take, or be queued; None for any time.

    Args:
        limit: The setting ``run_timeout_s`` or ``queue_timeout_s``.
        pipelines: The pipelines of the run; where several have a limit, the shortest counts.
    """
    if isinstance(limit, Mapping):
        return min((limit[name] for name in pipelines if name in limit), default=None)
    return limit


def priority_of(config: ServerConfig, pipelines: Iterable[str]) -> int:
    """Return the priority of a run whose request gives none; of several, the highest."""
    known = [config.priorities[name] for name in pipelines if name in config.priorities]
    return max(known, default=0)


def conflict_rule(config: ServerConfig) -> str:
    """Return the setting ``dataset_conflicts``, or its default."""
    return config.dataset_conflicts or (WAIT if config.executor == PROCESSES.name else ALLOW)


def keeps_runs_apart(config: ServerConfig) -> bool:
    """Return whether runs acquire locks on what they read and write."""
    return conflict_rule(config) != ALLOW


def queue_limits(config: ServerConfig) -> QueueLimits:
    """Return the limits of the queue."""
    return QueueLimits(concurrency=config.concurrency, pools=config.pools)


def pipelines_named(config: ServerConfig) -> dict[str, frozenset[str]]:
    """Return the pipelines that settings name, by setting."""
    by_setting = {each.name: getattr(config, each.name) for each in settings()}
    named = {
        name: frozenset(value) for name, value in by_setting.items() if isinstance(value, Mapping)
    }
    in_pools = frozenset(name for pool in config.pools.values() for name in pool.pipelines)
    exempt = frozenset(config.conflict_exempt_pipelines)
    return {**named, "pools": in_pools, "conflict_exempt_pipelines": exempt}


def unknown_pipelines(config: ServerConfig, known: Iterable[str] | None) -> str | None:
    """Return what is wrong with the pipelines that settings name; None where nothing is.

    Args:
        config: The settings.
        known: The registered pipelines; None where they cannot be loaded now.
    """
    if known is None:
        return None
    registered = sorted(known)
    for setting, names in pipelines_named(config).items():
        unknown = sorted(names.difference(registered))
        if unknown:
            return (
                f"Setting {setting!r} names {', '.join(map(repr, unknown))}, and the project has "
                f"no such pipeline. Its pipelines are: {', '.join(registered)}."
            )
    return None


def settings() -> tuple[Field[Any], ...]:
    """Return the settings that have five ways to be set: all but the project's path.

    `env` and `conf_source` have four: they choose the file that is one of them.
    """
    return tuple(each for each in fields(ServerConfig) if each.name != "project_path")


def variables_of(setting: Field[Any]) -> tuple[str, ...]:
    """Return the environment variables of a setting, the one that counts most first."""
    return setting.metadata["variables"] or (VARIABLE_PREFIX + setting.name.upper(),)


def secret_variables() -> set[str]:
    """Return the environment variables that the processes of runs do not get."""
    secret = {
        name for each in settings() if each.metadata["is_secret"] for name in variables_of(each)
    }
    return secret | {VARIABLE_PREFIX + "API_KEY"}
