"""Which view answers where a project adds a route that the server has, too."""

from __future__ import annotations

import logging
import re
from typing import Any

from flask import Flask, url_for
from werkzeug.routing import Rule

from kedro_flask_server.errors import ServerSettingsError

logger = logging.getLogger(__name__)

OWN_ENDPOINTS = "kedro_server_"
"""What the endpoints of the server's own blueprints begin with."""

KEDRO_PATHS = frozenset({"/health", "/snapshot", "/run", "/openapi.json", "/docs"})
"""The paths of Kedro's own server: clients of Kedro's rely on their answers."""

# With GET, Flask adds both.
_AUTOMATIC = {"HEAD", "OPTIONS"}

_VARIABLE = re.compile(r"<(?:(?P<converter>[^<>:]+):)?[^<>]+>")


class ProjectFirstFlask(Flask):
    """A Flask application in which the project's routes come before the server's own.

    Of two routes alike, the first that was added would answer, and the other never be called.
    """

    def add_url_rule(self, rule: str, endpoint: str | None = None, *args: Any, **more: Any) -> None:
        """Add a route, as Flask does.

        Raises:
            ServerSettingsError: If it is one of Kedro's, and comes from a project.
        """
        before = {id(each) for each in self.url_map.iter_rules()}
        super().add_url_rule(rule, endpoint, *args, **more)
        for added in [*self.url_map.iter_rules()]:
            if id(added) not in before and not added.endpoint.startswith(OWN_ENDPOINTS):
                self._give_way_to(added)

    def _give_way_to(self, added: Rule) -> None:
        for own in self.url_map.iter_rules():
            shared = (own.methods or set()) & (added.methods or set())
            is_own = own.endpoint.startswith(OWN_ENDPOINTS)
            if not is_own or _shape(own) != _shape(added) or not shared - _AUTOMATIC:
                continue
            shown = f"{', '.join(sorted(shared - _AUTOMATIC))} {own.rule}"
            if own.rule in KEDRO_PATHS:
                raise ServerSettingsError(
                    f"The route {shown} of endpoint {added.endpoint!r} is one of Kedro's own "
                    "server, whose clients rely on its answer: choose another path."
                )
            logger.warning(
                "%s is answered by the project's endpoint %r, and no longer by the server's own",
                shown,
                added.endpoint,
            )
            rest = (own.methods or set()) - shared
            own.methods = rest if rest - _AUTOMATIC else set()


def path_to(endpoint: str, **values: Any) -> str:
    """Return the path of a view."""
    # A prefix that a proxy gives may begin with several slashes, which would name a host.
    return "/" + url_for(endpoint, **values).lstrip("/")


def _shape(rule: Rule) -> str:
    """Return a rule's path without the names of its variables."""
    return _VARIABLE.sub(lambda found: f"<{found['converter'] or 'string'}>", rule.rule)
