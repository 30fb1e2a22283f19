"""Settings of the project."""

from unended.nodes import Keeper

KEEPER = Keeper()
HOOKS = (KEEPER,)
