"""Runtime parameters are what was sent to all who read them, and nothing in them is resolved."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from kedro_flask_server.project.configuration.isolated_loader import isolated
from kedro_flask_server.project.configuration.literals import literal, plain, unescaped
from kedro_flask_server.project.configuration.resolvers import resolvers_of_run

pytestmark = pytest.mark.usefixtures("parsing")

SECRET = "canary-7f3a"
ATTACKS = ("${oc.env:CANARY}", r"\${oc.env:CANARY}", "a ${oc.env:CANARY} b", "US$ 5", "^a$", "$")


@pytest.fixture(autouse=True)
def _canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CANARY", SECRET)
    yield
    OmegaConf.clear_resolvers()


class Subclass(OmegaConfigLoader):
    """Looks at its parameters, and at what Kedro made of them."""

    seen: Any = None

    def __getitem__(self, key: str) -> Any:
        config = super().__getitem__(key)
        if key == "parameters":
            Subclass.seen = [self.runtime_params, json.loads(json.dumps(config))]
            again = OmegaConf.create({"again": self.runtime_params["text"]})
            config["again"] = OmegaConf.to_container(again, resolve=True)["again"]  # type: ignore[index,call-overload]
        return config


def loader_of(
    conf: Path, files: dict[str, Any], params: Any, kind: Any = None, **options: Any
) -> Any:
    for env in ("base", "local"):
        (conf / env).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (conf / name).write_text(json.dumps(content))
    return isolated(kind or OmegaConfigLoader)(
        str(conf), base_env="base", default_run_env="local", runtime_params=params, **options
    )


RESOLVERS: dict[str, Any] = {
    "seen": lambda *texts: json.dumps([str(each) for each in texts]),
    "same": lambda value: value,
    "pieces": lambda text: text.split(","),
    "first": lambda values: values[0],
    "upper": lambda text: text.upper().replace("OC.ENV", "oc.env"),
    "made": lambda text: OmegaConf.create({"x": text, "y": [f"{text}"]}),
    "of": lambda mapping: mapping["text"],
    "whole": lambda mapping: json.dumps(OmegaConf.to_container(mapping, resolve=True)),
    "sibling": lambda name, *, _root_: str(_root_[name]),
}


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("kind", [OmegaConfigLoader, Subclass])
def test_custom_resolvers_and_loaders_get_what_was_sent(
    tmp_path: Path, text: str, kind: Any
) -> None:
    parameters = {
        "seen": "${seen:${runtime_params:text}}",
        "part": "${seen:'a-${runtime_params:text}'}",
        "two": "${seen:x,${runtime_params:deep.text}}",
        "list": "${first:[${runtime_params:text}]}",
        "of": "${of:${runtime_params:deep}}",
        "whole": "${whole:${runtime_params:deep}}",
        "sibling": "${sibling:text}",
        "default": "${globals:gone, ${runtime_params:text}}",
        "by_name": "${globals:by.${runtime_params:key}}",
    }
    files = {"base/parameters.yml": parameters, "base/globals.yml": {"by": {"US$": "found"}}}
    params = {"text": text, "deep": {"text": text, "list": [text]}, "key": "US$"}
    loader = loader_of(tmp_path, files, params, kind, custom_resolvers=RESOLVERS)
    found = loader["parameters"]
    assert json.loads(found["seen"]) == [text]
    assert json.loads(found["part"]) == [f"a-{text}"]
    assert json.loads(found["two"]) == ["x", text]
    assert [found[name] for name in ("list", "of", "sibling", "default", "text")] == [text] * 5
    assert json.loads(found["whole"]) == params["deep"] == found["deep"]
    assert found["by_name"] == "found"
    assert {type(found[name]) for name in ("text", "list", "default")} == {str}
    assert loader.runtime_params == params
    if kind is Subclass:
        assert Subclass.seen == [params, {name: found[name] for name in found if name != "again"}]
        assert found["again"] == text


FORMS = (
    "${runtime_params:text}",
    "a-${runtime_params:text}",
    "${runtime_params:open}${runtime_params:close}",
    "${runtime_params:open}{oc.env:CANARY}",
    "${same:${runtime_params:text}}",
    "${same:${runtime_params:deep}}",
    "${pieces:${runtime_params:text}}",
    "${pieces:x${runtime_params:text}}",
    "${upper:${runtime_params:text}}",
    "${made:${runtime_params:text}}",
    "${same:{k: ${runtime_params:text}}}",
    "${globals:gone, ${runtime_params:text}}",
    "${globals:gone, [${runtime_params:text}]}",
    "${runtime_params:gone, ${runtime_params:deep}}",
    "${oc.decode:'${runtime_params:text}'}",
    "${oc.decode:${runtime_params:quoted}}",
    "${oc.create:${runtime_params:quoted}}",
    "${_other}",
    "${_other}/x",
    "${runtime_params:deep}",
)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_nothing_in_a_parameter_is_resolved(tmp_path: Path, form: str, soft: bool) -> None:
    entry = {"x": {"p": form, "list": [form]}, "_other": "${runtime_params:text}"}
    files = {
        f"{env}/{key}.yml": entry
        for env in ("base", "local")
        for key in ("parameters", "credentials", "catalog")
    }
    options: dict[str, Any] = {"custom_resolvers": {**RESOLVERS, "oc.env": oc.env}}
    if soft:
        options["merge_strategy"] = dict.fromkeys(("parameters", "catalog", "credentials"), "soft")
    params = {
        "text": "${oc.env:CANARY}",
        "open": "$",
        "close": "{oc.env:CANARY}",
        "deep": {"text": "${oc.env:CANARY}", "list": ["${oc.env:CANARY}"]},
        "quoted": "'${oc.env:CANARY}'",
    }
    for with_resolvers in (True, False):
        if not with_resolvers:
            if any(f"{{{name}:" in form for name in RESOLVERS):
                continue
            options.pop("custom_resolvers")
        for _ in range(4):  # first read, then cached
            loader = loader_of(tmp_path, files, params, **options)
            for key in ("parameters", "credentials", "catalog"):
                try:
                    found = loader[key]
                except Exception:
                    continue  # refused is not resolved
                assert SECRET not in json.dumps(found)
                assert "\ufdd0" not in json.dumps(found, ensure_ascii=False)


def test_soft_merge_leaves_what_is_cached_literal(tmp_path: Path) -> None:
    entry = {"x": {"type": "t", "p": "${runtime_params:text}"}}
    files = {f"{env}/catalog.yml": entry for env in ("base", "local")}
    files["base/globals.yml"] = {"g": SECRET}  # type: ignore[dict-item]
    made: Any = None
    for _ in range(5):
        options: dict[str, Any] = {"merge_strategy": {"catalog": "soft"}}
        loader = loader_of(tmp_path, files, {"text": "${globals:g}"}, **options)
        made = made or type(loader)
        loader = made(
            str(tmp_path),
            base_env="base",
            default_run_env="local",
            runtime_params={"text": "${globals:g}"},
            **options,
        )
        assert loader["catalog"]["x"]["p"] == "${globals:g}"


def test_nodes_read_ordinary_texts(tmp_path: Path) -> None:
    with resolvers_of_run(is_alone=False):
        loader = loader_of(tmp_path, {"base/parameters.yml": {"a": 1}}, {"text": "${x} $"})
        assert loader["parameters"]["text"] == "${x} $"
        later = OmegaConf.create({"y": "${runtime_params:text}"})
        assert type(later.y) is str
        assert OmegaConf.to_container(later, resolve=True) == {"y": "${x} $"}


def test_literal_text_is_a_text_to_everything_else() -> None:
    [text] = literal(["US$ 5"])
    assert text == "US$ 5"
    assert hash(text) == hash("US$ 5")
    assert type(pickle.loads(pickle.dumps(text))) is str
    assert copy.deepcopy([text])[0] is text
    assert yaml.safe_dump([text]) == yaml.safe_dump(["US$ 5"])
    assert type(plain([text])[0]) is str
    assert literal(["no dollar", 1]) == ["no dollar", 1]


def test_escaped_is_taken_off_as_omegaconf_does() -> None:
    assert unescaped({"a": [r"\${b}", r"\\\${c}", "$", 1]}) == {"a": ["${b}", r"\${c}", "$", 1]}
