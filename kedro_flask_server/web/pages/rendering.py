"""Renders pages: whole, or the part that a page asks for again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from flask import Response, render_template, request

from kedro_flask_server import __version__
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.text import printable
from kedro_flask_server.web.authentication import current_caller


def render(template: str, /, *, status: int = 200, **context: Any) -> Response:
    """Return a page.

    Args:
        template: The template, below ``pages``.
        status: The status of the answer.
        context: What the template needs.
    """
    is_part = bool(request.headers.get("HX-Request"))
    layout = "pages/part.html" if is_part else "pages/layout.html"
    text = printable(render_template(f"pages/{template}.html", layout=layout, **context))
    response = Response(text, status=status, mimetype="text/html")
    response.vary.add("HX-Request")
    return response


def render_live(template: str, state: str, make: Callable[[], dict[str, Any]]) -> Response:
    """Return a page whose list is asked for again and again.

    Args:
        template: The template, below ``pages``; its list carries ``etag``.
        state: What it depends on.
        make: Returns what the template needs.

    Returns:
        The page; 304 where the request has it (``If-None-Match``, RFC 9110).
    """
    caller = current_caller()
    seen = (
        state,
        None
        if caller is None
        else (caller.name, sorted(map(str, caller.scopes)), caller.pipelines, caller.sees_messages),
        request.full_path,
        SECRETS.version,
        __version__,
    )
    etag = hashlib.blake2b(repr(seen).encode(), digest_size=12).hexdigest()
    if etag in request.if_none_match:
        return Response(status=304)
    response = render(template, etag=etag, **make())
    response.set_etag(etag)
    return response
