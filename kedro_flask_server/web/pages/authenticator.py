"""Callers who have signed in on a page."""

from __future__ import annotations

from werkzeug.wrappers import Request

from kedro_flask_server.access.page_sessions import PageSessions
from kedro_flask_server.model.caller import Caller

PAGES_BLUEPRINT = "kedro_server_pages"
ROOT = "/ui"
"""Where pages are; a session counts below it alone, so that no cookie starts a run by the API."""

PUBLIC_PAGES = tuple(f"{PAGES_BLUEPRINT}.{name}" for name in ("sign_in", "file"))
"""The endpoints that are open to all."""


def is_page(path: str) -> bool:
    """Return whether a path is that of a page."""
    return path == ROOT or path.startswith(f"{ROOT}/")


class PageAuthenticator:
    """Knows callers by the session in their cookie."""

    def __init__(self, sessions: PageSessions) -> None:
        """Prepare."""
        self._sessions = sessions

    def authenticate(self, request: Request) -> Caller | None:
        """Return who has signed in; None on other paths than pages', and without a session.

        Raises:
            UnauthorizedError: If the key of the session is not valid any more.
            StoreUnavailableError: If that cannot be found out.
        """
        cookie = request.cookies.get(self._sessions.cookie_name)
        if cookie is None or not is_page(request.path):
            return None
        session = self._sessions.load(cookie)
        return None if session is None else self._sessions.caller(session)
