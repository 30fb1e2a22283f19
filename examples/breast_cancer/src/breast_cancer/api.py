"""An endpoint of the project's own, beside the server's."""

import json
from pathlib import Path

from flask import Blueprint, abort, current_app

blueprint = Blueprint("scores", __name__)


@blueprint.get("/scores/<model>")
def get_scores(model: str):
    """Get the latest scores of a model.

    They are there once the `evaluation` pipeline has run.
    """
    project = current_app.extensions["kedro_flask_server"].project
    path = Path(project.path, "data", "metrics", f"{model}.json")
    if model not in ("forest", "linear") or not path.exists():
        abort(404, f"There are no scores of a model called {model!r} yet.")
    return json.loads(path.read_text())
