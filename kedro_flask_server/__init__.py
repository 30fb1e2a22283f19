"""Serve a Kedro project over HTTP.

The package's surface is :func:`create_http_server`, the application factory, ``__version__``, and
what a project's own views need: to send runs, and to say who may use the server. All are looked up
on first use: Kedro imports this package to list its commands, and ``kedro --help`` must not pay for
Flask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedro_flask_server.app import create_http_server
    from kedro_flask_server.errors import UnauthorizedError
    from kedro_flask_server.model.caller import Caller, Scope
    from kedro_flask_server.model.run import RunRequest, RunStatus
    from kedro_flask_server.project.links import add_link
    from kedro_flask_server.web.authentication import needs
    from kedro_flask_server.web.pages.menu import add_page

    __version__: str

__all__ = [
    "Caller",
    "RunRequest",
    "RunStatus",
    "Scope",
    "UnauthorizedError",
    "__version__",
    "add_link",
    "add_page",
    "create_http_server",
    "needs",
]

_HOMES = {
    "Caller": "model.caller",
    "RunRequest": "model.run",
    "RunStatus": "model.run",
    "Scope": "model.caller",
    "UnauthorizedError": "errors",
    "add_link": "project.links",
    "add_page": "web.pages.menu",
    "create_http_server": "app",
    "needs": "web.authentication",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("kedro-flask-server")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
