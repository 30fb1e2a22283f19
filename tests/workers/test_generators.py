"""Random generators: which of them the import of a project has seeded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_app import python

# In a process of its own: what is watched is for the whole process, and NumPy must not have been
# imported.
WATCHING = """
import json
from kedro_flask_server.workers.generators import Generators
generators = Generators()
generators.watch()
{imported}
generators.settle()
told = []
for _ in range(2):  # as in two workers
    generators.renew()
    told.append({drawn})
print(json.dumps(told))
"""

GLOBAL = "[random.random(), float(np.random.rand())]"
DRAWS = "[random.random() for _ in range(10_000)]; np.random.rand(10_000)"


@pytest.mark.parametrize(
    ("imported", "drawn", "are_same"),
    [
        ("random.seed(1); np.random.seed(1)", GLOBAL, [True, True]),
        (f"{DRAWS}; random.seed(1); np.random.seed(1); {DRAWS}", GLOBAL, [True, True]),
        ("random.seed(1)", GLOBAL, [True, False]),
        (DRAWS, GLOBAL, [False, False]),
        (f"random.seed(1); random.seed(); np.random.seed(); {DRAWS}", GLOBAL, [False, False]),
        (
            "state = random.getstate(), np.random.get_state(); random.seed(1); np.random.seed(1); "
            "random.setstate(state[0]); np.random.set_state(state[1])",
            GLOBAL,
            [False, False],
        ),
        (
            "own = random.Random(), np.random.default_rng(), np.random.RandomState()",
            "[own[0].random(), own[1].random(), own[2].rand()]",
            [False, False, False],
        ),
    ],
)
def test_what_was_seeded_is_the_same_in_each_worker_and_nothing_else(
    tmp_path: Path, imported: str, drawn: str, are_same: list[bool]
) -> None:
    imported = f"import random; import numpy as np; {imported}"
    first, second = json.loads(python(WATCHING.format(imported=imported, drawn=drawn), tmp_path))
    assert [a == b for a, b in zip(first, second, strict=True)] == are_same


def test_seeded_generator_of_its_own_stays_as_it_is(tmp_path: Path) -> None:
    imported = "import random; import numpy as np; own = random.Random(5), np.random.default_rng(5)"
    drawn = "[own[0].random(), own[1].random()]"
    untouched = python(f"import json; {imported}; print(json.dumps([{drawn}, {drawn}]))", tmp_path)
    assert python(WATCHING.format(imported=imported, drawn=drawn), tmp_path) == untouched
