"""Each shortcut leads where Kedro's own way leads."""

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

import kedro.framework.context.context
import kedro.io.catalog_config_resolver
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

from kedro_flask_server.project import shortcuts

PLACES = (
    (kedro.io.core, "_load_obj"),
    (kedro.io.core, "getcallargs"),
    (kedro.framework.context.context, "_is_relative_path"),
    (sys.modules[Pipeline.__module__], "_strip_transcoding"),
    (kedro.io.catalog_config_resolver, "parse"),
    (kedro.io.memory_dataset, "_infer_copy_mode"),
    (TypeExtractor, "_extract_types_from_node"),
    (Pipeline, "inputs"),
    (Pipeline, "outputs"),
)


@pytest.fixture
def _kedros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Kedro's own functions in their places, and put back what was there."""
    for module, name in PLACES:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, getattr(function, "__wrapped__", function))


@pytest.mark.usefixtures("_kedros")
def test_names_relied_on_are_there_and_called() -> None:
    source = inspect.getsource(kedro.io.core)
    assert list(inspect.signature(kedro.io.core._load_obj).parameters) == ["class_path"]
    assert kedro.io.core.getcallargs is inspect.getcallargs
    assert "getcallargs(init_func, self, *args, **kwargs)" in source
    context = kedro.framework.context.context
    assert [*inspect.signature(context._is_relative_path).parameters] == ["path_string"]
    assert "_is_relative_path(conf_value)" in inspect.getsource(context)
    pipeline = inspect.getsource(sys.modules[Pipeline.__module__])
    assert "_strip_transcoding(ds)" in pipeline
    patterns = inspect.getsource(kedro.io.catalog_config_resolver)
    assert kedro.io.catalog_config_resolver.parse is parse.parse
    assert patterns.count("parse(") == patterns.count("parse(pattern, ds_name)")
    assert "_load_obj(" in source.replace("def _load_obj(", "")
    infer = inspect.signature(kedro.io.memory_dataset._infer_copy_mode)
    assert list(infer.parameters) == ["data"]
    assert list(inspect.signature(TypeExtractor._extract_types_from_node).parameters) == [
        "self",
        "node",
    ]
    assert "._extract_types_from_node(" in inspect.getsource(TypeExtractor)


@pytest.mark.usefixtures("_kedros")
def test_shortcuts_are_taken_once() -> None:
    shortcuts.take_shortcuts()
    taken = [getattr(module, name) for module, name in PLACES]
    assert all(hasattr(each, "__wrapped__") for each in taken)
    shortcuts.take_shortcuts()
    assert [getattr(module, name) for module, name in PLACES] == taken


@pytest.mark.usefixtures("_kedros")
def test_dataset_is_made_and_described_as_before() -> None:
    config = {"type": "MemoryDataset", "data": 1, "metadata": {"a": 1}}
    before = kedro.io.core.AbstractDataset.from_config("a", dict(config))
    shortcuts.take_shortcuts()
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
    bind = shortcuts._knowing_signatures(inspect.getcallargs)
    for _ in range(2):
        found = bind(owner.__init__, owner, *args, **kwargs)  # type: ignore[misc]
        expected = inspect.getcallargs(owner.__init__, owner, *args, **kwargs)  # type: ignore[misc]
        assert found == expected


def test_argument_may_have_any_name() -> None:
    bind = shortcuts._knowing_signatures(inspect.getcallargs)
    assert bind(Wide.__init__, None, function=1)["kwargs"] == {"function": 1}


def test_arguments_that_do_not_fit_are_refused() -> None:
    bind = shortcuts._knowing_signatures(inspect.getcallargs)
    for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"path": 2}), ((1,), {"x": 2})):
        with pytest.raises(TypeError):
            bind(Plain.__init__, None, *args, **kwargs)


def test_signature_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    signature = inspect.signature
    monkeypatch.setattr(
        inspect, "signature", lambda *args, **kwargs: looks.append(1) or signature(*args, **kwargs)
    )
    bind = shortcuts._knowing_signatures(inspect.getcallargs)
    for _ in range(3):
        bind(Plain.__init__, None, "p")
    assert len(looks) == 1


# Classes


def test_class_is_looked_for_once_and_so_is_what_is_not_installed() -> None:
    asked: list[str] = []

    def load(path: str) -> Any:
        asked.append(path)
        return (MemoryDataset, None) if path == "own.There" else (None, f"no {path}")

    find = shortcuts._finding_again(load)
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
    find = shortcuts._finding_again(getattr(function, "__wrapped__", function))
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

    find = shortcuts._finding_again(fail)
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
    kedros = getattr(function, "__wrapped__", function)
    assert shortcuts._knowing_builtins(kedros)(data) == kedros(data)


def test_nothing_is_imported_for_what_is_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    function = kedro.io.memory_dataset._infer_copy_mode
    infer = shortcuts._knowing_builtins(getattr(function, "__wrapped__", function))

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


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("inputs", [["params:x", "params:y"], {"x": "params:x", "y": "params:y"}])
def test_types_of_parameters_are_those_that_kedro_finds(
    function: Callable[..., Any], inputs: Any
) -> None:
    extract = TypeExtractor._extract_types_from_node
    kedros = getattr(extract, "__wrapped__", extract)
    try:
        made = node(function, inputs, "z", name="n")
    except Exception:
        pytest.skip("no node is made of it")
    extractor = TypeExtractor({})
    found = shortcuts._knowing_untyped(kedros)(extractor, made)
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
    find = shortcuts._knowing_patterns(parse.parse)
    expected = parse.parse(pattern, text)
    for found in (find(pattern, text), find(pattern, text)):
        assert (found is None) == (expected is None)
        assert found is None or (found.named, found.fixed) == (expected.named, expected.fixed)
    assert find(pattern, text) is None or find(pattern, text) is not find(pattern, text)


def test_path_and_name_come_to_the_same() -> None:
    shortcuts.take_shortcuts()
    context = kedro.framework.context.context
    for path in ("data/a.csv", "/tmp/a.csv", "C:\\a.csv", "s3://a/b", "", "c:/a"):
        own = context._is_relative_path.__wrapped__
        found = [context._is_relative_path(path) for _ in range(2)]
        assert found == [own(path), own(path)]
    strip = sys.modules[Pipeline.__module__]._strip_transcoding  # type: ignore[attr-defined]
    assert [strip("a@b"), strip("a@b"), strip("a")] == ["a", "a", "a"]
    with pytest.raises(ValueError, match="transcoding"):
        strip("a@b@c")


class CountingPipeline(Pipeline):
    """Counts how often it is looked through."""

    looks = 0

    def all_inputs(self) -> set[str]:
        type(self).looks += 1
        return super().all_inputs()


@pytest.mark.usefixtures("_kedros")
def test_pipeline_is_looked_through_once_for_what_goes_in_and_out() -> None:
    chain = [node(lambda x: x, f"d{i}", f"d{i + 1}", name=f"n{i}") for i in range(50)]
    expected = Pipeline(chain)
    inputs, outputs = expected.inputs(), expected.outputs()
    shortcuts.take_shortcuts()
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
