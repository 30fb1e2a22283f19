"""The API's description: openapi.json, and Swagger UI to read and try it."""

from __future__ import annotations

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

from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.openapi import DOCS_BLUEPRINT, describe
from kedro_flask_server.web.openapi_pipelines import add_pipelines

_STATIC = Path(__file__).parent / "static"

ASSET_FOLDERS = {"page": _STATIC, "swagger-ui": _STATIC / "vendor" / "swagger-ui"}
"""Where the files below ``/docs/<name>`` are."""

_CONTENT_SECURITY_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"


def create_docs_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/openapi.json`` and ``/docs``.

    The page's addresses are relative, so that it works behind any prefix, and every file comes
    with this package, so that it works on a closed network.

    Returns:
        A blueprint; its own routes are not described.
    """
    docs = Blueprint(DOCS_BLUEPRINT, __name__, template_folder="templates")

    @docs.get("/openapi.json")
    @needs()
    def openapi() -> ResponseReturnValue:
        document = describe(current_app, prefix=request.script_root)
        add_pipelines(document, authorized_runs(server.runs).described_pipelines())
        return jsonify(document)

    @docs.get("/docs")
    @needs()
    def page() -> ResponseReturnValue:
        return render_template("docs.html")

    @docs.get("/docs/<any('page', 'swagger-ui'):folder>/<path:name>")
    @needs()
    def file(folder: str, name: str) -> ResponseReturnValue:
        return send_from_directory(ASSET_FOLDERS[folder], name)

    @docs.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
        return response

    return docs
