"""What an application is made of, which its blueprints are given."""

from __future__ import annotations

from dataclasses import dataclass

from kedro_flask_server.access.control import AccessControl
from kedro_flask_server.access.page_sessions import PageSessions
from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.project import KedroProject
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.web.early_refusal import EarlyRefusal

EXTENSION = "kedro_flask_server"
"""Where it is in ``app.extensions``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KedroServer:
    """What an application made by `create_http_server` is made of.

    It is in ``app.extensions["kedro_flask_server"]``.

    Attributes:
        config: The settings.
        project: The project that is served.
        runs: Takes runs, over HTTP or from a view of your own.
        access: Knows who may do so.
        sessions: The sessions of those who look at pages.
        refuse: Answers a request by its headers, where its caller is not let in.
    """

    config: ServerConfig
    project: KedroProject
    runs: RunService
    access: AccessControl
    sessions: PageSessions
    refuse: EarlyRefusal
