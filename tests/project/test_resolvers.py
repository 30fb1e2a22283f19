"""Each layer's resolvers count in it alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from omegaconf import OmegaConf

from kedro_flask_server.project.resolvers import ResolverLayer


def resolve(expression: str) -> object:
    return OmegaConf.to_container(OmegaConf.create({"x": expression}), resolve=True)["x"]  # type: ignore[index,call-overload]


def register(name: str, value: object) -> None:
    OmegaConf.register_new_resolver(name, lambda: value, replace=True)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    OmegaConf.clear_resolvers()


def test_resolver_registered_in_a_layer_counts_there_alone() -> None:
    first, second = ResolverLayer(), ResolverLayer()
    with first.active():
        register("tag", 1)
    with second.active():
        register("tag", 2)
        assert resolve("${tag:}") == 2
    with first.active():
        assert resolve("${tag:}") == 1
    assert not OmegaConf.has_resolver("tag")


def test_resolver_of_the_whole_process_is_seen_in_layers() -> None:
    layer = ResolverLayer()
    with layer.active():
        pass
    register("shared", "all")
    with layer.active():
        assert resolve("${shared:}") == "all"
        OmegaConf.clear_resolver("shared")
        assert not OmegaConf.has_resolver("shared")
    assert resolve("${shared:}") == "all"
    with layer.active():
        assert not OmegaConf.has_resolver("shared")


def test_layers_survive_omegaconfs_clearing_of_all_resolvers() -> None:
    layer = ResolverLayer()
    with layer.active():
        register("tag", 1)
    OmegaConf.clear_resolvers()
    with layer.active():
        assert resolve("${tag:}") == 1
        assert resolve("${oc.decode:'1'}") == 1


def test_clearing_what_is_not_there_says_so() -> None:
    with ResolverLayer().active():
        assert OmegaConf.clear_resolver("nothing") is False


def test_threads_never_see_each_others_layer() -> None:
    both = threading.Barrier(8)

    def work(number: int) -> set[object]:
        layer = ResolverLayer()
        both.wait(10)
        seen = set()
        for _ in range(200):
            with layer.active():
                register("tag", number)
                seen.add(resolve("${tag:}"))
        return seen

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [{number} for number in range(8)]
