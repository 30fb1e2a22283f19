from __future__ import annotations

import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from kedro_flask_server.workers.exit_functions import _cleans_up
from kedro_flask_server.workers.program_end import _outermost_first


class Holder:
    """Refers to something, and has something to do at its end."""

    def __init__(self, held: object = None) -> None:
        self.held = held

    def __del__(self) -> None: ...


def test_what_refers_to_others_comes_first_whenever_it_was_made() -> None:
    inner = Holder()
    outer = Holder([{"key": inner}])
    late_inner, other = Holder(), Holder()
    early_outer = Holder()
    early_outer.held = (late_inner,)
    made = [inner, late_inner, outer, early_outer, other]
    known = {*map(id, made), *(id(each.held) for each in made)}
    known |= {id(vars(each)) for each in made}  # which Python 3.10 looks into like any other
    assert isinstance(outer.held, list)
    known.add(id(outer.held[0]))
    order = _outermost_first(made, known)
    assert {*map(id, order)} == {*map(id, made)}
    assert order.index(outer) < order.index(inner)
    assert order.index(early_outer) < order.index(late_inner)


def test_objects_that_refer_to_each_other_are_all_there_once() -> None:
    one, two = Holder(), Holder()
    one.held, two.held = two, one
    assert {*map(id, _outermost_first([one, two], {id(one), id(two)}))} == {id(one), id(two)}


def _removes() -> None:
    shutil.rmtree("x")


def _writes() -> None:
    Path("x").write_text("x")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (shutil.rmtree, True),
        (Path("x").unlink, True),
        (_removes, True),
        (_writes, False),
        (print, False),
        (types.SimpleNamespace(), False),
    ],
)
def test_what_cleans_up_is_told_by_what_it_calls(
    function: Callable[..., object], expected: bool
) -> None:
    assert _cleans_up(function) is expected


# As a template and a worker do, in a process whose own exit is looked at.
_TEMPLATE = """
import atexit, os, shutil, sys
from kedro_flask_server.workers.exit_functions import ExitFunctions
ExitFunctions.record()
atexit.register(print, "of the run", flush=True)
atexit.register(print, "later", flush=True)
@atexit.register
def cleanup(rmtree=shutil.rmtree):
    shutil.rmtree("nothing", ignore_errors=True)
    print("cleans up", flush=True)
def other():
    print("no more", flush=True)
atexit.register(other)
atexit.unregister(other)
ExitFunctions.leave_to_workers()
pid = os.fork()
if pid == 0:
    ExitFunctions.take_from_template()
    print("worker:", flush=True)
    atexit._run_exitfuncs()
    os._exit(0)
os.waitpid(pid, 0)
print("template:", flush=True)
"""


def test_exit_functions_of_imports_are_called_by_workers_or_the_template() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TEMPLATE], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        *("worker:", "later", "of the run"),
        *("template:", "cleans up"),
    ]
