"""Settings of the project."""

from unended.nodes import Housekeeper

KEEPER = Housekeeper()
HOOKS = (KEEPER,)
