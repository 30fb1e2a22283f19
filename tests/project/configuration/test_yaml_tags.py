"""What a tag of the project's own stands for is looked up for every run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader

from kedro_flask_server.project.configuration.isolated_loader import isolated
from kedro_flask_server.project.configuration.yaml_cache import parsed
from kedro_flask_server.project.configuration.yaml_tags import depends_on_itself_alone, has_own_tags

LOADERS = {yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)}
TABLES = ("yaml_constructors", "yaml_multi_constructors", "yaml_implicit_resolvers")

pytestmark = pytest.mark.usefixtures("parsing")


@pytest.fixture(autouse=True)
def _standard_again() -> Iterator[None]:
    """Take away what a test has taught PyYAML."""
    before = [(each, name, dict(getattr(each, name))) for each in LOADERS for name in TABLES]
    yield
    for loader, name, table in before:
        setattr(loader, name, table)


def answer(loader: Any, node: Any) -> Any:
    return (Path(__file__).parent / node.value).name


def tag(add: Callable[[Any], None]) -> None:
    for each in LOADERS:
        add(each)


def add_tag(loader: Any) -> None:
    loader.add_constructor("!own", answer)


def add_prefix(loader: Any) -> None:
    loader.add_multi_constructor("!own", lambda loader, suffix, node: answer(loader, node))


def add_object(loader: Any) -> None:
    type("Own", (yaml.YAMLObject,), {"yaml_tag": "!own", "yaml_loader": loader})


class Answer:
    """An object that is called, as pyyaml-include's constructor is."""

    def __call__(self, loader: Any, node: Any) -> Any:
        return answer(loader, node)


def add_callable(loader: Any) -> None:
    loader.add_constructor("!own", Answer())


@pytest.mark.parametrize("add", [add_tag, add_prefix, add_object, add_callable])
def test_text_with_a_tag_of_the_projects_depends_on_more(add: Callable[[Any], None]) -> None:
    assert not has_own_tags()
    assert depends_on_itself_alone("a: !own x")  # PyYAML refuses it
    tag(add)
    assert has_own_tags()
    assert not depends_on_itself_alone("a: !own x")
    assert depends_on_itself_alone("a: x")


def replace_texts(loader: Any) -> None:
    loader.add_constructor("tag:yaml.org,2002:str", answer)


def tag_by_form(loader: Any) -> None:
    loader.add_constructor("!env", answer)
    loader.add_implicit_resolver("!env", re.compile(r"<%.*%>"), None)


@pytest.mark.parametrize("add", [replace_texts, tag_by_form])
def test_every_text_depends_on_more_where_tags_need_not_be_written(
    add: Callable[[Any], None],
) -> None:
    tag(add)
    assert not depends_on_itself_alone("a: x")


def test_resolver_for_a_standard_tag_changes_nothing() -> None:
    tag(
        lambda loader: loader.add_implicit_resolver(
            "tag:yaml.org,2002:float", re.compile("1e3"), ["1"]
        )
    )
    assert depends_on_itself_alone("a: 1e3")


@pytest.mark.parametrize("is_kedros", [True, False])
def test_file_that_a_tag_stands_for_is_read_each_time(tmp_path: Path, is_kedros: bool) -> None:
    other = tmp_path / "other.yml"
    tag(lambda loader: loader.add_constructor("!own", lambda *_: yaml.safe_load(other.read_text())))
    for env in ("base", "local"):
        (tmp_path / "conf" / env).mkdir(parents=True)
    (tmp_path / "conf/base/parameters.yml").write_text("model: !own x\nplain: 1\n")

    class Own(OmegaConfigLoader):
        pass

    loader_class = isolated(OmegaConfigLoader if is_kedros else Own)
    for rate in (1, 2, 3, 4, 5):
        other.write_text(f"rate: {rate}\n")
        loader: Any = loader_class(
            str(tmp_path / "conf"),
            runtime_params={"p": rate},
            **{"base_env": "base", "default_run_env": "local"},  # type: ignore[arg-type]
        )
        assert loader["parameters"] == {"model": {"rate": rate}, "plain": 1, "p": rate}
    assert parsed.cache_info().currsize == 0
