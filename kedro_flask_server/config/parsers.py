"""Parsers of settings: each refuses what is not allowed, and says what is.

A value comes as Python has it, or as text from an environment variable.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro_flask_server.model.queue import Pool
from kedro_flask_server.model.retry_rule import NEVER, RetryRule
from kedro_flask_server.model.served import RECORDS, RELOADS, ServedSettings

_SHORTEST_TIMEOUT_S = 0.001

# A year. Threads cannot wait for as long as a number can be.
_LONGEST_S = 31_536_000.0

_RULE_FIELDS = {"times", "delay_s", "errors"}
_MOST_RETRIES = 100

_HOST = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*(:\d{1,5})?|\[[0-9a-f:.]+\](:\d{1,5})?")
_ORIGIN = re.compile(r"https?://(" + _HOST.pattern + ")")


@dataclass(frozen=True, slots=True)
class Parser:
    """Parses a value.

    Attributes:
        parse: Returns the value; raises `ValueError` for one that is not allowed, `OSError` or
            `RuntimeError` for a path that cannot be looked at.
        allowed: What is allowed, for a person.
    """

    parse: Callable[[object], Any]
    allowed: str


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


def number(minimum: float, maximum: float = _LONGEST_S, *, unit: str = "seconds") -> Parser:
    """Return the parser of a number.

    Args:
        minimum: The least that is allowed.
        maximum: The most; a year by default.
        unit: The unit, for a person.
    """

    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value)
        if not minimum <= number <= maximum:  # NaN is neither
            raise ValueError
        return number

    most = "a year" if maximum == _LONGEST_S else f"{maximum:g}"
    return Parser(parse, f"a number of {unit} from {minimum:g} to {most}")


def whole(minimum: int, maximum: int | None = None, *, unit: str = "") -> Parser:
    """Return the parser of a whole number.

    Args:
        minimum: The least that is allowed.
        maximum: The most; None for any.
        unit: The unit, for a person.
    """

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError
        number = int(value)
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError
        return number

    what = f"a whole number of {unit}," if unit else "a whole number"
    if maximum is not None:
        return Parser(parse, f"{what} from {minimum} to {maximum}")
    return Parser(parse, f"{what.rstrip(',')}, {minimum} or more")


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


def by_pipeline(parser: Parser, *, allowed: str) -> Parser:
    """Return the parser of a mapping of pipelines to values; in a variable, as JSON."""

    def parse_all(value: object) -> dict[str, Any]:
        given = json.loads(value) if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise ValueError
        return {_text(name): parser.parse(each) for name, each in given.items()}

    return Parser(parse_all, allowed)


def _seconds_or_by_pipeline(value: object) -> float | dict[str, float]:
    seconds = number(_SHORTEST_TIMEOUT_S)
    is_json = isinstance(value, str) and value.lstrip().startswith("{")
    if is_json or isinstance(value, Mapping):
        seconds = by_pipeline(seconds, allowed="")
    parsed: float | dict[str, float] = seconds.parse(value)
    return parsed


def _pools(value: object) -> dict[str, Pool]:
    given = json.loads(value) if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise ValueError
    return {_text(name): _pool(each) for name, each in given.items()}


def _pool(value: object) -> Pool:
    if not isinstance(value, Mapping) or value.keys() != {"slots", "pipelines"}:
        raise ValueError
    slots = whole(1).parse(value["slots"])
    # A run that takes more than there are would never start.
    taken = by_pipeline(whole(1, slots), allowed="").parse(value["pipelines"])
    return Pool(slots=slots, pipelines=taken)


def _retries(value: object) -> dict[str, RetryRule]:
    given = json.loads(value) if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise ValueError
    return {_text(name): _retry_rule(each) for name, each in given.items()}


def _retry_rule(value: object) -> RetryRule:
    if not isinstance(value, Mapping) or not {"times"} <= value.keys() <= _RULE_FIELDS:
        raise ValueError
    parse_errors = list_of(text(""), allowed="").parse
    options: dict[str, Any] = {}
    if "delay_s" in value:
        options["delay_s"] = number(0).parse(value["delay_s"])
    if "errors" in value:
        options["errors"] = parse_errors(value["errors"])
        if not NEVER.isdisjoint(options["errors"]):
            raise ValueError
    return RetryRule(times=whole(1, _MOST_RETRIES).parse(value["times"]), **options)


def _served(value: object) -> dict[str, ServedSettings]:
    given = json.loads(value) if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise ValueError
    return {_text(name): _served_settings(each) for name, each in given.items()}


def _served_settings(value: object) -> ServedSettings:
    parsers = {
        "preload": list_of(text(""), allowed=""),
        "workers": whole(1, 64),
        "max_waiting": whole(0, 1_024),
        "record": one_of(*RECORDS),
        "reload": one_of(*RELOADS),
        "poll_s": number(0.1, 86_400),
        "check": YES_OR_NO,
    }
    if not isinstance(value, Mapping) or not value.keys() <= parsers.keys():
        raise ValueError
    return ServedSettings(**{name: parsers[name].parse(each) for name, each in value.items()})


def _yes_or_no(value: object) -> bool:
    """Return a truth value; in a variable, in the words that Kedro's server takes in JSON."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError
    return words[value.lower()]


def list_of(parser: Parser, *, allowed: str) -> Parser:
    """Return the parser of a list of values; in a variable, as JSON."""

    def parse_all(value: object) -> tuple[str, ...]:
        given = json.loads(value) if isinstance(value, str) else value
        if not isinstance(given, (list, tuple)):
            raise ValueError
        return tuple(map(parser.parse, given))

    return Parser(parse_all, allowed)


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


def _link(value: object) -> str:
    address = _text(value)
    if not re.fullmatch(r"https?://[!-~]+", address):
        raise ValueError
    return address


def _proxy(value: object) -> str:
    proxy = _text(value)
    if proxy != "unix":
        ipaddress.ip_network(proxy)
    return proxy


def one_of(*words: str, allowed: str = "") -> Parser:
    """Return the parser of one of some words.

    Args:
        words: The words.
        allowed: What is allowed, for a person; by default the words.
    """

    def parse(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    *others, last = map(repr, words)
    return Parser(parse, allowed or " or ".join(filter(None, (", ".join(others), last))))


def text(allowed: str) -> Parser:
    """Return the parser of a text that is not empty."""
    return Parser(_text, allowed)


POOLS = Parser(
    _pools,
    "a mapping of names to pools, such as "
    '{"gpu": {"slots": 2, "pipelines": {"train": 1}}}, where no pipeline takes more slots than '
    "there are",
)
RETRIES = Parser(
    _retries,
    "a mapping of pipelines to rules, such as "
    '{"training": {"times": 2, "delay_s": 60, "errors": ["DatasetError"]}}, where RunCancelled and '
    "InvalidInput are no errors",
)
SERVED = Parser(
    _served,
    "a mapping of pipelines to mappings, such as "
    '{"inference": {"preload": ["model"], "workers": 2, "record": "failures"}}, of which each may '
    "have preload, workers (1 to 64), max_waiting, record (all, failures or none), reload (auto or "
    "manual), poll_s and check",
)
SOURCE = Parser(_source, "a folder or archive that exists, or a URL")
FOLDER = Parser(_folder, "the path of a folder")
FILE = Parser(_file, "the path of a file")
YES_OR_NO = Parser(_yes_or_no, "true or false")
HOST = Parser(_host, "a host name")
ORIGIN = Parser(_origin, "an origin")
LINK = Parser(_link, "an address such as https://viz.example.com")
PROXY = Parser(_proxy, "an address or network")
TIMEOUT = Parser(
    _seconds_or_by_pipeline,
    "a number of seconds above 0, at most a year, or a mapping of pipelines to such "
    'numbers, such as {"train": 3600}',
)
