"""The application factory: puts a project, its runs and their HTTP together."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask

from kedro_flask_server.access.api_keys import KeyFile
from kedro_flask_server.access.control import AccessControl
from kedro_flask_server.bootstrap import OpenedProject, open_project, worker_settings
from kedro_flask_server.config.settings import (
    LOOPBACK_HOSTS,
    ServerConfig,
    unknown_pipelines,
)
from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.executors.factory import ExecutorParts, create_executor
from kedro_flask_server.logs import draw_for_terminals_only, make_records_safe
from kedro_flask_server.project import KedroProject
from kedro_flask_server.runs.factory import create_run_service
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.store import Database, RunStore, locate
from kedro_flask_server.store.api_keys import AccessStore
from kedro_flask_server.web.admission import Admission, create_admission
from kedro_flask_server.web.authentication import Authenticator, register_authentication
from kedro_flask_server.web.core import create_core_blueprint
from kedro_flask_server.web.docs import create_docs_blueprint
from kedro_flask_server.web.errors import register_error_handlers
from kedro_flask_server.web.events import create_events_blueprint
from kedro_flask_server.web.health import HEALTH_ENDPOINTS, HEALTH_PATHS, create_health_blueprint
from kedro_flask_server.web.middleware import WSGI, HostOriginMiddleware, TrustedProxies
from kedro_flask_server.web.routing import ProjectFirstFlask
from kedro_flask_server.web.runs import create_runs_blueprint
from kedro_flask_server.web.streams import EventStreams

if TYPE_CHECKING:
    from kedro_flask_server.workers.handles import TemplateHandle

EXTENSION = "kedro_flask_server"

STATE_DIR = ".kedro_server"
"""The folder of a project in which its server keeps its runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KedroServer:
    """What an application made by `create_http_server` is made of.

    It is in ``app.extensions["kedro_flask_server"]``.

    Attributes:
        config: The settings.
        project: The project that is served.
        runs: Takes runs, over HTTP or from a view of your own.
        access: Knows who may do so.
        refuse: Answers a request by its headers, where its caller is not let in.
    """

    config: ServerConfig
    project: KedroProject
    runs: RunService
    access: AccessControl
    refuse: Admission


def create_http_server(
    project_path: str | Path | None = None,
    env: str | None = None,
    conf_source: str | Path | None = None,
    **settings: object,
) -> Flask:
    """Return a WSGI application that serves a Kedro project.

    It bootstraps the project and, where runs execute in threads, loads its pipelines; it starts
    no thread and no process and handles no request, so that routes, blueprints and middleware can
    be added to what it returns, and a server can fork after it. A project whose pipelines cannot
    be loaded is served all the same: `/run` and `/snapshot` say why, and every request tries
    again.

    Args:
        project_path: The project's folder; by default ``KEDRO_PROJECT_PATH``.
        env: Kedro's configuration environment; by default ``KEDRO_SERVER_ENV``, then
            ``KEDRO_ENV``, then the project's own default.
        conf_source: The configuration's folder or archive; by default
            ``KEDRO_SERVER_CONF_SOURCE``, then the project's own.
        **settings: Any other setting of `kedro_flask_server.config.settings.ServerConfig`.

    Returns:
        The application.

    Raises:
        ServerSettingsError: If the project is missing or cannot be opened, a setting is unknown
            or has a value that is not allowed, or a blueprint of ``SERVER_BLUEPRINTS`` cannot
            be imported.
    """
    arguments = {"env": env, "conf_source": conf_source, **settings}
    return build_app(open_project(project_path, arguments))


def build_app(opened: OpenedProject, *, template: TemplateHandle | None = None) -> Flask:
    """Return the application for a project that is open, as `create_http_server` does.

    Args:
        opened: The project and the settings.
        template: The process that its workers come from, if that was started ahead.
    """
    project, config = opened.project, opened.config
    project.refuse_unknown_env()
    database = _locate_database(opened)
    make_records_safe(project.safe_text)
    draw_for_terminals_only(config.log_format)
    store = RunStore(database, project=project.name, env=project.env)
    authenticator = _load_authenticator(project.setting("SERVER_AUTHENTICATOR", None))
    access = AccessControl(
        AccessStore(database, project=project.name, env=project.env),
        key_file=KeyFile(Path(config.api_keys_file)) if config.api_keys_file else None,
        allow_anonymous=config.allow_anonymous,
        has_other_scheme=authenticator is not None,
        is_reached_through_proxy=config.allowed_hosts != LOOPBACK_HOSTS
        or bool(config.trusted_proxies),
        expose_messages=config.expose_error_messages,
    )
    project.warn_of_unused_settings()
    parts = ExecutorParts(
        project=project,
        config=config,
        worker_settings=lambda: worker_settings(opened),
        template=template,
    )
    executor = create_executor(parts)
    wrong = unknown_pipelines(config, executor.pipelines())
    if wrong is not None:
        raise ServerSettingsError(wrong)
    runs = create_run_service(
        store,
        executor,
        config,
        maintenance_tasks=[access],
        fingerprint=project.fingerprint,
    )

    app = ProjectFirstFlask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]

    def behind_middleware(wsgi: WSGI) -> WSGI:
        middleware = HostOriginMiddleware(
            wsgi,
            allowed_hosts=config.allowed_hosts,
            allowed_origins=config.allowed_origins,
            any_host_paths=HEALTH_PATHS,
            record_refusal=lambda what, address: access.record_refusal("", what, address),
        )
        return TrustedProxies(middleware, config.trusted_proxies)

    app.wsgi_app = behind_middleware(app.wsgi_app)  # type: ignore[assignment,method-assign]
    register_error_handlers(app)
    public = {*HEALTH_ENDPOINTS, *config.public_endpoints}
    admit = register_authentication(app, access, public=public, authenticator=authenticator)
    app.extensions[EXTENSION] = KedroServer(
        config=config,
        project=project,
        runs=runs,
        access=access,
        refuse=create_admission(app, admit, behind=behind_middleware),
    )
    max_wait_s = config.max_sync_wait_s
    app.register_blueprint(create_health_blueprint(runs, kedro_version=project.kedro_version))
    app.register_blueprint(
        create_core_blueprint(
            runs,
            max_waiting=config.max_waiting,
            max_wait_s=max_wait_s,
            allow_interpolation=config.allow_param_interpolation,
        )
    )
    app.register_blueprint(create_runs_blueprint(runs, max_wait_s=max_wait_s))
    streams = EventStreams(limit=config.max_streams)
    app.register_blueprint(create_events_blueprint(runs, streams))
    app.register_blueprint(create_docs_blueprint())
    _register_blueprints(app, project.setting("SERVER_BLUEPRINTS", ()))
    return app


def open_access_store(project_path: str | Path | None, *, env: str | None) -> AccessStore:
    """Return the keys and the audit of a project's server, which need not run.

    Args:
        project_path: As for `create_http_server`.
        env: As for `create_http_server`.

    Raises:
        ServerSettingsError: As for `create_http_server`, or if the database cannot be used.
        StoreUnavailableError: If the database cannot be reached.
    """
    opened = open_project(project_path, {"env": env})
    project = opened.project
    store = AccessStore(_locate_database(opened), project=project.name, env=project.env)
    store.open()
    return store


def _locate_database(opened: OpenedProject) -> Database:
    config = opened.config
    state_dir = Path(config.state_dir or opened.project.path / STATE_DIR)
    return Database(locate(config.database_url, state_dir))


def _register_blueprints(app: Flask, import_paths: object) -> None:
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


def _load_authenticator(import_path: object) -> Authenticator | None:
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
