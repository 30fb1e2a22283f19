"""Each look-up finds what Kedro's own finds."""

from __future__ import annotations

import builtins
import dataclasses
import functools
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import kedro.io.core
import kedro.io.memory_dataset
import numpy as np
import pandas as pd
import parse
import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner
from kedro.validation.type_extractor import TypeExtractor

from kedro_flask_server.project import kedro_patches
from kedro_flask_server.project.kedro_patches import ORIGINAL
from kedro_flask_server.project.lookups import (
    copy_mode_without_imports,
    guarded_class_lookup,
    memoized_patterns,
    memoized_signatures,
    types_of_annotated,
)


@pytest.mark.usefixtures("unpatched")
def test_dataset_is_made_and_described_as_before() -> None:
    config = {"type": "MemoryDataset", "data": 1, "metadata": {"a": 1}}
    before = kedro.io.core.AbstractDataset.from_config("a", dict(config))
    kedro_patches.apply()
    after = kedro.io.core.AbstractDataset.from_config("a", dict(config))
    assert after._init_args == before._init_args
    assert after.load() == 1


# Signatures


class Plain:
    def __init__(self, path: str, mode: str = "r", *, version: int | None = None) -> None: ...


class Inheriting(Plain):
    pass


class Wide:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


class Mixed:
    def __init__(self, a: int, /, b: int = 2, *more: int, c: int = 3, **others: Any) -> None: ...


class Wrapping:
    @functools.wraps(Plain.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


class Bare:
    pass


class Many:
    def __init__(*args: Any, **kwargs: Any) -> None: ...


CALLS: list[tuple[type, tuple[Any, ...], dict[str, Any]]] = [
    (Plain, ("p",), {}),
    (Plain, (), {"path": "p", "version": 1}),
    (Inheriting, ("p", "w"), {"version": None}),
    (Wide, (), {}),
    (Wide, (1, 2), {"a": 1, "args": 2, "bind": 3}),
    (Mixed, (1,), {}),
    (Mixed, (1, 2, 3, 4), {"c": 5, "d": 6}),
    (Wrapping, ("p",), {"mode": "w"}),
    (Bare, (), {}),
    (Many, (), {}),
]


@pytest.mark.parametrize(("owner", "args", "kwargs"), CALLS)
def test_arguments_get_the_names_that_getcallargs_gives(
    owner: type, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    bind = memoized_signatures(inspect.getcallargs)
    for _ in range(2):
        found = bind(owner.__init__, owner, *args, **kwargs)  # type: ignore[misc]
        expected = inspect.getcallargs(owner.__init__, owner, *args, **kwargs)  # type: ignore[misc]
        assert found == expected


def test_argument_may_have_any_name() -> None:
    bind = memoized_signatures(inspect.getcallargs)
    assert bind(Wide.__init__, None, function=1)["kwargs"] == {"function": 1}


def test_arguments_that_do_not_fit_are_refused() -> None:
    bind = memoized_signatures(inspect.getcallargs)
    for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"path": 2}), ((1,), {"x": 2})):
        with pytest.raises(TypeError):
            bind(Plain.__init__, None, *args, **kwargs)


def test_signature_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    signature = inspect.signature
    monkeypatch.setattr(
        inspect, "signature", lambda *args, **kwargs: looks.append(1) or signature(*args, **kwargs)
    )
    bind = memoized_signatures(inspect.getcallargs)
    for _ in range(3):
        bind(Plain.__init__, None, "p")
    assert len(looks) == 1


# Classes


def test_class_is_looked_for_once_and_so_is_what_is_not_installed() -> None:
    asked: list[str] = []

    def load(path: str) -> Any:
        asked.append(path)
        return (MemoryDataset, None) if path == "own.There" else (None, f"no {path}")

    find = guarded_class_lookup(load)
    for path in ("own.There", "kedro.io.Gone", "kedro_datasets.x.Gone"):
        assert [find(path) for _ in range(3)] == [load(path)] * 3
        assert asked == [path] * 2
        asked.clear()
    for _ in range(2):  # a module of the project's may come
        assert find("own.Gone") == (None, "no own.Gone")
    assert len(asked) == 2


def test_class_of_a_module_that_comes_later_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = kedro.io.core._load_obj
    find = guarded_class_lookup(getattr(function, ORIGINAL, function))
    assert find("comes_later.Some")[0] is None
    module = ModuleType("comes_later")
    module.Some = MemoryDataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comes_later", module)
    assert find("comes_later.Some")[0] is MemoryDataset


def test_failure_to_load_a_class_is_not_kept() -> None:
    asked: list[str] = []

    def fail(path: str) -> Any:
        asked.append(path)
        raise DatasetError(path)

    find = guarded_class_lookup(fail)
    for _ in range(2):
        with pytest.raises(DatasetError):
            find("kedro_datasets.x.Y")
    assert len(asked) == 2


# Copy modes


class DataFrame:
    """Of a library that Kedro does not know."""


class Words(str):
    __slots__ = ()


DATA = [1, 1.5, "x", b"x", None, True, [1], (1,), {"a": 1}, {1}, object(), int, len, range(3)]
DATA += [pd.DataFrame({"a": [1]}), pd.Series([1]), np.array([1]), np.float64(1), DataFrame()]
DATA += [type("Frame", (pd.DataFrame,), {})(), OrderedDict(), Words("x"), ValueError("x")]


@pytest.mark.parametrize("data", DATA, ids=lambda data: type(data).__name__)
def test_data_is_copied_as_before(data: Any) -> None:
    function = kedro.io.memory_dataset._infer_copy_mode
    kedros = getattr(function, ORIGINAL, function)
    assert copy_mode_without_imports(kedros)(data) == kedros(data)


def test_nothing_is_imported_for_what_is_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    function = kedro.io.memory_dataset._infer_copy_mode
    infer = copy_mode_without_imports(getattr(function, ORIGINAL, function))

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(builtins, "__import__", refuse)
    modes = [infer(data) for data in (1, "x", {}, None)]
    monkeypatch.undo()
    assert modes == ["deepcopy"] * 4


# Types of parameters


@dataclasses.dataclass
class Options:
    a: int = 1


def untyped(x, y): ...  # type: ignore[no-untyped-def]
def typed(x: Options, y: int) -> None: ...
def half_typed(x, y: Options | None = None): ...  # type: ignore[no-untyped-def]
def returning(x, y) -> int: ...  # type: ignore[no-untyped-def, empty-body]


@functools.wraps(typed)
def wrapping(*args, **kwargs): ...  # type: ignore[no-untyped-def]


@functools.wraps(typed, assigned=())
def wrapping_in_part(*args, **kwargs): ...  # type: ignore[no-untyped-def]


class Callee:
    def __call__(self, x: Options, y: int) -> None: ...

    def method(self, x: Options, y: int) -> None: ...


FUNCTIONS: list[Callable[..., Any]] = [untyped, typed, half_typed, returning, wrapping]
FUNCTIONS += [wrapping_in_part, Callee(), Callee().method, functools.partial(typed), max]
FUNCTIONS += [functools.partial(untyped), lambda x, y: x]
INPUTS = [["params:x", "params:y"], {"x": "params:x", "y": "params:y"}]

# A function of C has parameters without names.
CASES = [
    (each, inputs) for each in FUNCTIONS for inputs in INPUTS if (each, inputs) != (max, INPUTS[1])
]


@pytest.mark.parametrize(("function", "inputs"), CASES)
def test_types_of_parameters_are_those_that_kedro_finds(
    function: Callable[..., Any], inputs: Any
) -> None:
    extract = TypeExtractor._extract_types_from_node
    kedros = getattr(extract, ORIGINAL, extract)
    made = node(function, inputs, "z", name="n")
    extractor = TypeExtractor({})
    found = types_of_annotated(kedros)(extractor, made)
    assert found == kedros(extractor, made)


# Patterns


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("{name}#csv", "cars#csv"),
        ("{name}#csv", "cars"),
        ("{space}.{name:d}", "a.12"),
        ("{name}", ""),
        ("a{name}{name}", "abb"),
    ],
)
def test_pattern_finds_the_same_each_time(pattern: str, text: str) -> None:
    find = memoized_patterns(parse.parse)
    expected = parse.parse(pattern, text)
    for found in (find(pattern, text), find(pattern, text)):
        assert (found is None) == (expected is None)
        assert found is None or (found.named, found.fixed) == (expected.named, expected.fixed)
    assert find(pattern, text) is None or find(pattern, text) is not find(pattern, text)


class CountingPipeline(Pipeline):
    """Counts how often it is looked through."""

    looks = 0

    def all_inputs(self) -> set[str]:
        type(self).looks += 1
        return super().all_inputs()


@pytest.mark.usefixtures("unpatched")
def test_pipeline_is_looked_through_once_for_what_goes_in_and_out() -> None:
    chain = [node(lambda x: x, f"d{i}", f"d{i + 1}", name=f"n{i}") for i in range(50)]
    expected = Pipeline(chain)
    inputs, outputs = expected.inputs(), expected.outputs()
    kedro_patches.apply()
    pipeline = CountingPipeline(chain)
    catalog = DataCatalog({"d0": MemoryDataset(1)})
    CountingPipeline.looks = 0
    SequentialRunner().run(pipeline, catalog)
    assert CountingPipeline.looks < 10  # not once for each node
    assert (pipeline.inputs(), pipeline.outputs()) == (inputs, outputs)
    pipeline.inputs().add("of the caller's copy")
    assert pipeline.inputs() == inputs
    assert (pipeline.to_nodes("n3").outputs(), pipeline.only_nodes("n7").inputs()) == (
        {"d4"},
        {"d7"},
    )
