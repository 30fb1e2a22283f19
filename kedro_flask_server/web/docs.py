"""The API's description: openapi.json, and Swagger UI to read and try it."""

from __future__ import annotations

from importlib.resources import files

from flask import Blueprint, current_app, jsonify, render_template, request, send_from_directory
from flask.typing import ResponseReturnValue

from kedro_flask_server.web.openapi import DOCS_BLUEPRINT, describe


def create_docs_blueprint() -> Blueprint:
    """Return ``/openapi.json`` and ``/docs``.

    The page's addresses are relative, so that it works behind any prefix, and every file comes
    from an installed package, so that it works on a closed network.

    Returns:
        A blueprint; its own routes are not described.
    """
    docs = Blueprint(DOCS_BLUEPRINT, __name__, static_folder="static", template_folder="templates")
    docs.static_url_path = "/docs/page"
    swagger_ui = str(files("flask_swagger_ui") / "dist")

    @docs.get("/openapi.json")
    def openapi() -> ResponseReturnValue:
        return jsonify(describe(current_app, prefix=request.script_root))

    @docs.get("/docs")
    def page() -> ResponseReturnValue:
        return render_template("docs.html")

    @docs.get("/docs/swagger-ui/<path:name>")
    def swagger_ui_file(name: str) -> ResponseReturnValue:
        return send_from_directory(swagger_ui, name)

    return docs
