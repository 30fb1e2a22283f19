"""Each layer's resolvers count in it alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from omegaconf import OmegaConf

from kedro_flask_server.project.configuration.resolvers import (
    ResolverLayer,
    active_loader,
    resolvers_of_run,
)


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


def leave(name: str, value: object) -> None:
    """Register a resolver as a loader does."""
    with ResolverLayer().active():
        register(name, value)


def test_what_a_loader_registers_stays_for_its_run_alone() -> None:
    with resolvers_of_run(is_alone=False):
        leave("tag", 1)
        assert resolve("${tag:}") == 1
        with ThreadPoolExecutor(1) as other:
            assert other.submit(OmegaConf.has_resolver, "tag").result() is False
        leave("tag", 2)  # as in Kedro, the last one counts
        assert resolve("${tag:}") == 2
        OmegaConf.clear_resolver("tag")
        assert not OmegaConf.has_resolver("tag")
    assert not OmegaConf.has_resolver("tag")


def test_run_that_is_alone_shares_with_all_threads_of_its_process() -> None:
    with resolvers_of_run(is_alone=True), ThreadPoolExecutor(1) as other:
        leave("tag", 1)
        assert other.submit(resolve, "${tag:}").result() == 1
    assert not OmegaConf.has_resolver("tag")


def test_loader_at_work_does_not_see_what_another_has_left() -> None:
    with resolvers_of_run(is_alone=True):
        leave("tag", 1)
        with ResolverLayer().active():
            assert not OmegaConf.has_resolver("tag")


def test_trial_leaves_nothing() -> None:
    with resolvers_of_run(is_alone=True):
        with ResolverLayer().active(is_trial=True):
            register("tag", 1)
        assert not OmegaConf.has_resolver("tag")


def test_what_is_registered_between_loaders_is_the_process_s_and_counts_before_theirs() -> None:
    with resolvers_of_run(is_alone=True):
        leave("tag", 1)
        register("tag", "own")
        register("more", "kept")
        assert (resolve("${tag:}"), resolve("${more:}")) == ("own", "kept")
    assert (resolve("${tag:}"), resolve("${more:}")) == ("own", "kept")


def test_clearing_all_clears_what_was_left() -> None:
    with resolvers_of_run(is_alone=True):
        leave("tag", 1)
        OmegaConf.clear_resolvers()
        assert not OmegaConf.has_resolver("tag")


def test_loader_is_known_while_it_works_and_afterwards() -> None:
    loader = object()
    with resolvers_of_run(is_alone=True):
        with ResolverLayer().active(loader):
            assert active_loader() is loader
        assert active_loader() is loader
    assert active_loader() is None
