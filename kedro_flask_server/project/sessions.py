"""Kedro's sessions, with the project's pipelines loaded."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from kedro.framework.project import pipelines, settings
from kedro.framework.session import KedroServiceSession, KedroSession
from kedro.framework.session.store import BaseSessionStore

from kedro_flask_server.model.run import DEFAULT_PIPELINE
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.failures import PLAIN, trace
from kedro_flask_server.project.hook_calls import prepare_calls
from kedro_flask_server.project.known_names import names_of_pipelines
from kedro_flask_server.redaction import SECRETS

logger = logging.getLogger(__name__)


class Sessions:
    """The one session of a project, and another for as long as its pipelines cannot be loaded.

    All methods may be called from any thread.
    """

    def __init__(self, configuration: SelectedConfiguration) -> None:
        """Begin with none.

        Args:
            configuration: What the sessions are made with.
        """
        self._configuration = configuration
        self._session: KedroServiceSession | None = None
        self._session_of_some: KedroServiceSession | None = None
        self._loaded_alone: set[str] = set()
        self._loading = threading.Lock()
        self._last_attempt_at = 0.0
        self._last_failure: BaseException | None = None

    @property
    def is_loaded(self) -> bool:
        """True if the registered pipelines are loaded."""
        return self._session is not None

    def try_to_load(self) -> None:
        """Load the registered pipelines; if that fails, say so in the log.

        Every snapshot and run tries again for as long as it fails.
        """
        try:
            self.load()
        except (Exception, SystemExit) as error:  # the registry is the project's
            logger.error(
                "The project's pipelines cannot be loaded. Until they can, /run and /snapshot "
                "fail; each request tries again. %s",
                trace(error),
                extra=PLAIN,
            )

    def load(self) -> KedroServiceSession:
        """Return the one session, its registered pipelines loaded.

        While loading fails, each call tries again; those that came before an attempt began share
        its failure.

        Raises:
            BaseException: What the project's registry raises.
        """
        asked_at = time.monotonic()
        with self._loading:
            if self._session is not None:
                return self._session
            if self._last_failure is not None and self._last_attempt_at > asked_at:
                raise self._last_failure
            self._last_attempt_at = time.monotonic()
            try:
                importlib.invalidate_caches()  # a mended registry may import new modules
                with self._as_before_if_it_fails():
                    self._session = self._new_session(serving_mode=True)
            except BaseException as error:
                self._last_failure = error
                raise
            self._last_failure = None
            with suppress(Exception):  # of nodes that a project has made its own
                SECRETS.learn_names(names_of_pipelines(), are_pipelines_known=True)
            return self._session

    def load_for(self, names: Sequence[str] | None) -> KedroServiceSession:
        """Return a session that has the pipelines of a run.

        Where all together cannot be loaded, those that the run names are loaded alone, as
        ``kedro run --pipelines`` does.

        Args:
            names: The pipelines that the run names, if any.

        Raises:
            BaseException: What the project's registry raises.
        """
        try:
            return self.load()
        except (Exception, SystemExit):
            if not names or DEFAULT_PIPELINE in names:
                raise
        with self._loading:
            self._load_alone(names)
            if self._session_of_some is None:
                self._session_of_some = self._new_session(serving_mode=False)
                # As after `_enable_serving_mode`, which loads all: runs leave the registry alone,
                # and parameters must not choose a dataset's type.
                self._session_of_some._serving_mode = True
            return self._session_of_some

    def close(self) -> None:
        """Close the sessions that there are."""
        with self._loading:
            for session in filter(None, (self._session, self._session_of_some)):
                session.close()
            self._session = self._session_of_some = None

    def _load_alone(self, names: Sequence[str]) -> None:
        """Load pipelines beside those that were loaded alone before; no run sees less than that."""
        wanted = {*self._loaded_alone, *names}
        with self._as_before_if_it_fails():
            pipelines.set_requested(sorted(wanted))
            list(pipelines)
        self._loaded_alone = wanted

    @contextmanager
    def _as_before_if_it_fails(self) -> Iterator[None]:
        """Load pipelines without taking from other runs what was loaded before.

        Kedro's registry forgets that when it is asked for others; meanwhile its readers wait.
        """
        with pipelines._lock:
            try:
                yield
            except BaseException:
                pipelines.set_requested(sorted(self._loaded_alone) or None)
                raise

    def _new_session(self, *, serving_mode: bool) -> KedroServiceSession:
        session = KedroServiceSession.create(
            project_path=self._configuration.project_path,
            env=self._configuration.env,
            conf_source=self._configuration.conf_source,
            serving_mode=serving_mode,
        )
        prepare_calls(session._hook_manager)
        return session


def warn_of_unused_settings() -> None:
    """Log which settings count for ``kedro run`` and not for a server's sessions."""
    used: dict[str, tuple[type, ...]] = {
        "SESSION_CLASS": (KedroSession, KedroServiceSession),
        "SESSION_STORE_CLASS": (BaseSessionStore,),
    }
    unused = [name for name, classes in used.items() if settings.get(name) not in classes]
    if unused:
        logger.warning(
            "%s in settings.py: not used by a server, whose runs share a session of Kedro's "
            "(KedroServiceSession), without a store. What it does for each run belongs in a "
            "hook.",
            " and ".join(unused),
        )
