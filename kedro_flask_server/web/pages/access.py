"""The page of keys and the audit log, to read."""

from __future__ import annotations

from datetime import datetime, timezone

from flask import Blueprint
from flask.typing import ResponseReturnValue

from kedro_flask_server.errors import ForbiddenError
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.web.authentication import current_caller, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import ROOT
from kedro_flask_server.web.pages.rendering import render

_RECORDS = 200


def add_access(pages: Blueprint, server: KedroServer) -> None:
    """Add the page about who may do what, and who did."""

    @pages.get(f"{ROOT}/access")
    @needs(Scope.ADMIN)
    def access() -> ResponseReturnValue:
        caller = current_caller()
        if caller is not None and caller.pipelines is not None:
            raise ForbiddenError("The audit has all pipelines, and this key is for some.")
        return render(
            "access",
            keys=server.access.keys(),
            audit=server.access.audit(_RECORDS),
            now=datetime.now(timezone.utc),
        )
