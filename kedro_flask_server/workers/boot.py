"""Loads the project in the template and in the workers that are not forked from it."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import select
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from kedro_flask_server.logs import draw_for_terminals_only, make_records_safe
from kedro_flask_server.model.provenance import Provenance
from kedro_flask_server.project import KedroProject, warm_up
from kedro_flask_server.project.revision import (
    begin_to_read_revision,
    made_with,
    plugin_versions,
)
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.workers.audit_hook import Audit
from kedro_flask_server.workers.exit_functions import ExitFunctions
from kedro_flask_server.workers.footprint import Footprint
from kedro_flask_server.workers.generators import Generators
from kedro_flask_server.workers.handlers import Handlers
from kedro_flask_server.workers.imports import Imports, import_ahead
from kedro_flask_server.workers.inheritance import Files, Inheritance
from kedro_flask_server.workers.output import Output
from kedro_flask_server.workers.preparation import Preparation, threads_of_libraries
from kedro_flask_server.workers.program_end import ProgramEnd
from kedro_flask_server.workers.protocol import Channel, WorkerSettings, replace_program
from kedro_flask_server.workers.template_process import TemplateProcess, become_subreaper
from kedro_flask_server.workers.worker_process import WorkerProcess

logger = logging.getLogger(__name__)

# Timeout of the dataset probe.
_PROBE_TIMEOUT_S = 60.0

_END = "\n"

# Timeout of the project's exit functions.
_END_TIMEOUT_S = 5.0

# How long the kernel may take to end a thread.
_THREAD_END_S = 0.5

_SHARED = {
    "auto": "Each worker process starts by itself, which takes as long as the start of `kedro "
    "run`: a process that has loaded this project must not be forked, because %s. Let a node or a "
    "hook do that (setting worker_start_method)",
    "fork": "Runs share what each `kedro run` has for itself: %s. Let a node or a hook do that, "
    "or start each worker by itself (setting worker_start_method)",
}


def boot_template(control: Channel, settings: WorkerSettings) -> TemplateProcess:
    """Load the project in the template, and report it to the server.

    A project that fails to load here fails again in each run. Where workers cannot be forked, this
    process is replaced by one without the project.

    Args:
        control: The channel to the server.
        settings: What to load.

    Returns:
        The template, ready to serve.
    """
    origin = _Origin()
    become_subreaper()
    # NumPy's threads make Python 3.12 and later warn; NumPy handles forks itself (pthread_atfork).
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
    outputs = Output.take_over(KedroProject.safe_text)
    audit = Audit()
    footprint, generators = Footprint(audit), Generators()
    generators.watch()
    finish = begin_to_read_revision(Path(settings.project_path), settings.revision)
    with _EndWithServer(control):
        project = _open(settings)
        revision = finish()  # before what is open here is looked at
    found: dict[str, Any] = {}
    preparation: Preparation | None = None
    fitness = _Fitness(settings, footprint)
    method = fitness.start_method()
    if method == "fork":
        with _EndWithServer(control):
            refused, found = _load_ahead(project, settings)
        if settings.preload is not None:
            with _EndWithServer(control):
                preparation = Preparation.of(project, settings.preload)
        method = fitness.start_method()
        if refused is not None:
            logger.warning("Importing ahead of the runs would execute the module %s", refused)
            method = "spawn"
    elif project.is_loaded:  # this process is about to be replaced: what it executes leaves nothing
        with _EndWithServer(control):
            found = {"unlocated": project.unlocated_datasets(), "plugins": plugin_versions()}
    project.made_with = made_with(revision, found.get("plugins", {}))
    footprint.close()
    generators.settle()
    with suppress(OSError):  # the server is gone; this process is about to end, too
        control.send(
            "ready",
            {
                "is_loaded": project.is_loaded,
                "pipelines": project.pipelines,
                "start_method": method,
                "secrets": SECRETS.known(are_certain=True),
                "guessed": SECRETS.known(are_certain=False),
                "names": SECRETS.names,
                "unlocated": found.get("unlocated", []),
            },
        )
    settings = replace(settings, start_method=method, made_with=project.made_with.dump())
    if method != "fork":
        origin.start_again("starter", control, settings)
    inheritance = Inheritance(
        project=project,
        outputs=outputs,
        generators=generators,
        handlers=Handlers(),
        files=Files(),
        end=ProgramEnd(is_forked=True, folder=project.source_dir),
        imports=Imports(audit),
        preparation=preparation,
    )
    ExitFunctions.leave_to_workers()
    gc.freeze()  # otherwise the first collection in each worker copies every page
    gc.enable()
    return TemplateProcess(control, settings, inheritance)


def _load_ahead(
    project: KedroProject, settings: WorkerSettings
) -> tuple[str | None, dict[str, Any]]:
    """Import and read what runs need, so that forked workers need not.

    Returns:
        The module that cannot be imported ahead, if there is one; and what `_DatasetProbe` has
        found.
    """
    if settings.max_rss_mb is not None:
        import_ahead(["psutil"])
    probe = _DatasetProbe(project) if project.is_loaded else None
    refused = import_ahead(settings.modules)
    warm_up()
    project.read_ahead()
    found = probe.found() if probe else {}
    SECRETS.learn(found.get("secrets", ()), is_lasting=True)
    SECRETS.learn_names(found.get("names", ()))
    modules = [name for name in found.get("modules", ()) if name not in sys.modules]
    if modules:
        refused = import_ahead(modules) or refused
        warm_up()  # a change of the warning filters makes each warning appear again
    return refused, found


def boot_worker(
    channel: Channel, settings: WorkerSettings, *, reports: int, output: int
) -> WorkerProcess:
    """Load the project in a worker that is not forked from the template.

    Args:
        channel: The channel to the server.
        settings: What to load.
        reports: The descriptor of the pipe for the reports of its runs.
        output: The descriptor for output that bypasses Python.

    Returns:
        The worker, ready to work.
    """
    become_subreaper()
    outputs = Output.take_over(KedroProject.safe_text)
    gc.freeze()  # imports from here on belong to the run
    preparation = None
    with _EndWithServer(channel):
        project = _open(settings)
        warm_up()
        if settings.preload is not None:
            preparation = Preparation.of(project, settings.preload)
    return WorkerProcess(
        project,
        settings,
        outputs,
        ProgramEnd(is_forked=False, folder=project.source_dir),
        channel=channel,
        reports=reports,
        output=output,
        handlers=Handlers(),
        inheritance=None,
        prepared=preparation,
    )


def _open(settings: WorkerSettings) -> KedroProject:
    project = KedroProject.bootstrap(Path(settings.project_path))
    make_records_safe(project.safe_text)
    draw_for_terminals_only(settings.log_format)
    project.configure(
        env=settings.env,
        conf_source=settings.conf_source,
        resolves_params=settings.resolves_params,
        shared_paths=settings.shared_paths,
        data_url=settings.data_url,
        allows_excel=settings.allows_excel,
    )
    project.try_to_load()
    project.made_with = Provenance.load(settings.made_with) if settings.made_with else Provenance()
    return project


class _Fitness:
    """Decides whether workers can be forked from this process, which has loaded the project."""

    def __init__(self, settings: WorkerSettings, footprint: Footprint) -> None:
        self._wanted = settings.start_method
        self._serves = settings.preload is not None
        self._footprint = footprint
        self._logged: list[str] = []

    def start_method(self) -> str:
        """Return how workers are started; log why they are not forked, or what they share."""
        if self._wanted == "spawn":
            return "spawn"
        threads = [each.name for each in threading.enumerate()][1:]
        if self._serves and not threads:  # a fork of a library's threads hangs where it needs them
            threads = _threads_in_the_way()
        shared = self._footprint.found(without=Handlers().descriptors())
        reasons = [f"it runs the threads {threads}"] if threads and self._wanted == "auto" else []
        reasons += [f"importing the project has opened or made {', '.join(shared)}"] * bool(shared)
        if reasons and reasons != self._logged:
            self._logged = reasons
            logger.warning(_SHARED[self._wanted], ", and ".join(reasons))
        return "spawn" if reasons and self._wanted == "auto" else "fork"


def _threads_in_the_way() -> list[str]:
    """Return the names of the threads of libraries, which a fork would be without."""
    ends_at = time.monotonic() + _THREAD_END_S
    while (names := threads_of_libraries()) != [] and time.monotonic() < ends_at:
        time.sleep(0.01)  # one that was joined may be about to end
    return ["that this system does not tell"] if names is None else names


class _Origin:
    """The environment and working directory that this process started with."""

    def __init__(self) -> None:
        self._environ = dict(os.environ)
        self._folder = os.open(".", os.O_RDONLY)

    def start_again(self, program: str, control: Channel, settings: WorkerSettings) -> NoReturn:
        """Replace this process by a program that holds nothing of the project.

        Otherwise a locked file or a single-process database would be unavailable in each worker,
        and the project's threads would work without a request.
        """
        ending = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
        ending.start()
        ending.join(_END_TIMEOUT_S)
        os.fchdir(self._folder)
        replace_program(program, settings, control.fileno(), environ=self._environ)


class _DatasetProbe:
    """Collects what is known of a project before a run.

    That is ``modules``, ``secrets``, ``names``, the versions of ``plugins``, and the datasets that
    are ``unlocated``.

    The modules are those that its datasets import, to be imported once for all runs. A forked
    process does it: reading the configuration may execute the project's code, and the template must
    stay as it is before a run.
    """

    def __init__(self, project: KedroProject) -> None:
        """Start the probe."""
        self._reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            with suppress(BaseException), os.fdopen(writing, "w") as file:
                logging.disable()  # an entry that needs runtime parameters is not an error
                modules = project.import_datasets()
                project.learn_credentials()
                project.learn_names()
                secrets = SECRETS.known(are_certain=True)
                found: dict[str, Any] = {"modules": modules, "secrets": secrets}
                found |= {"names": SECRETS.names, "plugins": plugin_versions()}
                found["unlocated"] = project.unlocated_datasets()
                file.write(json.dumps(found) + _END)
            os._exit(0)
        os.close(writing)

    def found(self) -> dict[str, Any]:
        """Wait for the findings and return them; empty where the probe failed or timed out."""
        found = b""
        with os.fdopen(self._reading, "rb", buffering=0) as file:
            # Processes started by the project's code may hold the other end, too.
            while (
                not found.endswith(_END.encode())
                and select.select([file], [], [], _PROBE_TIMEOUT_S)[0]
                and (data := file.read(65_536))
            ):
                found += data
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        with suppress(ValueError):
            findings: dict[str, Any] = json.loads(found)
            return findings
        return {}


class _EndWithServer:
    """Kills this process group if the server ends while the project's code runs."""

    def __init__(self, server: Channel) -> None:
        self._server = server
        self._wake, self._wake_sender = os.pipe()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:
            sys.exit(f"Error: The template gets no thread ({error}).")

    def __exit__(self, *_: object) -> None:
        # Closing the pipe is not enough: processes forked meanwhile hold it, too.
        os.write(self._wake_sender, b".")
        self._thread.join()
        os.close(self._wake_sender)
        os.close(self._wake)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._server, 0)  # hang-up alone
        poll.register(self._wake, select.POLLIN)
        if any(descriptor == self._server.fileno() for descriptor, _ in poll.poll()):
            os.killpg(0, signal.SIGKILL)
