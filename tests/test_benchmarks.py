"""What benchmarks change in a copy of the package is there to be changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.provenance import copy_without

pytestmark = pytest.mark.once


def test_copy_of_the_package_without_provenance_can_be_made(tmp_path: Path) -> None:
    assert (copy_without(tmp_path) / "kedro_flask_server" / "__init__.py").exists()
