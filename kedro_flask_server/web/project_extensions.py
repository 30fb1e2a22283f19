"""What the project adds to the server by names in its settings.py: blueprints, a login."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flask import Blueprint, Flask

from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.web.authentication import Authenticator


def register_project_blueprints(app: Flask, import_paths: object) -> None:
    """Register the blueprints that the project names in ``SERVER_BLUEPRINTS``.

    Args:
        app: The application.
        import_paths: A list such as ``["my_project.api:bp"]``.

    Raises:
        ServerSettingsError: If it is not, or one cannot be imported or registered.
    """
    if not isinstance(import_paths, (list, tuple)):
        raise ServerSettingsError(
            f"SERVER_BLUEPRINTS in settings.py cannot be {import_paths!r}: it takes a list of "
            "import paths such as 'my_project.api:bp'."
        )
    for import_path in import_paths:
        blueprint = _load_blueprint(import_path)
        try:
            app.register_blueprint(blueprint)
        except ValueError as error:  # another of that name
            raise ServerSettingsError(
                f"SERVER_BLUEPRINTS in settings.py names {import_path!r}: {error}"
            ) from error


def load_authenticator(import_path: object) -> Authenticator | None:
    """Return the authenticator that the project names in ``SERVER_AUTHENTICATOR``; None for none.

    Args:
        import_path: Such as ``my_project.auth:CompanyLogin``, of a class or an object.

    Raises:
        ServerSettingsError: If it cannot be imported or made, or has no ``authenticate``.
    """
    if import_path is None:
        return None
    setting = "SERVER_AUTHENTICATOR"
    authenticator = _load(setting, import_path, such_as="my_project.auth:CompanyLogin")
    try:
        authenticator = authenticator() if isinstance(authenticator, type) else authenticator
    except Exception as error:  # it is the project's: it can raise anything
        raise ServerSettingsError(
            f"{setting} in settings.py names {import_path!r}, which cannot be made "
            f"({type(error).__qualname__}: {error})."
        ) from error
    if not callable(getattr(authenticator, "authenticate", None)):
        raise ServerSettingsError(
            f"{setting} in settings.py names {import_path!r}, which has no method "
            "authenticate(request)."
        )
    found: Authenticator = authenticator
    return found


def _load(setting: str, import_path: object, *, such_as: str) -> Any:
    """Return what is at an import path that a setting names, such as ``my_project.api:bp``."""
    module_name, _, name = str(import_path).partition(":")
    try:
        return getattr(import_module(module_name), name)
    except Exception as error:  # the module is the project's: it can raise anything
        raise ServerSettingsError(
            f"{setting} in settings.py names {import_path!r}, which cannot be imported "
            f"({type(error).__qualname__}: {error}). It takes import paths such as {such_as!r}."
        ) from error


def _load_blueprint(import_path: str) -> Blueprint:
    blueprint = _load("SERVER_BLUEPRINTS", import_path, such_as="my_project.api:bp")
    if not isinstance(blueprint, Blueprint):
        raise ServerSettingsError(
            f"SERVER_BLUEPRINTS in settings.py names {import_path!r}, which is no flask.Blueprint "
            f"but {type(blueprint).__qualname__}."
        )
    return blueprint
