"""Kedro's privates and arguments that the isolation relies on are where it looks for them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from omegaconf.errors import InterpolationResolutionError

from kedro_flask_server.project.configuration.isolated_loader import _GUARD, isolated

pytestmark = pytest.mark.usefixtures("parsing")


class Pickle(AbstractConfigLoader):
    """Takes a dataset's type from runtime parameters, as no loader of Kedro's does."""

    def __init__(
        self,
        conf_source: str,
        env: str | None = None,
        runtime_params: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(conf_source, env, runtime_params)

    def __getitem__(self, key: str) -> Any:
        kinds = {"p": "pickle.PickleDataset"}
        return {
            "fixed": {"type": "json.JSONDataset", "filepath": self.runtime_params.get("path")},
            "nested": {"wrapped": [{"type": kinds.get(self.runtime_params.get("kind"), "json")}]},
        }


def load(params: dict[str, Any], *, guarded: bool = True) -> Any:
    loader = isolated(Pickle)("conf", runtime_params=params, **({_GUARD: True} if guarded else {}))
    return loader["catalog"]


def test_loader_without_a_guard_gets_one() -> None:
    assert load({"path": "a.json", "n": 1, "list": ["a", True, 1.5, None]})["fixed"]
    assert load({})["nested"]
    with pytest.raises(InterpolationResolutionError, match="nested"):
        load({"kind": "p"})
    assert load({"kind": "p"}, guarded=False)["nested"]


def test_isolated_class_is_a_subclass_made_once() -> None:
    made = isolated(OmegaConfigLoader)
    assert issubclass(made, OmegaConfigLoader)
    assert isolated(made) is made
    assert made.__name__ == "OmegaConfigLoader"


def test_guard_holds_for_a_class_that_does_not_know_its_argument(tmp_path: Path) -> None:
    class Old(OmegaConfigLoader):
        def __init__(
            self, conf_source: str, env: Any = None, runtime_params: Any = None, *, base_env: str
        ) -> None:
            super().__init__(conf_source, env, runtime_params, base_env=base_env)

    base = tmp_path / "base"
    base.mkdir()
    (base / "catalog.yml").write_text("a: {type: '${runtime_params:kind, json.JSONDataset}'}\n")
    arguments = {"env": "base", "base_env": "base", _GUARD: True}
    assert isolated(Old)(str(tmp_path), runtime_params={}, **arguments)["catalog"]
    with pytest.raises(InterpolationResolutionError, match="not permitted"):
        _ = isolated(Old)(str(tmp_path), runtime_params={"kind": "pickle"}, **arguments)["catalog"]


class Caching(OmegaConfigLoader):
    """Asks for the catalog while it is being made, and keeps it."""

    def __init__(
        self, conf_source: str, env: Any = None, runtime_params: Any = None, *, base_env: str
    ) -> None:
        super().__init__(conf_source, env, runtime_params, base_env=base_env)
        self["catalog"] = self["catalog"]


class Passing(Caching):
    """Passes on whatever it is given to a class that does not take it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Resolving(OmegaConfigLoader):
    """Resolves without Kedro's guard."""

    def _merge_and_resolve(self, key: str, config_per_file: Any) -> Any:
        return super()._merge_and_resolve(key if key == "parameters" else "other", config_per_file)


CHOSEN = {
    "directly": "a: {type: '${runtime_params:kind, json.JSONDataset}'}",
    "through another key": "_k: '${runtime_params:kind, json.JSONDataset}'\na: {type: '${_k}'}",
    "in a list": "a: {type: x, inner: [{type: '${runtime_params:kind, json.JSONDataset}'}]}",
    "where it is required": "a: {type: '${runtime_params:kind}'}",
}


@pytest.mark.parametrize("loader_class", [OmegaConfigLoader, Caching, Passing, Resolving])
@pytest.mark.parametrize("catalog", CHOSEN.values(), ids=CHOSEN)
def test_no_loader_lets_a_type_be_chosen(
    tmp_path: Path, loader_class: type[AbstractConfigLoader], catalog: str
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "catalog.yml").write_text(catalog)
    arguments = {"env": "base", "base_env": "base", _GUARD: True}
    with pytest.raises(InterpolationResolutionError):
        _ = isolated(loader_class)(
            str(tmp_path), runtime_params={"kind": "pickle.PickleDataset"}, **arguments
        )["catalog"]


@pytest.mark.parametrize("loader_class", [OmegaConfigLoader, Caching, Passing, Resolving])
def test_every_loader_takes_parameters_elsewhere(
    tmp_path: Path, loader_class: type[AbstractConfigLoader]
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "catalog.yml").write_text("a: {type: x, filepath: '${runtime_params:path}'}")
    arguments = {"env": "base", "base_env": "base", _GUARD: True}
    loader = isolated(loader_class)(
        str(tmp_path), runtime_params={"path": "p", "n": 1, "l": ["a", True, None]}, **arguments
    )
    assert loader["catalog"] == {"a": {"type": "x", "filepath": "p"}}


@pytest.mark.parametrize(
    ("base", "local"),
    [
        ("a: {type: json.JSONDataset, filepath: '${runtime_params:path}'}", ""),
        ("a: {type: '${_t}', filepath: x}\n_t: json.JSONDataset", ""),
        ("a: {type: json.JSONDataset, filepath: x}", "a: ${_a}\n_a: {type: pickle.Pickle}"),
        ("a: {type: json.JSONDataset}", "a: {type: pickle.PickleDataset}"),
        ("a: {dataset: {type: json.JSONDataset, path: '${globals:p}'}}", ""),
        ("a: {dataset: '${_d}'}\n_d: {type: json.JSONDataset}", ""),
    ],
)
def test_catalog_whose_types_are_the_files_is_loaded_once(
    tmp_path: Path, base: str, local: str
) -> None:
    for env, text in (("base", base), ("local", local)):
        (tmp_path / env).mkdir()
        (tmp_path / env / "catalog.yml").write_text(text)
    (tmp_path / "base/globals.yml").write_text("p: x")
    made = []

    class Counted(isolated(OmegaConfigLoader)):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(self)
            super().__init__(*args, **kwargs)

    loader = Counted(
        str(tmp_path),
        base_env="base",
        default_run_env="local",
        runtime_params={"path": "x"},
        **{_GUARD: True},
    )
    assert loader["catalog"]["a"]
    assert len(made) == 1


def test_type_that_a_parameter_chooses_is_refused_wherever_it_comes_from(tmp_path: Path) -> None:
    texts = (
        "a: {type: '${runtime_params:t}'}",
        "a: ${_a.${runtime_params:t}}\n_a: {p: {type: p.P}, j: {type: j.J}}",
        "a: {wrapped: ['${_a.${runtime_params:t}}']}\n_a: {p: {type: p.P}, j: {type: j.J}}",
    )
    for number, text in enumerate(texts):
        base = tmp_path / str(number) / "base"
        base.mkdir(parents=True)
        (base / "catalog.yml").write_text(text)
        loader = isolated(OmegaConfigLoader)(
            str(base.parent),
            base_env="base",
            default_run_env="base",
            runtime_params={"t": "p"},
            **{_GUARD: True},
        )
        with pytest.raises(InterpolationResolutionError, match="must not select"):
            loader["catalog"]


class Documented(OmegaConfigLoader):
    """Has a public method of its own."""

    def describe(self) -> Any:
        """Return what the folder of an environment holds."""
        conf_path = f"{self.conf_source}/base"
        return self.load_and_merge_dir_config(conf_path, ["parameters*"], "parameters", set())


@pytest.mark.parametrize("loader_class", [OmegaConfigLoader, Documented])
def test_loader_can_be_copied_pickled_and_asked(
    tmp_path: Path, loader_class: type[AbstractConfigLoader]
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "globals.yml").write_text("g: one")
    (base / "parameters.yml").write_text("a: ${globals:g}\nb: ${runtime_params:t}\nc: ${upper:x}\n")
    given = {"t": "US$ ${x}"}
    loader: Any = isolated(loader_class)(
        str(tmp_path),
        base_env="base",
        default_run_env="base",
        runtime_params=given,
        custom_resolvers={"upper": str.upper},
    )
    expected = {"a": "one", "b": "US$ ${x}", "c": "X", "t": "US$ ${x}"}
    assert loader["parameters"] == expected
    made = copy.copy(loader), copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))
    for each in (loader, *made):
        assert isinstance(each, loader_class)
        assert type(each).__name__ == loader_class.__name__
        assert each["parameters"] == expected
        assert each.runtime_params == given
        arguments = [str(base), ["parameters*"], "parameters", set()]
        assert each.load_and_merge_dir_config(*arguments) == expected
        assert "catalog" in each.keys()  # noqa: SIM118  which Kedro's has to itself
        if loader_class is Documented:
            assert each.describe() == expected
    made[1]["parameters"] = {}
    assert loader["parameters"] == expected
