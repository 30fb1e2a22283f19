"""The application factory: combines a project, its runs and their HTTP interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, request

from kedro_flask_server.access.api_keys import KeyFile
from kedro_flask_server.access.control import AccessControl
from kedro_flask_server.access.page_sessions import PageSessions
from kedro_flask_server.bootstrap import (
    OpenedProject,
    data_url,
    open_project,
    state_dir,
    warn_of_data_apart,
    worker_settings,
)
from kedro_flask_server.config.settings import (
    LOOPBACK_HOSTS,
    ServerConfig,
    unknown_pipelines,
)
from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.executors import Executor
from kedro_flask_server.executors.factory import ExecutorParts, create_executor
from kedro_flask_server.logs import draw_for_terminals_only, make_records_safe
from kedro_flask_server.model.executors import PROCESSES
from kedro_flask_server.run_files import RunFiles
from kedro_flask_server.runs.factory import create_run_service
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.store import Database, RunStore, locate
from kedro_flask_server.store.api_keys import AccessStore
from kedro_flask_server.web.authentication import Authenticator, register_authentication
from kedro_flask_server.web.core import create_core_blueprint
from kedro_flask_server.web.data_forms import refuse_data_early
from kedro_flask_server.web.docs import create_docs_blueprint
from kedro_flask_server.web.early_refusal import EarlyRefusal, create_early_refusal
from kedro_flask_server.web.errors import register_error_handlers
from kedro_flask_server.web.events import create_events_blueprint
from kedro_flask_server.web.health import HEALTH_ENDPOINTS, HEALTH_PATHS, create_health_blueprint
from kedro_flask_server.web.kedro_server import EXTENSION, KedroServer
from kedro_flask_server.web.middleware import WSGI, HostOriginMiddleware, TrustedProxies
from kedro_flask_server.web.outputs import create_outputs_blueprint
from kedro_flask_server.web.pages.authenticator import PUBLIC_PAGES, PageAuthenticator
from kedro_flask_server.web.pages.blueprint import register_pages
from kedro_flask_server.web.pipelines import create_pipelines_blueprint
from kedro_flask_server.web.project_extensions import (
    load_authenticator,
    register_project_blueprints,
)
from kedro_flask_server.web.queue import create_queue_blueprint
from kedro_flask_server.web.retry import create_retry_blueprint
from kedro_flask_server.web.routing import ProjectFirstFlask
from kedro_flask_server.web.runs import create_runs_blueprint
from kedro_flask_server.web.served import create_served_blueprint

if TYPE_CHECKING:
    from kedro_flask_server.workers.handles import TemplateHandle

BLUEPRINTS = (
    create_health_blueprint,
    create_core_blueprint,
    create_runs_blueprint,
    create_retry_blueprint,
    create_pipelines_blueprint,
    create_served_blueprint,
    create_outputs_blueprint,
    create_queue_blueprint,
    create_events_blueprint,
    create_docs_blueprint,
)
"""The factories of the server's own blueprints; a project's come after them."""


def create_http_server(
    project_path: str | Path | None = None,
    env: str | None = None,
    conf_source: str | Path | None = None,
    **settings: object,
) -> Flask:
    """Return a WSGI application that serves a Kedro project.

    It bootstraps the project and, if runs execute in threads, loads its pipelines; it starts no
    thread or process and handles no request, so that routes, blueprints and middleware can be added
    to the result, and a server can fork after it. A project whose pipelines cannot be loaded is
    served nevertheless: `/run` and `/snapshot` report why, and every request tries again.

    Args:
        project_path: The project's folder; by default ``KEDRO_PROJECT_PATH``.
        env: Kedro's configuration environment; by default ``KEDRO_SERVER_ENV``, then ``KEDRO_ENV``,
            then the project's own default.
        conf_source: The configuration's folder or archive; by default ``KEDRO_SERVER_CONF_SOURCE``,
            then the project's own.
        **settings: Any other setting of `kedro_flask_server.config.settings.ServerConfig`.

    Returns:
        The application.

    Raises:
        ServerSettingsError: If the project is missing or cannot be opened, a setting is unknown or
            has a value that is not allowed, or a blueprint of ``SERVER_BLUEPRINTS`` cannot be
            imported.
    """
    arguments = {"env": env, "conf_source": conf_source, **settings}
    return build_app(open_project(project_path, arguments))


def build_app(
    opened: OpenedProject,
    *,
    template: TemplateHandle | None = None,
    owns_process: bool = False,
) -> Flask:
    """Return the application for a project that is open, as `create_http_server` does.

    Args:
        opened: The project and the settings.
        template: The process that its workers come from, if that was started ahead.
        owns_process: Whether this process is the server's alone.
    """
    project, config = opened.project, opened.config
    project.refuse_unknown_env()
    make_records_safe(project.safe_text)
    draw_for_terminals_only(config.log_format)
    database = _locate_database(opened)
    authenticator = load_authenticator(project.setting("SERVER_AUTHENTICATOR", None))
    access = _create_access(opened, database, has_other_scheme=authenticator is not None)
    project.warn_of_unused_settings()
    warn_of_data_apart(opened)
    files = RunFiles(data_url(opened))
    if files.is_of_process and config.executor == PROCESSES.name:
        raise ServerSettingsError(
            f"Setting data_url: {config.data_url!r} is the memory of one process, which the "
            "processes of runs do not see. Name a folder, or a URL that they share."
        )
    runs = create_run_service(
        RunStore(database, project=project.name, env=project.env),
        _create_executor(opened, template, owns_process=owns_process),
        config,
        files=files,
        state_dir=state_dir(opened),
        maintenance_tasks=[access],
        fingerprint=project.fingerprint,
    )
    app = ProjectFirstFlask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    sessions = PageSessions(access, project=project.name, env=project.env)
    authenticators = [PageAuthenticator(sessions), *filter(None, [authenticator])]
    server = KedroServer(
        config=config,
        project=project,
        runs=runs,
        access=access,
        sessions=sessions,
        refuse=_protect(app, config, access, authenticators, runs),
    )
    app.extensions[EXTENSION] = server
    register_error_handlers(app)
    for create_blueprint in BLUEPRINTS:
        app.register_blueprint(create_blueprint(server))
    if config.ui:
        register_pages(app, server)
    register_project_blueprints(app, project.setting("SERVER_BLUEPRINTS", ()))
    return app


def _create_access(
    opened: OpenedProject, database: Database, *, has_other_scheme: bool
) -> AccessControl:
    project, config = opened.project, opened.config
    return AccessControl(
        AccessStore(database, project=project.name, env=project.env),
        key_file=KeyFile(Path(config.api_keys_file)) if config.api_keys_file else None,
        allow_anonymous=config.allow_anonymous,
        has_other_scheme=has_other_scheme,
        is_reached_through_proxy=config.allowed_hosts != LOOPBACK_HOSTS
        or bool(config.trusted_proxies),
        expose_messages=config.expose_error_messages,
    )


def _create_executor(
    opened: OpenedProject, template: TemplateHandle | None, *, owns_process: bool
) -> Executor:
    parts = ExecutorParts(
        project=opened.project,
        config=opened.config,
        worker_settings=lambda: worker_settings(opened),
        template=template,
        owns_process=owns_process,
    )
    executor = create_executor(parts)
    wrong = unknown_pipelines(opened.config, executor.pipelines())
    if wrong is not None:
        raise ServerSettingsError(wrong)
    return executor


def _protect(
    app: Flask,
    config: ServerConfig,
    access: AccessControl,
    authenticators: Sequence[Authenticator],
    runs: RunService,
) -> EarlyRefusal:
    """Add the middleware and the authentication to an application."""

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
    public = {*HEALTH_ENDPOINTS, *PUBLIC_PAGES, *config.public_endpoints}
    admit = register_authentication(app, access, public=public, authenticators=authenticators)

    def admit_with_data() -> None:
        admit()
        refuse_data_early(request, runs)

    return create_early_refusal(app, admit_with_data, behind=behind_middleware)


def open_access_store(project_path: str | Path | None, *, env: str | None) -> AccessStore:
    """Return the API keys and the audit log of a project's server, which need not run.

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
    return Database(locate(opened.config.database_url, state_dir(opened)))
