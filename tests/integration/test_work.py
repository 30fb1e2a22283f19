"""What a run costs, counted instead of timed: what is read, parsed, stored, logged and imported."""

from __future__ import annotations

import json

import pytest

from tests.servers import PROJECTS, copy_project
from tests.test_app import python

pytestmark = pytest.mark.once

RUNS = 10

# The housekeeper looks for ended runs four times a second, and may wake who waits for one that ends
# in just that moment: it reads the store once more then.
MOST_RUNS = 8

COUNTING = """
import json, logging, sys, threading
from collections import Counter
from omegaconf import OmegaConf, grammar_parser

counts, formatted, records = Counter(), Counter(), []

def count(owner, name, label=lambda *args: ""):
    function = getattr(owner, name)
    def counting(*args, **options):
        counts[f"{name} {label(*args)}".strip()] += 1
        return function(*args, **options)
    setattr(owner, name, counting)

count(grammar_parser, "parse")  # before others know it by another name
count(OmegaConf, "load")

from rich.logging import RichHandler
from sqlalchemy import event
from sqlalchemy.engine import Engine
from kedro_flask_server import create_http_server
from kedro_flask_server.project.configuration import files, yaml_cache

count(files, "bytes_in", lambda path: path.rpartition("/conf/")[2])
count(RichHandler, "render")

def note_format(record):
    formatted[id(record)] += 1
    records.append(record)  # so that no other gets its id
    return ""

count(logging.Formatter, "format", lambda formatter, record: note_format(record))

def count_statement(statement):
    thread = threading.current_thread().name
    if thread in ("kedro-recorder", "kedro-housekeeper"):  # they work from time to time
        return
    counts["transactions that write"] += statement == "BEGIN IMMEDIATE"
    if thread != "kedro-dispatcher":  # looks for runs of others, from time to time
        counts["statements"] += 1
    if statement == "COMMIT" and thread.startswith("kedro-run"):
        counts["commits of who runs"] += 1
    elif statement == "COMMIT" and not thread.startswith("kedro-"):
        counts["commits of who asks"] += 1

@event.listens_for(Engine, "connect")
def trace(connection, _):
    connection.set_trace_callback(count_statement)

app = create_http_server("probe", executor="threads", allow_anonymous=True, workers=1)
client = app.test_client()

def work_of(tag):
    counts.clear()
    formatted.clear()
    modules, texts = set(sys.modules), yaml_cache.parsed.cache_info().misses
    body = {"pipeline_names": ["one"], "params": {"tag": tag}}
    assert client.post("/run", json=body).json["status"] == "success"
    for handler in [reference() for reference in logging._handlerList]:
        handler.flush()  # what is logged may be written later
    return {
        **+counts,
        "texts parsed": yaml_cache.parsed.cache_info().misses - texts,
        "modules imported": sorted(set(sys.modules) - modules),
        "most often a record is formatted": max(formatted.values(), default=0),
    }

at_start = {**counts, "texts parsed": yaml_cache.parsed.cache_info().misses}
work = [work_of(f"tag-{number}") for number in range(%d)]
for what, count in at_start.items():  # what the first run needs may be there already
    work[0][what] = work[0].get(what, 0) + count
app.extensions["kedro_flask_server"].runs.drain(5)
print(json.dumps(work))
"""

WARM_UP = 5

FILES = ["base/catalog.yml", "base/credentials.yml", "base/globals.yml", "base/parameters.yml"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Return what each of some runs has cost, the first ones included."""
    project = copy_project(PROJECTS / "probe", tmp_path_factory.mktemp("work"))
    told: list[dict[str, object]] = json.loads(python(COUNTING % (WARM_UP + RUNS), project.parent))
    return told


def costs(work: list[dict[str, object]], what: str) -> list[object]:
    """Return what the runs after the first ones have cost."""
    return [each.get(what, 0) for each in work[WARM_UP:]]


def changed(work: list[dict[str, object]], what: str) -> str:
    return f"{what!r} of each run is {costs(work, what)}; all of the last: {work[-1]}"


def test_what_is_counted_is_done_at_all(work: list[dict[str, object]]) -> None:
    for what in ("parse", "load", "texts parsed", "modules imported", "statements", "format"):
        assert work[0].get(what), f"{what!r} is not counted any more: it is found elsewhere"


@pytest.mark.parametrize("what", ["texts parsed", "load", "parse", "render"])
def test_run_parses_nothing_again_and_draws_nothing(
    work: list[dict[str, object]], what: str
) -> None:
    assert costs(work, what) == [0] * RUNS, changed(work, what)


def test_run_imports_nothing(work: list[dict[str, object]]) -> None:
    assert costs(work, "modules imported") == [[]] * RUNS, changed(work, "modules imported")


def test_run_reads_each_file_of_the_configuration_once(work: list[dict[str, object]]) -> None:
    for each in work[WARM_UP:]:
        read = {name: count for name, count in each.items() if name.startswith("bytes_in")}
        assert read == {f"bytes_in {name}": 1 for name in FILES}


def test_run_is_stored_in_two_transactions_of_few_statements(work: list[dict[str, object]]) -> None:
    for what in ("commits of who asks", "commits of who runs"):
        assert costs(work, what).count(1) >= MOST_RUNS, changed(work, what)
    what = "transactions that write"
    assert costs(work, what).count(2) >= MOST_RUNS, changed(work, what)
    fewest = sorted(costs(work, "statements"))[:MOST_RUNS]  # type: ignore[type-var]
    # One of them stores the small object that the run has made.
    assert fewest[-1] <= 16, changed(work, "statements")  # type: ignore[operator]


def test_run_formats_each_record_once(work: list[dict[str, object]]) -> None:
    what = "most often a record is formatted"
    assert costs(work, what) == [1] * RUNS, changed(work, what)
    assert max(costs(work, "format")) <= 15, changed(work, "format")  # type: ignore[type-var]
