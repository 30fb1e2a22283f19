"""Serve a Kedro project over HTTP.

The package's surface is :func:`create_http_server`, the application factory, and
``__version__``. Both are looked up on first use: Kedro imports this package to list its
commands, and ``kedro --help`` must not pay for Flask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedro_flask_server.app import create_http_server

    __version__: str

__all__ = ["__version__", "create_http_server"]


def __getattr__(name: str) -> Any:
    if name == "create_http_server":
        from kedro_flask_server.app import create_http_server

        return create_http_server
    if name == "__version__":
        from importlib.metadata import version

        return version("kedro-flask-server")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
