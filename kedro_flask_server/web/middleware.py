"""Where requests may come from: which host they name, which page sent them, through which proxy.

This is WSGI around the application: nothing of a request is looked at before.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from werkzeug.middleware.proxy_fix import ProxyFix

Environ = dict[str, Any]
WSGI = Callable[[Environ, Any], Iterable[bytes]]

UNKNOWN_HOST = "kedro_flask_server.unknown_host"
"""Whether a request names a host that is not this server's, which probes may."""

PROXIED = "kedro_flask_server.proxied"
"""Whether a request says that it came through a proxy, and so may come from anywhere."""

UNIX = "unix"
"""The address of clients of a Unix socket, which have none."""

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
_PREFIX = re.compile(r"((/[A-Za-z0-9._~%-]+)*/?)?")
_SAFE_METHODS = ("GET", "HEAD")
_CORS_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer"
_CORS_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"  # the project's own routes, too
_CORS_EXPOSED = "Idempotent-Replayed, Link, Location, Preference-Applied, Retry-After"
_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_REAL_IP")
_X_FORWARDED = "HTTP_X_FORWARDED_"

# RFC 9110, section 7.6.3, and RFC 8586.
_VIA = ("HTTP_VIA", "HTTP_CDN_LOOP")

# All that nginx says by default (proxy_http_version): connections of HTTP/1.0 end by themselves,
# so that other clients need not ask for it.
_DEFAULT_OF_NGINX = ("HTTP/1.0", "close")

_LOOPBACK_NAME = re.compile(r"localhost|127\.0\.0\.1|\[::1\]")


class HostOriginMiddleware:
    """Refuses requests that name another host, or that another site's page has sent.

    The first is DNS rebinding: a page whose name its owner lets point to this machine. The second
    is cross-site request forgery. Neither needs to be known to anyone.
    """

    def __init__(
        self,
        app: WSGI,
        *,
        allowed_hosts: Sequence[str],
        allowed_origins: Sequence[str],
        any_host_paths: Iterable[str],
        record_refusal: Callable[[str, str], None],
    ) -> None:
        """Put a middleware before an application.

        Args:
            app: The application.
            allowed_hosts: The hosts that requests may name, with a port or for any; ``*`` is any
                host, and ``.example.com`` is all below that.
            allowed_origins: The origins of other sites' pages that may send requests.
            any_host_paths: Paths that are served under any host's name.
            record_refusal: Called with each refusal and the client's address.
        """
        self._app = app
        self._allowed_hosts = [host.lower() for host in allowed_hosts]
        self._allowed_origins = {origin.lower() for origin in allowed_origins}
        self._any_host_paths = frozenset(any_host_paths)
        self._note_refusal = record_refusal

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Serve a request, or refuse it with 403."""
        host = environ.get("HTTP_HOST", "").lower()
        is_allowed_host = self._is_allowed_host(host) or _is_local(environ, host)
        environ[UNKNOWN_HOST] = not is_allowed_host
        if not is_allowed_host and environ.get("PATH_INFO") not in self._any_host_paths:
            shown = json.dumps(host[:100])
            return self._refuse(
                environ,
                start_response,
                f"The Host {shown} is not a name of this server: the setting allowed_hosts "
                "lists its names.",
            )
        origin = environ.get("HTTP_ORIGIN", "").lower()
        is_own = not origin or _is_origin_of(origin, host)
        is_allowed = origin in self._allowed_origins
        if environ.get("REQUEST_METHOD") not in _SAFE_METHODS and not is_allowed:
            is_cross_site = environ.get("HTTP_SEC_FETCH_SITE", "").lower() == "cross-site"
            if not is_own or is_cross_site:
                return self._refuse(
                    environ,
                    start_response,
                    "This request comes from another site's page (setting allowed_origins).",
                )
        if not self._allowed_origins:
            return self._app(environ, start_response)
        return self._serve_other_sites(environ, start_response, is_allowed=is_allowed)

    def _refuse(self, environ: Environ, start_response: Any, detail: str) -> Iterable[bytes]:
        what = f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}: {detail}"
        self._note_refusal(what, environ.get("REMOTE_ADDR") or "")
        body = json.dumps({"detail": detail}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("403 Forbidden", headers)
        return [body]

    def _is_allowed_host(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:  # none, several, or what is no host
            return False
        name = found["name"].removesuffix(".")
        return any(
            allowed in ("*", host, name) or (allowed.startswith(".") and name.endswith(allowed))
            for allowed in self._allowed_hosts
        )

    def _serve_other_sites(
        self, environ: Environ, start_response: Any, *, is_allowed: bool
    ) -> Iterable[bytes]:
        """Serve where pages of other sites may ask (https://fetch.spec.whatwg.org/#http-cors-protocol)."""
        headers = [("Vary", "Origin")]
        if is_allowed:
            headers += [
                ("Access-Control-Allow-Origin", environ["HTTP_ORIGIN"]),
                ("Access-Control-Expose-Headers", _CORS_EXPOSED),
            ]
        is_preflight = "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        if is_allowed and environ.get("REQUEST_METHOD") == "OPTIONS" and is_preflight:
            headers += [
                ("Access-Control-Allow-Methods", _CORS_METHODS),
                ("Access-Control-Allow-Headers", _CORS_HEADERS),
                ("Content-Length", "0"),
            ]
            start_response("204 No Content", headers)
            return []

        def start(status: str, own: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*own, *headers], *rest)

        return self._app(environ, start)


class TrustedProxies:
    """Believes what proxies say that are known, and drops what others say in their stead."""

    def __init__(self, app: WSGI, proxies: Sequence[str]) -> None:
        """Put this before an application.

        Args:
            app: The application.
            proxies: The addresses or networks of the proxies; `UNIX` for those on a Unix socket.
        """
        self._app = app
        # One proxy each: of a list of addresses, the last is the one that it has seen itself.
        self._behind_proxy = ProxyFix(app, x_for=1, x_proto=1, x_host=0, x_port=0, x_prefix=1)
        self._networks = [ipaddress.ip_network(each) for each in proxies if each != UNIX]
        self._trusts_unix = UNIX in proxies

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Serve a request."""
        environ[PROXIED] = _says_it_was_forwarded(environ)
        if self._is_trusted(environ.get("REMOTE_ADDR") or ""):
            if not _PREFIX.fullmatch(environ.get("HTTP_X_FORWARDED_PREFIX", "")):
                del environ["HTTP_X_FORWARDED_PREFIX"]
            return self._behind_proxy(environ, start_response)
        for name in [*environ]:
            if name.startswith(_X_FORWARDED) or name in _FORWARDED:
                del environ[name]
        return self._app(environ, start_response)

    def _is_trusted(self, address: str) -> bool:
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:  # a Unix socket has none; waitress calls it "localhost"
            return self._trusts_unix
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self._networks)


def _says_it_was_forwarded(environ: Environ) -> bool:
    if (environ.get("SERVER_PROTOCOL"), environ.get("HTTP_CONNECTION", "").lower()) == (
        _DEFAULT_OF_NGINX
    ):
        return True
    return any(name.startswith(_X_FORWARDED) or name in (*_FORWARDED, *_VIA) for name in environ)


def _is_local(environ: Environ, host: str) -> bool:
    """Return whether a program on this machine asks this machine, by one of its own names.

    A page whose name its owner lets point to this machine names itself.
    """
    found = _HOST.fullmatch(host)
    if found is None or not _LOOPBACK_NAME.fullmatch(found["name"]) or environ.get(PROXIED):
        return False
    try:
        return ipaddress.ip_address(environ.get("REMOTE_ADDR") or "").is_loopback
    except ValueError:  # a Unix socket has no address
        return False


def _is_origin_of(origin: str, host: str) -> bool:
    """Return whether an origin is that of a host's pages; a proxy may change the scheme."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False
