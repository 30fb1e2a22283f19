"""The API's description: openapi.json, and Swagger UI to read and try it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    render_template,
    request,
    send_from_directory,
)
from flask.typing import ResponseReturnValue

from kedro_flask_server.web.authentication import needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.openapi import DOCS_BLUEPRINT, describe

_CONTENT_SECURITY_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"


def create_docs_blueprint(_: KedroServer) -> Blueprint:
    """Return the blueprint of ``/openapi.json`` and ``/docs``.

    The page's addresses are relative, so that it works behind any prefix, and every file comes
    from an installed package, so that it works on a closed network.

    Returns:
        A blueprint; its own routes are not described.
    """
    docs = Blueprint(DOCS_BLUEPRINT, __name__, template_folder="templates")
    folders = {
        "page": str(Path(__file__).parent / "static"),
        "swagger-ui": str(files("flask_swagger_ui") / "dist"),
    }

    @docs.get("/openapi.json")
    @needs()
    def openapi() -> ResponseReturnValue:
        return jsonify(describe(current_app, prefix=request.script_root))

    @docs.get("/docs")
    @needs()
    def page() -> ResponseReturnValue:
        return render_template("docs.html")

    @docs.get("/docs/<any('page', 'swagger-ui'):folder>/<path:name>")
    @needs()
    def file(folder: str, name: str) -> ResponseReturnValue:
        return send_from_directory(folders[folder], name)

    @docs.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
        return response

    return docs
