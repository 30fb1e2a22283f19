"""The menu of the pages, to which projects add their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, request

from kedro_flask_server.model.caller import Caller
from kedro_flask_server.web.pages.authenticator import PAGES_BLUEPRINT
from kedro_flask_server.web.routing import path_to

MENU = "kedro_flask_server_menu"
"""Where the pages that projects have added are, in ``app.extensions``."""


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """A page in the menu.

    Attributes:
        title: What it is called.
        endpoint: Its view; without a dot, one of the server's own pages.
        is_for_admin: Whether it is for the scope ``admin`` alone.
    """

    title: str
    endpoint: str
    is_for_admin: bool = False

    def is_for(self, caller: Caller) -> bool:
        """Return whether a caller may open it."""
        return not self.is_for_admin or (caller.may(()) and caller.pipelines is None)

    def shown(self, caller: Caller) -> dict[str, Any]:
        """Return what the menu shows."""
        is_own = "." not in self.endpoint
        path = path_to(f"{PAGES_BLUEPRINT}.{self.endpoint}" if is_own else self.endpoint)
        here = f"{request.script_root}{request.path}"
        is_root = self.endpoint == "now"
        is_here = here == path or (not is_root and here.startswith(f"{path}/"))
        return {"title": self.title, "path": path, "is_here": is_here}


def add_page(blueprint: Blueprint, title: str, endpoint: str) -> None:
    """Add a page of a project's blueprint to the menu of the pages at ``/ui``.

    Its template may extend ``pages/layout.html``, whose block ``content`` it fills.

    Args:
        blueprint: The blueprint, before it is registered (``SERVER_BLUEPRINTS``).
        title: What the page is called.
        endpoint: Its view, such as ``costs.index``.
    """
    entry = MenuEntry(title, endpoint)
    blueprint.record(lambda state: state.app.extensions.setdefault(MENU, []).append(entry))
