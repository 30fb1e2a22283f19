"""A text is parsed once, and no answer is stale."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader, omegaconf_config
from omegaconf import OmegaConf
from yaml.parser import ParserError

from kedro_flask_server.project.configuration.isolated_loader import isolated
from kedro_flask_server.project.configuration.yaml_cache import (
    _MAX_INTERPOLATION_CHARS,
    _tree_of,
    parsed,
)

TEXT = "n: 1\nnested: {list: [1, {a: '${n}'}], text: '1e3', missing: '???'}\n"


pytestmark = pytest.mark.usefixtures("parsing")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    base = tmp_path / "conf/base"
    base.mkdir(parents=True)
    (base / "parameters.yml").write_text("n: 1\n")
    (base / "parameters_more.yml").write_text("m: '${n}'\n")
    return tmp_path / "conf"


def load(conf: Path) -> Any:
    loader = isolated(OmegaConfigLoader)(str(conf), base_env="base", default_run_env="base")
    return loader["parameters"]


def test_files_are_parsed_once_and_again_when_they_change(conf: Path) -> None:
    for _ in range(5):
        assert load(conf) == {"n": 1, "m": 1}
    assert parsed.cache_info().misses == 2
    file = conf / "base/parameters.yml"
    before = file.stat()
    file.write_text("n: 2\n")  # of the same size, and at the same time
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(conf) == {"n": 2, "m": 2}
    assert parsed.cache_info().misses == 3
    (conf / "base/parameters_new.yml").write_text("k: 3\n")
    assert load(conf) == {"n": 2, "m": 2, "k": 3}
    file.write_text("n: 4\n")
    (conf / "base/parameters_new.yml").unlink()
    assert load(conf) == {"n": 4, "m": 4}


def test_change_in_an_archive_is_seen(conf: Path, tmp_path: Path) -> None:
    archive = tmp_path / "conf.zip"
    for number in (1, 2):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("conf/base/parameters.yml", f"n: {number}\n")
        assert load(archive) == {"n": number}


@pytest.mark.parametrize(
    "text", [TEXT, "- 1\n- {a: b}\n", "word", "", "# nothing\n", "{}", "a: 2020-01-01"]
)
def test_what_comes_out_is_what_omegaconf_reads(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yml"
    path.write_text(text)
    for _ in range(2):
        with path.open() as file:
            found = omegaconf_config.OmegaConf.load(io.StringIO(file.read()))
        expected = OmegaConf.load(path)
        assert type(found) is type(expected)
        assert found == expected


def test_what_one_changes_another_does_not_see() -> None:
    first = omegaconf_config.OmegaConf.load(io.StringIO(TEXT))
    first.nested.list[1].a = "changed"
    first.new = True
    second = omegaconf_config.OmegaConf.load(io.StringIO(TEXT))
    assert "new" not in second
    assert second.nested.list[1].a == 1


def test_broken_file_fails_each_time_with_its_place(conf: Path) -> None:
    (conf / "base/parameters.yml").write_text("n: [1\nm: 2\n")
    for _ in range(2):
        with pytest.raises(ParserError, match=r"parameters\.yml"):
            load(conf)


def test_interpolation_is_parsed_once_unless_it_is_long() -> None:
    _tree_of.cache_clear()
    for _ in range(3):
        assert OmegaConf.create({"a": 1, "b": "x-${a}-${a}"}).b == "x-1-1"
    assert _tree_of.cache_info().misses == 1
    long = "x" * _MAX_INTERPOLATION_CHARS
    assert OmegaConf.create({"a": 1, "b": long + "${a}"}).b == long + "1"
    assert _tree_of.cache_info().currsize == 1
