"""Texts are filled in where a template says, and there is none where a text decides more."""

from __future__ import annotations

from typing import Any

import pytest

from kedro_flask_server.project.configuration.placeholders import (
    PLACEHOLDER,
    ResolvedTemplate,
    fill,
    placeholder_for,
    record_variable,
    refuse_placeholder,
    resolve_template,
)


def looked_up(*variables: str) -> Any:
    return {variable: placeholder_for(variable) for variable in variables}


def made(params: dict[str, Any], *variables: str) -> ResolvedTemplate:
    template = resolve_template(lambda: looked_up(*variables), params)
    assert template is not None
    return template


def filled(template: ResolvedTemplate, params: dict[str, Any]) -> Any:
    texts = template.texts(params)
    assert texts is not None
    return fill(template.content, texts)


@pytest.mark.parametrize("text", ["", "1", "null", "é", "'{\"", "\\", "\ufdd3", "0\ufdd3", "a b"])
def test_text_takes_the_place_of_what_stands_for_it(text: str) -> None:
    template = made({"t": "first", "n": {"m": "second"}}, "t", "n.m", "gone")
    assert filled(template, {"t": text, "n": {"m": "x"}}) == {"t": text, "n.m": "x", "gone": None}


def test_many_texts_do_not_take_each_others_places() -> None:
    names = [f"p{number}" for number in range(12)]
    template = made(dict.fromkeys(names, ""), *names)
    assert filled(template, {name: f"{name}!" for name in names}) == {n: f"{n}!" for n in names}


def test_texts_are_fillto_names_and_lists_and_parts_of_texts() -> None:
    placeholder = f"{PLACEHOLDER}0\ufdd3"
    content = {f"a-{placeholder}": [f"{placeholder}/{placeholder}", 1, None, {"b": placeholder}]}
    assert fill(content, {placeholder: "x"}) == {"a-x": ["x/x", 1, None, {"b": "x"}]}


def test_what_comes_out_is_a_copy() -> None:
    template = resolve_template(lambda: {"a": [{"b": 1}]}, {})
    assert template is not None
    filled(template, {})["a"][0]["b"] = 2
    assert filled(template, {}) == {"a": [{"b": 1}]}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"t": 1},
        {"t": None},
        {"t": True},
        {"t": ["x"]},
        {"t": {"x": "y"}},
        {"t": "???"},
        {"t": f"a{PLACEHOLDER}"},
        {"t": "x", "gone": "there"},
    ],
)
def test_template_fits_no_other_kinds_of_parameters(params: dict[str, Any]) -> None:
    assert made({"t": "x"}, "t", "gone").texts(params) is None


@pytest.mark.parametrize("params", [{"t": 1}, {"t": None}, {"t": "???"}, {"t": f"{PLACEHOLDER}0"}])
def test_no_template_is_made_for_what_is_no_text(params: dict[str, Any]) -> None:
    assert resolve_template(lambda: looked_up("t"), params) is None


@pytest.mark.parametrize("variable", ["a b", "a[0]", "", ".a", "a.", "1", "é", "a\n"])
def test_no_template_is_made_for_what_is_no_path(variable: str) -> None:
    assert resolve_template(lambda: looked_up(variable), {"a": "x", variable: "y"}) is None


def test_path_through_what_holds_nothing_is_for_omegaconf() -> None:
    for value in ("text", None, ["x"], 1):
        assert resolve_template(lambda: looked_up("t.a"), {"t": value}) is None
    assert made({"t": {}}, "t.a").content == {"t.a": None}
    assert made({"t.a": "x"}, "t.a").content == {"t.a": None}


def test_no_template_is_made_where_a_text_names_what_is_looked_up() -> None:
    for look in (placeholder_for, refuse_placeholder, record_variable):
        assert (
            resolve_template(lambda look=look: look(f"_{placeholder_for('t')}"), {"t": "x"}) is None
        )


def test_no_template_is_made_of_what_fails() -> None:
    def fail() -> None:
        raise KeyError("a")

    assert resolve_template(fail, {}) is None


def test_template_holds_while_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "1")
    monkeypatch.delenv("GONE", raising=False)
    template = resolve_template(lambda: [record_variable("SET"), record_variable("GONE")], {})
    assert template is not None
    assert template.texts({}) == {}
    monkeypatch.setenv("GONE", "")
    assert template.texts({}) is None
    monkeypatch.delenv("GONE")
    assert template.texts({}) == {}
    monkeypatch.setenv("SET", "2")
    assert template.texts({}) is None


def test_found_are_the_parameters_that_there_were() -> None:
    assert made({"t": "x", "n": {"m": ""}, "unused": "y"}, "t", "n.m", "gone").found == ["t", "n.m"]


def test_there_is_no_placeholder_where_no_template_is_made() -> None:
    made({"t": "x"}, "t")
    resolve_template(lambda: looked_up("t"), {"t": 1})
    assert placeholder_for("t") is None
    refuse_placeholder(PLACEHOLDER)
    record_variable(f"A{PLACEHOLDER}")
