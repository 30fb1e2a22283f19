"""Sessions of those who look at pages: signed, and worth nothing once their key is."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeTimedSerializer

from kedro_flask_server.access.control import AccessControl
from kedro_flask_server.model.caller import Caller

LONGEST_S = 14 * 24 * 3600
"""How long a session lasts, in seconds."""

_SALT = "kedro-flask-server pages"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSession:
    """Who looks at pages.

    Attributes:
        nonce: Random text, which the forms of this session prove that they know.
        key_id: The id of the API key that was signed in with; None where none is needed.
    """

    nonce: str
    key_id: str | None = None


class PageSessions:
    """Makes and reads sessions; they are in cookies alone."""

    def __init__(self, access: AccessControl, *, project: str, env: str) -> None:
        """Prepare.

        Args:
            access: Knows the keys.
            project: The project's name.
            env: The configuration environment.
        """
        self._access = access
        digest = hashlib.sha256(f"{project}\0{env}".encode()).hexdigest()[:8]
        shown = _NOT_IN_NAMES.sub("-", f"{project}-{env}")[:60]
        self.cookie_name = f"kedro-{shown}-{digest}"
        """The cookie's name: cookies are sent to all ports of a host, and so to all servers."""

    def new(self, key: str | None = None) -> PageSession:
        """Begin a session.

        Args:
            key: The API key that was signed in with.

        Raises:
            UnauthorizedError: If it is not valid.
        """
        key_id = None
        if key is not None:
            key_id = self._access.id_of_key(key.encode("utf-8", "surrogatepass"))
        return PageSession(nonce=secrets.token_urlsafe(18), key_id=key_id)

    def dump(self, session: PageSession) -> str:
        """Return a cookie's value."""
        return str(self._serializer().dumps([session.nonce, session.key_id]))

    def load(self, cookie: str | None) -> PageSession | None:
        """Return the session of a cookie's value; None where it is none, or too old."""
        if not cookie:
            return None
        try:
            nonce, key_id = self._serializer().loads(cookie, max_age=LONGEST_S)
        except (BadData, ValueError, TypeError):
            return None
        return PageSession(nonce=str(nonce), key_id=key_id)

    def caller(self, session: PageSession) -> Caller | None:
        """Return who has a session; None where no key was signed in with.

        Raises:
            UnauthorizedError: If the key is not valid any more.
        """
        return None if session.key_id is None else self._access.caller_with_id(session.key_id)

    def token(self, session: PageSession) -> str:
        """Return what the forms of a session carry, which other sites do not know."""
        key = self._access.page_key().encode()
        return hmac.new(key, f"form {session.nonce}".encode(), hashlib.sha256).hexdigest()

    def is_token(self, session: PageSession, token: str) -> bool:
        """Return whether a form of the session can have carried it."""
        return hmac.compare_digest(self.token(session).encode(), token.encode())

    def _serializer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self._access.page_key(), salt=_SALT)
