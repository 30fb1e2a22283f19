"""A cached configuration comes out as Kedro has it, and no answer is stale."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.resolvers import oc

from kedro_flask_server.project.configuration.caching_loader import (
    CachingConfigLoader,
    recording_uncached,
)
from kedro_flask_server.project.configuration.isolated_loader import _GUARD, isolated
from kedro_flask_server.project.configuration.yaml_cache import parsed

PHASES = [Phase.explicit, Phase.generate]
KEYS = ("parameters", "credentials", "catalog")
VARIABLE = "CACHED_BY_TEST"

needs_steps = pytest.mark.skipif(
    not CachingConfigLoader.is_supported(), reason="this Kedro's loader has not the two steps"
)


def loaded(loader_class: Any, conf: Path, params: dict[str, Any], **options: Any) -> Any:
    """Return what a new loader gives for each key: a text, or the type of what it raises."""
    options = {"base_env": "base", "default_run_env": "local", **options}
    found: dict[str, Any] = {}
    try:
        loader = loader_class(str(conf), runtime_params=json.loads(json.dumps(params)), **options)
    except Exception as error:
        return {"globals": type(error)}
    for key in ("globals", *KEYS):
        try:
            config = loader[key]
        except Exception as error:
            found[key] = type(error)
        else:
            found[key] = repr(config)
            spoil(config)
    return found


def by_kedro(conf: Path, params: dict[str, Any], **options: Any) -> Any:
    OmegaConf.clear_resolvers()
    try:
        return loaded(OmegaConfigLoader, conf, params, **options)
    finally:
        OmegaConf.clear_resolvers()


def spoil(config: Any) -> None:
    """Change all that a loader gave away."""
    for each in config.values() if isinstance(config, dict) else config:
        if isinstance(each, (dict, list)):
            spoil(each)
    if isinstance(config, dict):
        config["spoiled"] = True
    else:
        config.append("spoiled")


TEXTS = st.one_of(
    st.sampled_from(["", "b", "x", "1", "1e3", "null", "true", "ü", "a.b", "'", '"', "{", "}"]),
    st.sampled_from(
        ["a: b", "[1]", "\\", "?", "??", ",", " x ", "\ufdd2", "\ufdd20\ufdd3", "\ufdd0"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="$?"), max_size=5),
)
SCALARS = st.one_of(st.sampled_from([None, True, False, 0, 1, -1, 1.5, ""]), TEXTS)
PARAM = st.sampled_from(["t", "u", "d", "d.x", "n.m", "gone"])
GLOBAL = st.sampled_from(["g", "h", "n.m", "gone", "_p", "b", "l", "n"])
DEFAULT = st.sampled_from(
    ["x", "1", "null", "true", "'a b'", "''", '"q"', "[1,x]", "{a: 1}", "0.5"]
)
PATHS = st.sampled_from(["_a.b", "_a", "b", "a", "..b", ".b", ".x", "_l[0]", "_l.1", "c.x", "...b"])


def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    either = st.one_of(DEFAULT, inner)
    return st.one_of(
        st.builds("${{runtime_params:{}, {}}}".format, PARAM, either),
        st.builds("${{globals:{},{}}}".format, GLOBAL, either),
        st.builds("${{globals:{}}}".format, inner),
        st.builds("${{globals:{}, x}}".format, inner),
        st.builds("${{runtime_params:{},y}}".format, inner),
        st.builds("${{_a.{}}}".format, inner),
        st.builds("${{_a[{}]}}".format, inner),
        st.builds("${{_l[{}]}}".format, inner),
        st.builds("${{..{}}}".format, inner),
        st.builds("${{oc.env:{}, {}}}".format, st.sampled_from([VARIABLE, "GONE"]), either),
        st.builds("${{oc.env:{}, null}}".format, inner),
        st.builds('${{runtime_params:{}, "q {} r"}}'.format, PARAM, inner),
        st.builds("${{runtime_params:{}, p {} r}}".format, PARAM, inner),
        st.builds("${{runtime_params:{}, [{}]}}".format, PARAM, inner),
        st.builds("${{runtime_params:{}, {{k: {}}}}}".format, PARAM, inner),
        st.builds("${{{}:x}}".format, inner),
        st.builds("{}{}".format, inner, inner),
    )


ANY = st.recursive(
    st.one_of(
        st.builds("${{runtime_params:{}}}".format, PARAM),
        st.builds("${{globals:{}}}".format, GLOBAL),
        st.builds("${{{}}}".format, PATHS),
        st.sampled_from([f"${{oc.env:{VARIABLE}}}", "\\${b}", "\\\\${b}", "${own:1}"]),
    ),
    wider,
    max_leaves=3,
)
# What most often comes to something.
SOUND_ONES = (
    "${runtime_params:t}",
    "${runtime_params:t, x}",
    "${runtime_params:u, ${runtime_params:t, ${globals:g}}}",
    "${runtime_params:d.x, null}",
    "${runtime_params:gone, ${globals:n.m}}",
    "${runtime_params:gone, [${runtime_params:t}, 1]}",
    "${runtime_params:gone, {k: ${runtime_params:t}}}",
    "${runtime_params:gone, 'q ${runtime_params:t} r'}",
    "${runtime_params:gone, p ${runtime_params:t} r}",
    "${runtime_params:${runtime_params:t}, ${runtime_params:u, v}}",
    "${globals:${runtime_params:t}, ${runtime_params:u, w}}",
    "${globals:gone,${runtime_params:t}}",
    "${globals:g}",
    "${globals:n}",
    "${globals:n.m}",
    "\\${runtime_params:t}",
    "\\\\${runtime_params:t}",
    "\\\\\\${b}",
    "${_s.k}",
    "${_s}",
    "${_s[k]}",
    "${_s.l[1]}",
    "${_s.r}",
    "${_s.${_s.key}}",
    "${_s.by.${runtime_params:t}}",
    "${_s.by[${runtime_params:t}]}",
    "${.same}",
    "${..up}",
)
SOUND = st.sampled_from(SOUND_ONES)
INTERPOLATIONS = st.one_of(SOUND, SOUND, SOUND, SOUND, SOUND, SOUND, ANY)
LEAVES = st.one_of(
    SCALARS,
    INTERPOLATIONS,
    st.builds("{}{}{}".format, st.sampled_from(["", "x/", "${globals:g}-"]), SOUND, TEXTS),
    st.builds("{}{}".format, SOUND, SOUND),
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["b", "x", "type", "_h", "1", "a.b"]), inner, max_size=3),
    ),
    max_leaves=4,
)
NAMES = st.sampled_from(["a", "b", "c", "t", "d", "u"])
SHARED = {
    "k": "${runtime_params:t, s}/${globals:g, g}",
    "l": [1, "${runtime_params:u, 2}"],
    "r": "${.k}-${..up}",
    "key": "k",
    "by": {"b": "B", "1": "one", "x": {"type": "${runtime_params:t}"}},
}


def whole(entries: dict[str, Any], is_shared: bool) -> dict[str, Any]:
    entries = {
        name: {"same": "${runtime_params:t, s}", **each} if isinstance(each, dict) else each
        for name, each in entries.items()
    }
    return {"up": "U-${globals:g, 0}", **({"_s": SHARED} if is_shared else {}), **entries}


CONFIGS = st.one_of(
    st.builds(whole, st.dictionaries(NAMES, NESTED, max_size=3), st.just(True)),
    st.dictionaries(NAMES, NESTED, max_size=2),
)
GLOBALS = st.builds(
    lambda most: {"g": "G", "n": {"m": 1}, **most},
    st.dictionaries(
        st.sampled_from(["g", "h", "b", "x", "l", "_p"]),
        st.one_of(SCALARS, SCALARS, st.just({"m": "deep"}), st.just([1, "x"]), ANY),
        max_size=2,
    ),
)
PARAMS = st.builds(
    lambda text, others: {"t": text, **others},
    st.one_of(st.sampled_from(["b", "x", "1", "g"]), TEXTS),
    st.dictionaries(
        st.sampled_from(["t", "u", "d", "n", "a", "b", "a.b"]),
        st.one_of(
            TEXTS,
            TEXTS,
            SCALARS,
            st.dictionaries(
                st.sampled_from(["x", "m", "b"]), st.one_of(TEXTS, SCALARS), max_size=2
            ),
            st.lists(SCALARS, max_size=2),
        ),
        max_size=2,
    ),
)
FILES = st.one_of(
    st.tuples(
        st.sampled_from(["base", "local"]),
        st.sampled_from([f"{key}.yml" for key in KEYS] + ["parameters_2.yml", "catalog/x.json"]),
        CONFIGS,
    ),
    st.tuples(st.just("base"), st.just("globals.yml"), GLOBALS),
)
BROKEN = st.sampled_from([None, None, None, "", "[1", "- 1", "word", "# nothing", "1: x", "a: ???"])
EDITS = st.one_of(
    st.tuples(st.just("write"), FILES),
    st.tuples(st.just("write"), FILES),
    st.tuples(st.just("text"), FILES, BROKEN),
    st.tuples(st.just("remove"), FILES),
    st.tuples(st.just("variable"), st.one_of(st.none(), st.sampled_from(["", "x", "b", "1"]))),
)


def write(conf: Path, where: tuple[str, str, Any], text: str | None) -> None:
    path = conf / where[0] / where[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(where[2]) if text is None else text)
    os.utime(path, (1, 1))


def edit(conf: Path, what: tuple[Any, ...]) -> None:
    kind, where, *more = what
    if kind == "variable" and where is None:
        os.environ.pop(VARIABLE, None)
    elif kind == "variable":
        os.environ[VARIABLE] = where
    elif kind == "remove":
        (conf / where[0] / where[1]).unlink(missing_ok=True)
    else:
        write(conf, where, more[0] if more else None)


@pytest.mark.once
@needs_steps
@pytest.mark.usefixtures("parsing")
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
    database=None,
    derandomize=True,
    phases=PHASES,
)
@given(
    base=st.tuples(GLOBALS, *[CONFIGS] * 3),
    files=st.lists(FILES, max_size=2),
    rounds=st.lists(
        st.tuples(
            st.lists(EDITS, min_size=1, max_size=1), st.lists(PARAMS, min_size=1, max_size=3)
        ),
        min_size=1,
        max_size=2,
    ),
    first=PARAMS,
    guarded=st.booleans(),
    soft=st.booleans(),
)
def test_every_answer_is_kedros(
    *, base: Any, files: list[Any], rounds: list[Any], first: Any, guarded: bool, soft: bool
) -> None:
    conf = Path(tempfile.mkdtemp())
    options: dict[str, Any] = {_GUARD: guarded}
    if soft:
        options["merge_strategy"] = {"parameters": "soft", "catalog": "soft"}
    made = isolated(OmegaConfigLoader)
    with mock.patch.dict(os.environ):
        os.environ.pop(VARIABLE, None)
        try:
            for env in ("base", "local"):
                (conf / env).mkdir()
            started = zip(("globals", *KEYS), base, strict=True)
            for where in [*(("base", f"{key}.yml", each) for key, each in started), *files]:
                write(conf, where, None)
            for edits, requests in [([], [first]), *rounds]:
                for each in edits:
                    edit(conf, each)
                for params in [first, first, first, *requests, first, *requests]:
                    ours = loaded(made, conf, params, **options)
                    kedros = by_kedro(conf, params, **options)
                    if guarded and isinstance(ours.get("catalog"), type):
                        ours.pop("catalog"), kedros.pop("catalog", None)
                    assert ours == kedros, params
        finally:
            shutil.rmtree(conf)


CONFIG = {
    "base/globals.yml": "g: one\nn: {m: 2}\n",
    "base/parameters.yml": "fixed: {a: 1}\ntext: '${runtime_params:t, none}'\n",
    "base/credentials.yml": f"key: '${{oc.env:{VARIABLE}, none}}'\n",
    "base/catalog.yml": (
        "_folder: data/${globals:g}\n"
        "fixed: {type: x, path: '${_folder}/a', list: [1]}\n"
        "chosen: {type: x, path: '${_folder}/${runtime_params:t, none}'}\n"
    ),
    "local/parameters.yml": "more: 1\n",
}


class Project:
    """A configuration, and one class of loaders for it."""

    def __init__(self, folder: Path) -> None:
        self.conf = folder / "conf"
        self.loader_class = isolated(OmegaConfigLoader)
        self.params: dict[str, Any] = {"t": "x"}
        self.options: dict[str, Any] = {}
        for env in ("base", "local"):
            (self.conf / env).mkdir(parents=True)
        for name, text in CONFIG.items():
            (self.conf / name).write_text(text)

    def loader(self, **params: Any) -> Any:
        return self.loader_class(
            str(self.conf),
            runtime_params={**self.params, **params},
            **{"base_env": "base", "default_run_env": "local", **self.options},
        )

    def load(self, **params: Any) -> Any:
        return loaded(self.loader_class, self.conf, {**self.params, **params}, **self.options)

    def by_kedro(self, **params: Any) -> Any:
        return by_kedro(self.conf, {**self.params, **params}, **self.options)

    def warm(self) -> Any:
        for _ in range(3):
            found = self.load()
        return found


@pytest.fixture
def project(tmp_path: Path, parsing: None, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv(VARIABLE, raising=False)
    return Project(tmp_path)


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what notes each interpolation that OmegaConf resolves."""
    noted: list[Any] = []
    resolve = BaseContainer.resolve_parse_tree

    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        noted.append(args)
        return resolve(self, *args, **kwargs)

    monkeypatch.setattr(BaseContainer, "resolve_parse_tree", noting)
    return noted


@needs_steps
def test_what_is_cached_is_neither_read_nor_parsed_nor_resolved_again(
    project: Project, resolved: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = project.warm()
    parses = parsed.cache_info()
    resolved.clear()
    monkeypatch.setattr(OmegaConfigLoader, "_read_dir_configs", None)
    monkeypatch.setattr(OmegaConfigLoader, "_is_valid_config_path", None)
    assert project.load() == expected
    assert "/other'" in project.load(t="other")["catalog"]
    assert resolved == []
    assert parsed.cache_info() == parses


@needs_steps
def test_each_class_has_a_cache_of_its_own(project: Project) -> None:
    project.warm()
    project.loader_class.cache.has_new_entries = False
    project.load()
    assert not project.loader_class.cache.has_new_entries
    assert isolated(OmegaConfigLoader).cache is not project.loader_class.cache


def _same_size_and_time(conf: Path) -> None:
    for name in ("base/catalog.yml", "base/globals.yml", "base/parameters.yml"):
        before = (conf / name).stat()
        text = (conf / name).read_text()
        (conf / name).write_text(text.replace("one", "two").replace("data", "dat2"))
        os.utime(conf / name, ns=(before.st_atime_ns, before.st_mtime_ns))


EDITS_BY_NAME: dict[str, Any] = {
    "same size and time": _same_size_and_time,
    "new file": lambda conf: (conf / "local/catalog_new.yml").write_text("new: {type: y}"),
    "new JSON": lambda conf: (conf / "local/catalog.json").write_text('{"new": {"type": "y"}}'),
    "nested": lambda conf: (
        (conf / "local/x/catalog_a").mkdir(parents=True),
        (conf / "local/x/catalog_a.yml").write_text("new: {type: y}"),
    ),
    "subfolder": lambda conf: (
        (conf / "local/catalog/a").mkdir(parents=True),
        (conf / "local/catalog/a/any.yml").write_text("new: {type: y}"),
    ),
    "hidden": lambda conf: (conf / "local/.catalog.yml").write_text("new: {type: y}"),
    "hidden folder": lambda conf: (
        (conf / "local/.x").mkdir(),
        (conf / "local/.x/catalog.yml").write_text("new: {type: y}"),
    ),
    "other suffix": lambda conf: (conf / "local/catalog.txt").write_text("new: {type: y}"),
    "removed": lambda conf: (conf / "base/catalog.yml").unlink(),
    "globals removed": lambda conf: (conf / "base/globals.yml").unlink(),
    "renamed": lambda conf: (conf / "base/catalog.yml").rename(conf / "base/catalog_b.yml"),
    "out of sight": lambda conf: (conf / "base/catalog.yml").rename(conf / "base/other.yml"),
    "other environment": lambda conf: (conf / "base/catalog.yml").rename(
        conf / "local/catalog.yml"
    ),
    "folder for a file": lambda conf: (
        (conf / "base/parameters.yml").unlink(),
        (conf / "base/parameters.yml").mkdir(),
    ),
    "environment removed": lambda conf: shutil.rmtree(conf / "local"),
    "duplicate": lambda conf: (conf / "base/catalog_b.yml").write_text("fixed: {type: y}"),
    "duplicate of a part": lambda conf: (conf / "base/parameters_b.yml").write_text(
        "fixed: {a: 2}"
    ),
    "private duplicate": lambda conf: (conf / "base/catalog_b.yml").write_text("_folder: new"),
    "broken": lambda conf: (conf / "base/catalog.yml").write_text("a: [1"),
    "not UTF-8": lambda conf: (conf / "base/catalog.yml").write_bytes(b"a: \xff"),
    "empty": lambda conf: (conf / "base/catalog.yml").write_text(""),
    "comment": lambda conf: (conf / "base/parameters.yml").write_text("# nothing"),
    "a list": lambda conf: (conf / "base/parameters.yml").write_text("- 1"),
    "a word": lambda conf: (conf / "base/parameters.yml").write_text("word"),
    "a missing value": lambda conf: (conf / "base/parameters.yml").write_text("a: ???"),
    "a number for a key": lambda conf: (conf / "base/parameters.yml").write_text("1: x"),
    "a date": lambda conf: (conf / "base/parameters.yml").write_text("a: 2020-01-01"),
    "large": lambda conf: (conf / "base/parameters_b.yml").write_text("b: " + "x" * 1_000_000),
    "parameter in globals": lambda conf: (conf / "base/globals.yml").write_text(
        "g: ${runtime_params:t, none}"
    ),
    "link": lambda conf: (
        (conf.parent / "o.yml").write_text("new: {type: y}"),
        (conf / "local/catalog.yml").symlink_to(conf.parent / "o.yml"),
    ),
    "circle": lambda conf: (conf / "base/parameters.yml").write_text("a: ${b}\nb: ${a}"),
}


@pytest.mark.parametrize("change", EDITS_BY_NAME.values(), ids=EDITS_BY_NAME)
def test_next_loader_sees_an_edit(project: Project, change: Any) -> None:
    before = project.warm()
    change(project.conf)
    for params in ({}, {}, {}, {"t": "other"}):
        assert project.load(**params) == project.by_kedro(**params)
    shutil.rmtree(project.conf)
    Project(project.conf.parent)
    assert project.load() == before


def test_linked_file_is_read_where_the_link_leads(project: Project) -> None:
    link = project.conf / "local/catalog.yml"
    for name in ("one", "two"):
        (project.conf.parent / name).write_text(f"linked: {{type: {name}}}")
    link.symlink_to(project.conf.parent / "one")
    assert "'one'" in project.warm()["catalog"]
    link.unlink()
    link.symlink_to(project.conf.parent / "two")
    assert "'two'" in project.load()["catalog"]
    (project.conf.parent / "two").write_text("linked: {type: 222}")
    assert "222" in project.load()["catalog"]


def test_change_of_the_environment_is_seen(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "none" in project.warm()["credentials"]
    for value in ("1", "2", "", "1"):
        monkeypatch.setenv(VARIABLE, value)
        for _ in range(2):
            assert project.load()["credentials"] == repr({"key": value})
    monkeypatch.delenv(VARIABLE)
    assert "none" in project.load()["credentials"]


@pytest.mark.parametrize(
    "value", [1, 1.5, True, None, "", "1", [], [1, "x"], {}, {"a": {"b": "x"}}, "???x", "\ufdd20"]
)
def test_parameter_that_is_no_text_works_and_is_not_cached(project: Project, value: Any) -> None:
    project.warm()
    for params in ({"t": value}, {"t": "y"}, {"t": value}, {"fixed": value}, {"text": value}):
        assert project.load(**params) == project.by_kedro(**params)
    project.params = {}
    assert project.load() == project.by_kedro()


def test_required_parameter_is_asked_for_each_time(project: Project) -> None:
    (project.conf / "local/catalog.yml").write_text("needs: {type: '${runtime_params:need}'}")
    project.params = {}
    for params in ({}, {}, {}, {}, {"need": "x"}, {"need": "y"}, {}, {"need": None}, {"need": "x"}):
        assert project.load(**params) == project.by_kedro(**params)


def test_what_a_hook_sets_holds_for_its_loader_alone(project: Project) -> None:
    before = project.warm()
    for value in ("two", "three"):
        loader = project.loader()
        loader["globals"] = {"g": value}
        assert loader["catalog"]["chosen"]["path"] == f"data/{value}/x"
        assert loader["catalog"]["fixed"]["path"] == f"data/{value}/a"
        loader["catalog"] = {"own": {"type": "z"}}
        assert loader["catalog"] == {"own": {"type": "z"}}
    assert project.load() == before


def test_nothing_is_cached_with_resolvers_of_the_project(project: Project) -> None:
    calls: list[str] = []

    def own(text: str) -> str:
        calls.append(text)
        return f"{text}-{len(calls)}"

    for key in KEYS:
        (project.conf / f"local/{key}.yml").write_text("own: {type: '${own:a}'}")
    project.options = {"custom_resolvers": {"own": own}}
    found = [project.load() for _ in range(6)]
    for key in KEYS:
        assert len({each[key] for each in found}) == 6
    OmegaConf.clear_resolvers()


def test_resolver_for_the_environment_may_be_the_projects(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.options = {"custom_resolvers": {"oc.env": oc.env}}
    (project.conf / "local/catalog.yml").write_text(f"own: {{type: '${{oc.env:{VARIABLE}, n}}'}}")
    project.warm()
    for value in ("1", "2"):
        monkeypatch.setenv(VARIABLE, value)
        found = project.load()
        assert found == project.by_kedro()
        assert f"'{value}'" in found["catalog"]
        assert f"'{value}'" in found["credentials"]


@pytest.mark.parametrize(
    "options",
    [
        {"default_run_env": "base"},
        {"env": "base"},
        {"env": "gone"},
        {"base_env": None, "default_run_env": None},
        {"ignore_hidden": False},
        {"merge_strategy": {"parameters": "soft", "catalog": "soft"}},
        {"merge_strategy": {"parameters": "unknown"}},
        {"config_patterns": {"catalog": ["own*"], "parameters": ["**/parameters*"]}},
    ],
    ids=str,
)
def test_every_option_of_the_loader_counts(project: Project, options: dict[str, Any]) -> None:
    project.warm()
    (project.conf / "base/.x").mkdir()
    (project.conf / "base/.x/parameters.yml").write_text("hidden: 1")
    (project.conf / "base/own.yml").write_text("own: {type: y}")
    (project.conf / "local/parameters_b.yml").write_text("fixed: {b: '${runtime_params:t}'}")
    project.options = options
    for params in ({}, {}, {}, {"t": "y"}):
        assert project.load(**params) == project.by_kedro(**params)
    project.options = {}
    assert project.load() == project.by_kedro()


def test_archive_is_read_each_time(project: Project) -> None:
    archive = project.conf.parent / "conf.zip"
    for number in range(4):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("conf/base/parameters.yml", f"n: {number}")
            file.writestr("conf/local/parameters.yml", "m: 1")
        assert loaded(project.loader_class, archive, {})["parameters"] == repr(
            {"n": number, "m": 1}
        )


def test_what_is_returned_is_the_callers_own(project: Project) -> None:
    project.warm()
    for key in KEYS:
        first, second = project.loader()[key], project.loader()[key]
        expected = repr(second)
        spoil(first)
        assert repr(second) == expected
        assert repr(project.loader()[key]) == expected


def test_what_is_given_is_left_as_it_was(project: Project) -> None:
    params = {"t": "x", "fixed": {"b": [1]}}
    for _ in range(4):
        spoil(project.loader(**params)["parameters"])
        assert params == {"t": "x", "fixed": {"b": [1]}}


def test_what_is_left_to_kedro_is_recorded(project: Project) -> None:
    project.warm()
    with recording_uncached() as left:
        project.load()
    assert left == []
    (project.conf / "local/parameters.yml").write_text("a: ${more}\nmore: 1")
    project.warm()
    with recording_uncached() as left:
        project.load()
    assert left == (["parameters"] if CachingConfigLoader.is_supported() else [])


GUARDED = {
    "chosen": "a: {type: '${runtime_params:t}'}",
    "by default": "a: {type: '${runtime_params:gone, x}'}",
    "by globals": "a: {type: '${runtime_params:gone, ${globals:g}}'}",
    "in part": "a: {type: 'x.${runtime_params:t}'}",
    "nested": "a: {type: x, inner: {type: '${runtime_params:t}'}}",
    "in a type": "a: {type: x, inner: {type: {type: '${runtime_params:t, y}'}}}",
    "elsewhere": "a: {type: x, path: '${runtime_params:t}'}",
    "hit elsewhere": "a: {type: '${runtime_params:gone, x}'}\nb: {p: '${runtime_params:t}'}",
}


@needs_steps
@pytest.mark.parametrize("text", GUARDED.values(), ids=GUARDED)
def test_guard_is_kedros_however_often_it_is_asked(project: Project, text: str) -> None:
    (project.conf / "local/catalog.yml").write_text(text)
    project.options = {_GUARD: True}
    for params in ({}, {}, {}, {}, {"t": "y"}, {"gone": "z"}, {}, {"t": "y"}):
        assert project.load(**params) == project.by_kedro(**params)
    project.options = {}
    assert project.load() == project.by_kedro()


def test_threads_get_each_their_own(project: Project) -> None:
    project.warm()

    def load(number: int) -> bool:
        loader = project.loader(t=f"n{number}")
        catalog, params = loader["catalog"], loader["parameters"]
        return bool(
            catalog["chosen"]["path"] == f"data/one/n{number}" and params["text"] == f"n{number}"
        )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(load, range(64)))


@pytest.mark.once
@pytest.mark.parametrize("text", SOUND_ONES)
def test_every_kind_of_interpolation_comes_to_what_kedro_has(project: Project, text: str) -> None:
    for key in KEYS:
        texts = [text] if "[$" in text or "{k" in text or text == "${_s}" else [text, f"{text}x"]
        config = whole({"one": {"p": texts}}, True)
        (project.conf / f"local/{key}.yml").write_text(json.dumps(config))
    for value in ("x", "x", "x", "x", "b", "g", "t", "1", "", "k", 1, "x"):
        assert project.load(t=value, u="v") == project.by_kedro(t=value, u="v")


def test_text_in_a_list_that_becomes_text_is_filled_in(project: Project) -> None:
    (project.conf / "local/catalog.yml").write_text(
        "a: {p: 'x-${runtime_params:gone, [${runtime_params:t}]}'}"
    )
    project.warm()
    assert project.load(t="y") == project.by_kedro(t="y")


def test_texts_that_come_to_a_missing_value_are_refused(project: Project) -> None:
    (project.conf / "local/catalog.yml").write_text("a: {p: '${runtime_params:t}??'}")
    project.warm()
    assert project.load(t="?") == project.by_kedro(t="?")


def test_file_that_a_hook_writes_is_seen_by_its_loader(project: Project) -> None:
    project.warm()
    loader = project.loader()
    (project.conf / "local/catalog_new.yml").write_text("new: {type: y}")
    assert "new" in loader["catalog"]


def test_relative_place_is_looked_for_in_the_working_directory(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Project(tmp_path / "other")
    (other.conf / "base/parameters.yml").write_text("other: 1")
    for folder, expected in ((tmp_path, False), (tmp_path / "other", True)):
        monkeypatch.chdir(folder)
        for _ in range(4):
            found = loaded(project.loader_class, Path("conf"), {})
            assert ("other" in found["parameters"]) is expected
