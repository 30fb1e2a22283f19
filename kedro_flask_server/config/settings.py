"""Every setting of the server, once: its name, type, unit, default and meaning.

A setting is looked up in this order: argument of ``create_http_server`` or command-line
option; environment variable; ``SERVER = {...}`` in the project's settings.py; default.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from kedro_flask_server.errors import ServerSettingsError

_PREFIX = "KEDRO_SERVER_"

# These are the client's, which may run where the server does.
_CLIENT_SETTINGS = ("url", "api_key")
_SHORTEST_TIMEOUT_S = 0.001

# A year. Threads cannot wait for as long as a number can be.
_LONGEST_S = 31_536_000.0

# In settings.py, these are relative to the project.
_PATHS = ("conf_source", "state_dir", "api_keys_file")

# Kubernetes describes each service of a namespace in the environment of its pods, and a
# service may well be called kedro-server, or kedro-server-test. https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_HOST = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*(:\d{1,5})?|\[[0-9a-f:.]+\](:\d{1,5})?")
_ORIGIN = re.compile(r"https?://(" + _HOST.pattern + ")")

_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""The names of this machine that no other machine can take."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _source(value: object) -> str:
    """Return a configuration source that exists; one behind a URL is Kedro's to find."""
    text = str(value) if isinstance(value, Path) else _text(value)
    if "://" in text:
        return text
    path = Path(text).expanduser()
    if not path.exists():
        raise ValueError
    return str(path.resolve())


def _number(minimum: float, maximum: float = _LONGEST_S) -> Callable[[object], float]:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value)
        if not minimum <= number <= maximum:  # NaN is neither
            raise ValueError
        return number

    return parse


def _whole(minimum: int, maximum: int | None = None) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError
        number = int(value)
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError
        return number

    return parse


def _folder(value: object) -> str:
    """Return the path of a folder, which need not exist yet."""
    text = str(value) if isinstance(value, Path) else _text(value)
    return str(Path(text).expanduser().resolve())


def _file(value: object) -> str:
    """Return the path of a file that exists."""
    text = str(value) if isinstance(value, Path) else _text(value)
    path = Path(text).expanduser().absolute()  # a mounted secret is a link, which changes
    if not path.is_file():
        raise ValueError
    return str(path)


def _by_pipeline(parse: Callable[[object], Any]) -> Callable[[object], dict[str, Any]]:
    """Return what parses a value for each of some pipelines; in a variable, as JSON."""

    def parse_all(value: object) -> dict[str, Any]:
        given = json.loads(value) if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise ValueError
        return {_text(name): parse(each) for name, each in given.items()}

    return parse_all


def _seconds_or_by_pipeline(value: object) -> float | dict[str, float]:
    is_json = isinstance(value, str) and value.lstrip().startswith("{")
    if is_json or isinstance(value, Mapping):
        return _by_pipeline(_number(_SHORTEST_TIMEOUT_S))(value)
    return _number(_SHORTEST_TIMEOUT_S)(value)


def default_workers() -> int:
    """Return how many runs execute at a time by default.

    Returns:
        4, or the number of processors that this process may use where that is less.
    """
    if hasattr(os, "sched_getaffinity"):
        return min(4, len(os.sched_getaffinity(0)))
    return min(4, os.cpu_count() or 1)


def default_executor() -> str:
    """Return where runs execute by default.

    Returns:
        ``processes``, on Windows ``threads``.
    """
    return "processes" if os.name == "posix" else "threads"


def _yes_or_no(value: object) -> bool:
    """Return a truth value; in a variable, in the words that Kedro's server takes in JSON."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError
    return words[value.lower()]


def _list_of(parse: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """Return what parses a list of values; in a variable, as JSON."""

    def parse_all(value: object) -> tuple[str, ...]:
        given = json.loads(value) if isinstance(value, str) else value
        if not isinstance(given, (list, tuple)):
            raise ValueError
        return tuple(map(parse, given))

    return parse_all


def _host(value: object) -> str:
    host = _text(value).lower()
    if host != "*" and not _HOST.fullmatch(host):
        raise ValueError
    return host


def _origin(value: object) -> str:
    origin = _text(value).lower()
    if not _ORIGIN.fullmatch(origin):
        raise ValueError
    return origin


def _proxy(value: object) -> str:
    proxy = _text(value)
    if proxy != "unix":
        ipaddress.ip_network(proxy)
    return proxy


def _one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return parse


def _executor(value: object) -> str:
    executor = _one_of("processes", "threads")(value)
    if executor == "processes" and os.name != "posix":
        raise ValueError
    return executor


def _setting(
    default: Any,
    parse: Callable[[object], Any],
    *,
    allowed: str,
    meaning: str,
    variables: tuple[str, ...] = (),
    is_secret: bool = False,
) -> Any:
    metadata = {
        "parse": parse,
        "allowed": allowed,
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
        _text,
        allowed="the name of a configuration environment",
        meaning="Kedro's configuration environment, for every endpoint alike",
        variables=("KEDRO_SERVER_ENV", "KEDRO_ENV"),
    )
    conf_source: str | None = _setting(
        None,
        _source,
        allowed="a folder or archive that exists, or a URL",
        meaning="where the configuration is; None: the project's `CONF_SOURCE`",
    )
    host: str = _setting(
        "127.0.0.1",
        _text,
        allowed="a host name or address",
        meaning="the address that `kedro server start` listens on",
    )
    port: int = _setting(
        8000,
        _whole(0, 65_535),
        allowed="a whole number from 0 to 65535",
        meaning="the port that `kedro server start` listens on; 0 takes a free one",
    )
    workers: int = _setting(
        default_workers,
        _whole(1, 128),
        allowed="a whole number from 1 to 128",
        meaning="how many runs execute at a time (default: 4, or the processors that the "
        "process may use where those are fewer)",
    )
    executor: str = _setting(
        default_executor,
        _executor,
        allowed="'processes' or, which is all there is on Windows, 'threads'",
        meaning="where runs execute: each in a process of its own, or in threads of the server "
        "(default: `processes`; on Windows `threads`)",
    )
    max_runs_per_worker: int = _setting(
        1,
        _whole(1),
        allowed="a whole number, 1 or more",
        meaning="how many runs a worker process executes, one after the other, before another "
        "takes its place",
    )
    worker_start_method: str = _setting(
        "auto",
        _one_of("auto", "fork", "spawn"),
        allowed="'auto', 'fork' or 'spawn'",
        meaning="how a worker process comes by the project: forked from a process that has "
        "loaded it, or started anew; `auto` forks where nothing that is loaded forbids it",
    )
    max_worker_rss_mb: int | None = _setting(
        None,
        _whole(1),
        allowed="a whole number of megabytes, 1 or more",
        meaning="a worker process that holds more memory after a run (resident, in MB) ends, "
        "however few runs it has executed",
    )
    worker_memory_limit_mb: int | None = _setting(
        None,
        _whole(1),
        allowed="a whole number of megabytes, 1 or more",
        meaning="how much memory a worker process, and each that it starts, may take (Linux: "
        "RLIMIT_DATA, in MB); a run that wants more fails with `MemoryError`",
    )
    cancel_grace_s: float = _setting(
        5.0,
        _number(0, 86_400),
        allowed="a number of seconds from 0 to 86400",
        meaning="how many seconds a run in a process gets to end itself when it is cancelled or "
        "takes too long; after that it is killed, with all that it has started",
    )
    max_waiting: int = _setting(
        32,
        _whole(0, 256),
        allowed="a whole number from 0 to 256",
        meaning="how many requests may wait for runs, besides one for each of `workers`, and as "
        "many for a snapshot; the next is refused with 503",
    )
    max_queued: int = _setting(
        1_000,
        _whole(1),
        allowed="a whole number, 1 or more",
        meaning="how many runs may be queued; the next is refused with 503",
    )
    concurrency: Mapping[str, int] = _setting(
        dict,
        _by_pipeline(_whole(1)),
        allowed='a mapping of pipelines to whole numbers, such as {"train": 1}',
        meaning="how many runs of a pipeline execute at a time, for those that are named, over "
        "all servers of the project and environment together",
    )
    run_timeout_s: float | Mapping[str, float] | None = _setting(
        None,
        _seconds_or_by_pipeline,
        allowed="a number of seconds above 0, at most a year, or a mapping of pipelines to such "
        'numbers, such as {"train": 3600}',
        meaning="how many seconds a run may take, all of them or those of the pipelines that are "
        "named; a longer one fails with `RunTimeout`",
    )
    max_sync_wait_s: float | None = _setting(
        None,
        _number(0),
        allowed="a number of seconds from 0 to a year",
        meaning="how many seconds a request may wait for its run; after that it is answered with "
        "202 and the run, which goes on",
    )
    idempotency_hours: float = _setting(
        24.0,
        _number(0, 8_760),
        allowed="a number of hours from 0 to 8760",
        meaning="how many hours an `Idempotency-Key` counts",
    )
    state_dir: str | None = _setting(
        None,
        _folder,
        allowed="the path of a folder",
        meaning="the folder in which the server keeps its runs; None: `.kedro_server` in the "
        "project",
    )
    database_url: str | None = _setting(
        None,
        _text,
        allowed="postgresql://user:password@host:port/name, with several hosts as "
        "host:port,host:port, or sqlite:////folder/file",
        meaning="the database of the runs; None: SQLite, in `state_dir`",
        is_secret=True,
    )
    lease_s: float = _setting(
        60.0,
        _number(3, 86_400),
        allowed="a number of seconds from 3 to 86400",
        meaning="after how many seconds without a word a server is taken for dead by servers on "
        "other machines",
    )
    keep_runs: int = _setting(
        100_000,
        _whole(0),
        allowed="a whole number, 0 or more",
        meaning="how many runs that have ended are kept, those that ended last",
    )
    keep_days: float = _setting(
        90.0,
        _number(0, 36_500),
        allowed="a number of days from 0 to 36500",
        meaning="how many days a run is kept after its end",
    )
    max_log_bytes: int = _setting(
        1_048_576,
        _whole(0, 67_108_864),
        allowed="a whole number from 0 to 67108864",
        meaning="how many bytes of log are kept of a run, in UTF-8; what follows is cut",
    )
    max_streams: int = _setting(
        32,
        _whole(0, 128),
        allowed="a whole number from 0 to 128",
        meaning="how many clients may follow events or logs at a time, over Server-Sent Events; "
        "the next is refused with 503",
    )
    log_format: str = _setting(
        "auto",
        _one_of("auto", "rich", "plain", "json"),
        allowed="'auto', 'rich', 'plain' or 'json'",
        meaning="how log records are written that Kedro has rich draw: `auto` draws them on a "
        "terminal, and writes a plain line for each elsewhere; `json` writes JSON Lines",
    )
    drain_timeout_s: float = _setting(
        20.0,
        _number(0),
        allowed="a number of seconds from 0 to a year",
        meaning="how many seconds the runs under way get to end once the server is told to stop",
    )
    shutdown_delay_s: float = _setting(
        0.0,
        _number(0, 3_600),
        allowed="a number of seconds from 0 to 3600",
        meaning="how many seconds the server goes on to serve once it is told to stop, while "
        "`/health/ready` is 503 already (`kedro server start`)",
    )
    max_body_bytes: int = _setting(
        1_048_576,
        _whole(1),
        allowed="a whole number of bytes, 1 or more",
        meaning="the largest request body in bytes; a larger one is refused with 413",
    )
    receive_timeout_s: float = _setting(
        10.0,
        _number(0.1, 3_600),
        allowed="a number of seconds from 0.1 to 3600",
        meaning="within how many seconds a request must have come in whole, under "
        "`kedro server start`; a slower client is cut off",
    )
    send_timeout_s: float = _setting(
        60.0,
        _number(0.1, 3_600),
        allowed="a number of seconds from 0.1 to 3600",
        meaning="within how many seconds a client must take some of its answer, under "
        "`kedro server start`; one that does not is cut off",
    )
    max_buffered_bytes: int = _setting(
        67_108_864,
        _whole(1_048_576),
        allowed="a whole number of bytes, 1048576 or more",
        meaning="how many bytes of request bodies, and as many of answers that were not taken yet, "
        "the server holds at a time, over all connections (`kedro server start`)",
    )
    allow_anonymous: bool = _setting(
        False,
        _yes_or_no,
        allowed="true or false",
        meaning="whether whoever reaches the server may use it without saying who they are",
    )
    api_keys_file: str | None = _setting(
        None,
        _file,
        allowed="the path of a file",
        meaning="a YAML file with API keys, beside those of the database, read again when it "
        "changes",
    )
    public_endpoints: tuple[str, ...] = _setting(
        tuple,
        _list_of(_text),
        allowed='a list of names of Flask endpoints, such as ["my_blueprint.page"]',
        meaning="views that are open to all, beside `/health` and its probes",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        lambda: LOOPBACK_HOSTS,
        _list_of(_host),
        allowed='a list of host names, such as ["kedro.example.com", ".internal"]',
        meaning="the hosts that requests may name, with a port or for any port; `.internal` is "
        "all below that, and `*` any (default: `localhost`, `127.0.0.1` and `[::1]`)",
    )
    allowed_origins: tuple[str, ...] = _setting(
        tuple,
        _list_of(_origin),
        allowed='a list of origins, such as ["https://portal.example.com"]',
        meaning="the other sites whose pages may send requests (CORS)",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        tuple,
        _list_of(_proxy),
        allowed='a list of addresses and networks, such as ["10.0.0.0/8"], or "unix" for a '
        "Unix socket",
        meaning="the proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` count",
    )
    allow_param_interpolation: bool = _setting(
        False,
        _yes_or_no,
        allowed="true or false",
        meaning="whether `params` may hold `${…}` and `???`, which OmegaConf resolves: with a "
        "resolver such as `oc.env`, a caller reads the environment of the server",
    )
    expose_error_messages: bool = _setting(
        True,
        _yes_or_no,
        allowed="true or false",
        meaning="whether clients are told the messages, tracebacks and logs of runs that fail, "
        "and not the type of the error alone",
    )


def timeout_of(config: ServerConfig, pipelines: Iterable[str]) -> float | None:
    """Return how many seconds a run may take; None for any time.

    Args:
        config: The settings.
        pipelines: The pipelines of the run; where several have a limit, the shortest counts.
    """
    limit = config.run_timeout_s
    if isinstance(limit, Mapping):
        return min((limit[name] for name in pipelines if name in limit), default=None)
    return limit


def pipelines_named(config: ServerConfig) -> dict[str, frozenset[str]]:
    """Return the pipelines that settings name, by setting."""
    by_setting = {each.name: getattr(config, each.name) for each in settings()}
    return {
        name: frozenset(value) for name, value in by_setting.items() if isinstance(value, Mapping)
    }


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
    """Return the settings that have four ways to be set: all but the project's path."""
    return tuple(each for each in fields(ServerConfig) if each.name != "project_path")


def variables_of(setting: Field[Any]) -> tuple[str, ...]:
    """Return the environment variables of a setting, the one that counts most first."""
    return setting.metadata["variables"] or (_PREFIX + setting.name.upper(),)


def secret_variables() -> set[str]:
    """Return the environment variables that the processes of runs do not get."""
    secret = {
        name for each in settings() if each.metadata["is_secret"] for name in variables_of(each)
    }
    return secret | {_PREFIX + "API_KEY"}


def resolve_project_path(argument: str | Path | None, environ: Mapping[str, str]) -> Path:
    """Return the path of the project to serve.

    Args:
        argument: The path given to ``create_http_server``.
        environ: The environment, for ``KEDRO_PROJECT_PATH`` where there is no argument.

    Returns:
        An absolute path to a folder that exists.

    Raises:
        ServerSettingsError: If no path is given, or if it is not a folder.
    """
    given = argument if argument is not None else environ.get("KEDRO_PROJECT_PATH")
    if not given:
        raise ServerSettingsError(
            "No Kedro project is given: pass project_path, or set KEDRO_PROJECT_PATH to the "
            "folder that holds the project's pyproject.toml."
        )
    path = Path(os.path.expanduser(given)).resolve()  # noqa: PTH111  it takes any "~"
    if not path.is_dir():
        raise ServerSettingsError(
            f"The project path {str(given)!r} does not exist or is not a folder: project_path "
            "and KEDRO_PROJECT_PATH take the folder that holds the project's pyproject.toml."
        )
    return path


def load_config(
    project_path: Path,
    *,
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    project_settings: Mapping[str, object],
) -> ServerConfig:
    """Return the settings of a server from the four sources where they can be set.

    Args:
        project_path: The project that is served.
        arguments: Settings given in the program or on the command line; None is not given.
        environ: The process's environment.
        project_settings: ``SERVER`` of the project's settings.py.

    Returns:
        The settings, each parsed and checked.

    Raises:
        ServerSettingsError: If a name is unknown or a value is not allowed.
    """
    if not isinstance(project_settings, Mapping):
        raise ServerSettingsError(
            f"SERVER in settings.py cannot be {project_settings!r}: it takes a dictionary, such as "
            "{'workers': 2}."
        )
    _refuse_unknown(arguments, "an argument")
    _refuse_unknown(project_settings, "SERVER in settings.py")
    _refuse_unknown(_settings_in(environ), "an environment variable", prefix=_PREFIX)
    values: dict[str, Any] = {}
    for setting in settings():
        name = setting.name
        if arguments.get(name) is not None:
            values[name] = _parse(setting, arguments[name], name)
        elif variable := _set_variable(setting, environ):
            values[name] = _parse(setting, environ[variable], variable)
        elif project_settings.get(name) is not None:
            value = project_settings[name]
            if name in _PATHS and isinstance(value, str) and "://" not in value:
                value = project_path / value
            values[name] = _parse(setting, value, f"SERVER[{name!r}]")
    return ServerConfig(project_path=project_path, **values)


def _set_variable(setting: Field[Any], environ: Mapping[str, str]) -> str | None:
    for variable in variables_of(setting):
        value = environ.get(variable)
        if value and not _SERVICE_ADDRESS.match(value):
            return variable
    return None


def _settings_in(environ: Mapping[str, str]) -> list[str]:
    """Return the names, in lower case, of the environment's variables that name a setting."""
    given = (name.removeprefix(_PREFIX) for name in environ if name.startswith(_PREFIX))
    names = [name for name in given if name.lower() not in _CLIENT_SETTINGS]
    own = {setting.name for setting in settings()}
    return [
        name.lower() for name in names if name.lower() in own or not _SERVICE_LINK.fullmatch(name)
    ]


def _refuse_unknown(names: Mapping[str, object] | list[str], where: str, prefix: str = "") -> None:
    known = [setting.name for setting in settings()]
    for name in names:
        if name in known:
            continue
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        shown = prefix + name.upper() if prefix else str(name)
        raise ServerSettingsError(
            f"Unknown setting {shown!r}, given as {where}.{hint} "
            f"The settings are: {', '.join(known)}."
        )


def _parse(setting: Field[Any], value: object, where: str) -> Any:
    try:
        return setting.metadata["parse"](value)
    except (ValueError, OSError, RuntimeError) as error:  # the latter two: paths that cannot be
        shown = "what it is" if setting.metadata["is_secret"] else repr(value)
        raise ServerSettingsError(
            f"Setting {setting.name!r} cannot be {shown} (given by {where}): "
            f"it takes {setting.metadata['allowed']}."
        ) from error
