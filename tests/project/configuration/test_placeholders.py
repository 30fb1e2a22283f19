"""Texts are put in where a stencil says, and there is none where a text decides more."""

from __future__ import annotations

from typing import Any

import pytest

from kedro_flask_server.project.configuration.placeholders import (
    STAND_IN,
    Stencil,
    cut,
    note_variable,
    put_in,
    refuse_stand_in,
    stand_in_for,
)


def looked_up(*variables: str) -> Any:
    return {variable: stand_in_for(variable) for variable in variables}


def made(params: dict[str, Any], *variables: str) -> Stencil:
    stencil = cut(lambda: looked_up(*variables), params)
    assert stencil is not None
    return stencil


def filled(stencil: Stencil, params: dict[str, Any]) -> Any:
    texts = stencil.texts(params)
    assert texts is not None
    return put_in(stencil.content, texts)


@pytest.mark.parametrize("text", ["", "1", "null", "é", "'{\"", "\\", "\ufdd3", "0\ufdd3", "a b"])
def test_text_takes_the_place_of_what_stands_for_it(text: str) -> None:
    stencil = made({"t": "first", "n": {"m": "second"}}, "t", "n.m", "gone")
    assert filled(stencil, {"t": text, "n": {"m": "x"}}) == {"t": text, "n.m": "x", "gone": None}


def test_many_texts_do_not_take_each_others_places() -> None:
    names = [f"p{number}" for number in range(12)]
    stencil = made(dict.fromkeys(names, ""), *names)
    assert filled(stencil, {name: f"{name}!" for name in names}) == {n: f"{n}!" for n in names}


def test_texts_are_put_into_names_and_lists_and_parts_of_texts() -> None:
    stand_in = f"{STAND_IN}0\ufdd3"
    content = {f"a-{stand_in}": [f"{stand_in}/{stand_in}", 1, None, {"b": stand_in}]}
    assert put_in(content, {stand_in: "x"}) == {"a-x": ["x/x", 1, None, {"b": "x"}]}


def test_what_comes_out_is_a_copy() -> None:
    stencil = cut(lambda: {"a": [{"b": 1}]}, {})
    assert stencil is not None
    filled(stencil, {})["a"][0]["b"] = 2
    assert filled(stencil, {}) == {"a": [{"b": 1}]}


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
        {"t": f"a{STAND_IN}"},
        {"t": "x", "gone": "there"},
    ],
)
def test_stencil_is_none_for_other_kinds_of_parameters(params: dict[str, Any]) -> None:
    assert made({"t": "x"}, "t", "gone").texts(params) is None


@pytest.mark.parametrize("params", [{"t": 1}, {"t": None}, {"t": "???"}, {"t": f"{STAND_IN}0"}])
def test_no_stencil_is_cut_for_what_is_no_text(params: dict[str, Any]) -> None:
    assert cut(lambda: looked_up("t"), params) is None


@pytest.mark.parametrize("variable", ["a b", "a[0]", "", ".a", "a.", "1", "é", "a\n"])
def test_no_stencil_is_cut_for_what_is_no_path(variable: str) -> None:
    assert cut(lambda: looked_up(variable), {"a": "x", variable: "y"}) is None


def test_path_through_what_holds_nothing_is_for_omegaconf() -> None:
    for value in ("text", None, ["x"], 1):
        assert cut(lambda: looked_up("t.a"), {"t": value}) is None
    assert made({"t": {}}, "t.a").content == {"t.a": None}
    assert made({"t.a": "x"}, "t.a").content == {"t.a": None}


def test_no_stencil_is_cut_where_a_text_names_what_is_looked_up() -> None:
    for look in (stand_in_for, refuse_stand_in, note_variable):
        assert cut(lambda look=look: look(f"_{stand_in_for('t')}"), {"t": "x"}) is None


def test_no_stencil_is_cut_of_what_fails() -> None:
    def fail() -> None:
        raise KeyError("a")

    assert cut(fail, {}) is None


def test_stencil_holds_while_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.delenv("GONE", raising=False)
    stencil = cut(lambda: [note_variable("KEPT"), note_variable("GONE")], {})
    assert stencil is not None
    assert stencil.texts({}) == {}
    monkeypatch.setenv("GONE", "")
    assert stencil.texts({}) is None
    monkeypatch.delenv("GONE")
    assert stencil.texts({}) == {}
    monkeypatch.setenv("KEPT", "2")
    assert stencil.texts({}) is None


def test_found_are_the_parameters_that_there_were() -> None:
    assert made({"t": "x", "n": {"m": ""}, "unused": "y"}, "t", "n.m", "gone").found == ["t", "n.m"]


def test_nothing_stands_in_where_no_stencil_is_made() -> None:
    made({"t": "x"}, "t")
    cut(lambda: looked_up("t"), {"t": 1})
    assert stand_in_for("t") is None
    refuse_stand_in(STAND_IN)
    note_variable(f"A{STAND_IN}")
