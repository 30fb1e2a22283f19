"""Random generators in workers: in the state in which the project's import left them."""

from __future__ import annotations

import gc
import random
import secrets
import sys
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

# Words of a Mersenne Twister's state, and how many regenerations drawing may have caused: more than
# a million numbers of a global generator, a hundred thousand of another.
_WORDS = 624
_MAX_CHANGES = 2_000
_MAX_CHANGES_OF_OTHERS = 200


class Generators:
    """Distinguishes generators that importing the project has seeded from those that it has not.

    A generator is seeded if drawing numbers cannot explain its state: states of ``random`` and of
    NumPy's global generator are compared with the successors of their origins. Where the project
    asks for a random seed (``random.seed()``, ``numpy.random.default_rng()``), that is a new
    origin.
    """

    def __init__(self) -> None:
        """Prepare; `watch` begins to record."""
        self._origins: WeakKeyDictionary[random.Random, Any] = WeakKeyDictionary()
        self._entropies: set[int] = set()
        self._state: Any = None
        self._numpy_state: Any = None
        self._unseeded: list[random.Random] = []
        self._unseeded_of_numpy: list[Any] = []
        self._original: Any = None

    def watch(self) -> None:
        """Begin to record origins, before the project is imported."""
        self._original = random.Random.seed, random.seed, secrets.randbits
        seed_method, _, draw = self._original
        shared = _shared()

        def seed(generator: random.Random, a: Any = None, version: int = 2) -> None:
            seed_method(generator, a, version)
            if a is None:
                with suppress(Exception):  # of a class that has no such state
                    self._origins[generator] = generator.getstate()

        def randbits(k: int) -> int:
            value: int = draw(k)
            self._entropies.add(value)
            return value

        random.Random.seed = seed  # type: ignore[method-assign,assignment]
        random.seed = shared.seed
        secrets.randbits = randbits  # NumPy imports it from there
        random.seed()

    def settle(self) -> None:
        """Stop recording after all imports, and determine which generators are seeded."""
        random.Random.seed, random.seed, secrets.randbits = self._original  # type: ignore[method-assign]
        shared = _shared()
        for generator, origin in self._origins.items():
            changes = _MAX_CHANGES if generator is shared else _MAX_CHANGES_OF_OTHERS
            if _follows(generator.getstate(), origin, changes):
                self._unseeded.append(generator)
        if shared not in self._unseeded:
            self._state = random.getstate()
        if "numpy.random" in sys.modules:
            self._settle_numpy(sys.modules["numpy.random"])
        self._origins.clear()

    def _settle_numpy(self, numpy_random: Any) -> None:
        shared = numpy_random.mtrand._rand._bit_generator
        for each in gc.get_objects():
            # Looking at the class alone executes no code of the object.
            if issubclass(type(each), numpy_random.BitGenerator) and self._is_unseeded(each):
                self._unseeded_of_numpy.append(each)
        if not any(each is shared for each in self._unseeded_of_numpy):
            self._numpy_state = numpy_random.get_state(legacy=False)

    def _is_unseeded(self, bit_generator: Any) -> bool:
        kind = type(bit_generator)
        sequence = getattr(bit_generator, "_seed_seq", None)
        origins = self._entropies
        if sequence is not None:
            if sequence.entropy not in origins:
                return False
            if kind.__name__ != "MT19937":
                return True
            return _numpy_follows(bit_generator.state, kind(sequence), _MAX_CHANGES)
        # numpy.random.seed() stores no sequence.
        changes = _MAX_CHANGES_OF_OTHERS
        return any(_numpy_follows(bit_generator.state, kind(each), changes) for each in origins)

    def renew(self) -> None:
        """Restore seeded generators, and seed the others differently in each worker."""
        for generator in self._unseeded:
            generator.seed()
        if self._state is not None:
            random.setstate(self._state)
        for each in self._unseeded_of_numpy:
            each.state = type(each)().state
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None and self._numpy_state is not None:
            numpy_random.set_state(self._numpy_state)


def _shared() -> random.Random:
    """Return the generator behind the functions of ``random``."""
    generator: random.Random = random.random.__self__  # type: ignore[attr-defined]
    return generator


def _follows(state: Any, origin: Any, changes: int) -> bool:
    """Return whether drawing numbers can lead from a state of ``random`` to another."""
    wanted = state[1][:_WORDS]
    if origin[1][:_WORDS] == wanted:
        return True
    generator = random.Random()  # noqa: S311  not a secret
    generator.setstate(origin)
    for _ in range(changes):
        generator.getrandbits(32 * _WORDS)
        if generator.getstate()[1][:_WORDS] == wanted:
            return True
    return False


def _numpy_follows(state: Any, bit_generator: Any, changes: int) -> bool:
    """Return whether drawing numbers can lead from a generator's state to another."""
    wanted = state["state"]["key"]
    for _ in range(changes):
        if (bit_generator.state["state"]["key"] == wanted).all():
            return True
        bit_generator.random_raw(_WORDS, output=False)
    return False
