"""The private names of libraries that this package uses, and the names that it replaces in them.

A name that is private to Kedro, OmegaConf, pluggy or the standard library may move in any version
of theirs, and one that is replaced may be called differently. They are all listed here, with the
reason and with what would make each of them needless; ``tests/project/test_kedro_patches.py``
fails on the version that moves one, and on a name that is used and not listed.
"""

from __future__ import annotations

import inspect
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pkgutil import resolve_name
from typing import Any

ORIGINAL = "__kedro_flask_server_original__"
"""The attribute of a replacement that holds what it replaces."""

_applying = threading.Lock()


class Stage(Enum):
    """When names are replaced, all of a stage at once."""

    BOOTSTRAP = auto()
    """When a project is opened."""
    CONFIG_LOADER = auto()
    """When the first configuration loader is made, and after `OmegaConf.clear_resolvers`."""
    FIRST_LITERAL = auto()
    """When a runtime parameter first holds a dollar sign: it slows every text of OmegaConf's."""
    FORKSERVER = auto()
    """When the process that starts `ParallelRunner`'s has opened the project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignName:
    """Names of one library that are used for one reason.

    Attributes:
        paths: Where they are, as `pkgutil.resolve_name` takes it.
        why: What they are used for.
        until: The change in the library that would make them needless.
        since: The first version, of those that are supported, that has them.
        replacement: The function that is called with the original and returns what takes its
            place; empty where a name is only read, called or overridden.
        stage: When it is replaced.
    """

    paths: tuple[str, ...]
    why: str
    until: str
    since: str = "kedro 1.6"
    replacement: str = ""
    stage: Stage = Stage.BOOTSTRAP


_OMEGACONF = "omegaconf 2.3"
_PYTHON = "python 3.10"

_ROOM = "kedro_flask_server.project"
_LOADER = "kedro.config.omegaconf_config:OmegaConfigLoader"

REPLACED = (
    ForeignName(
        paths=("kedro.runner.task:Task.execute",),
        why="Emits a node's events; Kedro calls no hook for a node whose dataset fails.",
        until="Hooks before and after a task that get any failure, and the run's id.",
        replacement=f"{_ROOM}.run_hooks:reporting_task",
    ),
    ForeignName(
        paths=("kedro.runner.task:Task._run_node_synchronization",),
        why="Binds the hook manager of a process that ParallelRunner has forked to its run.",
        until="Dataset hooks that get the run's id.",
        replacement=f"{_ROOM}.run_hooks:binding_hook_manager",
    ),
    ForeignName(
        paths=(
            "kedro.runner.task:ThreadPoolExecutor",
            "kedro.runner.thread_runner:ThreadPoolExecutor",
        ),
        why="Runners' threads work in the context of their run, for its log and its resolvers.",
        until="Python 3.14 with -X thread_inherit_context=1, or runners that copy the context.",
        replacement=f"{_ROOM}.run_hooks:context_threads",
    ),
    ForeignName(
        paths=tuple(
            f"{module}:_register_hooks_entry_points"
            for module in (
                "kedro.framework.session.service_session",
                "kedro.framework.session.session",
                "kedro.runner.task",
            )
        ),
        why="kedro-telemetry gets the command that starts a server, and is not imported in runs.",
        until="DISABLE_HOOKS_FOR_PLUGINS that leaves plugins unimported.",
        replacement=f"{_ROOM}.plugins:registering_all_but_telemetry",
    ),
    ForeignName(
        paths=("kedro.io.core:_load_obj",),
        why="Refuses classes that runtime parameters have chosen, and finds a dataset's class "
        "without searching all of sys.path again.",
        until="A registry of dataset classes that can be asked, and guarded.",
        replacement=f"{_ROOM}.lookups:guarded_class_lookup",
    ),
    ForeignName(
        paths=("kedro.io.core:getcallargs",),
        why="Analyses the signature of a dataset's class once.",
        until="Kedro that keeps the signatures of its classes.",
        replacement=f"{_ROOM}.lookups:memoized_signatures",
    ),
    ForeignName(
        paths=("kedro.io.catalog_config_resolver:parse",),
        why="Compiles the pattern of a dataset factory once.",
        until="Kedro that compiles its patterns.",
        replacement=f"{_ROOM}.lookups:memoized_patterns",
    ),
    ForeignName(
        paths=("kedro.io.memory_dataset:_infer_copy_mode",),
        why="Imports pandas, NumPy and ibis to copy data only where data is no builtin.",
        until="Kedro that looks into sys.modules instead.",
        replacement=f"{_ROOM}.lookups:copy_mode_without_imports",
    ),
    ForeignName(
        paths=("kedro.validation.type_extractor:TypeExtractor._extract_types_from_node",),
        why="Leaves out functions without annotations.",
        until="Kedro that keeps the types of a pipeline's parameters.",
        replacement=f"{_ROOM}.lookups:types_of_annotated",
    ),
    ForeignName(
        paths=("kedro.pipeline:Pipeline.inputs", "kedro.pipeline:Pipeline.outputs"),
        why="Looks through a pipeline once, and not after each node.",
        until="Kedro that looks for them once for a run.",
        replacement=f"{_ROOM}.lookups:memoized_by_pipeline",
    ),
    ForeignName(
        paths=("kedro.config.omegaconf_config:OmegaConf",),
        why="Parses a text of YAML once, and records what the files of a folder are merged to.",
        until="OmegaConfigLoader with a method of its own for each of both.",
        replacement=f"{_ROOM}.configuration.yaml_cache:caching_omegaconf",
    ),
    ForeignName(
        paths=("omegaconf.base:parse",),
        why="Parses an interpolation once, which takes longer than to resolve it.",
        until="OmegaConf that keeps its parse trees.",
        since=_OMEGACONF,
        replacement=f"{_ROOM}.configuration.yaml_cache:memoized_grammar",
    ),
    ForeignName(
        paths=("omegaconf.basecontainer:BaseContainer._resolvers",),
        why="The table of resolvers, which is one for the process: each loader, and so each run, "
        "sees its own.",
        until="Resolvers that belong to a configuration.",
        since=_OMEGACONF,
        replacement=f"{_ROOM}.configuration.resolvers:layered_table",
        stage=Stage.CONFIG_LOADER,
    ),
    ForeignName(
        paths=(
            "omegaconf.basecontainer:BaseContainer._resolve_with_default",
            "omegaconf:OmegaConf.to_container",
        ),
        why="Where texts leave OmegaConf: literal parameters get their dollar signs back.",
        until="Values of OmegaConf that are never resolved.",
        since=_OMEGACONF,
        replacement=f"{_ROOM}.configuration.literals:unmarking",
        stage=Stage.FIRST_LITERAL,
    ),
    ForeignName(
        paths=("omegaconf.nodes:ValueNode._set_value",),
        why="Where texts enter OmegaConf: the dollar signs of literal parameters are hidden.",
        until="As above.",
        since=_OMEGACONF,
        replacement=f"{_ROOM}.configuration.literals:marking",
        stage=Stage.FIRST_LITERAL,
    ),
    ForeignName(
        paths=("kedro.framework.project:PACKAGE_NAME",),
        why="A child that finds it configures logging for each node, and fails the second time "
        "(RecursionError, seen in Kedro 1.7: the configuration contains itself).",
        until="Kedro that configures logging twice without that.",
        replacement=f"{_ROOM}.runner:no_package_name",
        stage=Stage.FORKSERVER,
    ),
)
"""What is replaced for the whole process, by `apply` alone."""

USED = (
    ForeignName(
        paths=(
            "kedro.runner:AbstractRunner._run",
            "kedro.runner:AbstractRunner._release_datasets",
        ),
        why="Overridden in the one runner of a run: stops it between two nodes, in processes of "
        "ParallelRunner's, too, and binds the run's hooks.",
        until="A runner that can be asked to stop, and hooks that get the run's id.",
    ),
    ForeignName(
        paths=("kedro.framework.session:KedroServiceSession._hook_manager",),
        why="Hooks find the logs of their run written, and the pipelines that it names.",
        until="A public hook manager of a session.",
    ),
    ForeignName(
        paths=("kedro.framework.session:KedroServiceSession._serving_mode",),
        why="Serves the pipelines that can be loaded where others cannot.",
        until="KedroServiceSession.create(serving_mode=True) with names of pipelines.",
    ),
    ForeignName(
        paths=("kedro.framework.project:pipelines._lock",),
        why="Pipelines that were loaded stay there when others fail to load.",
        until="set_requested that keeps what it had where it fails.",
    ),
    ForeignName(
        paths=("kedro.framework.cli.utils:_split_params",),
        why="Reads parameters in the format of kedro run --params.",
        until="A public function for it.",
    ),
    ForeignName(
        paths=("kedro.io.core:_redact_url_credentials",),
        why="Shows URLs in messages as Kedro's own server does.",
        until="A public function for it.",
    ),
    ForeignName(
        paths=("kedro.framework.hooks.manager:_create_hook_manager",),
        why="Rehearses a run without a session.",
        until="A public function for it.",
    ),
    ForeignName(
        paths=(
            "kedro.framework.context:KedroContext._get_catalog",
            "kedro.framework.context:KedroContext._pipelines_to_validate",
        ),
        why="Rehearses how a session makes a catalog, without the project's pipelines.",
        until="A session that can be given a configuration and a pipeline.",
    ),
    ForeignName(
        paths=("kedro.framework.context.context:_convert_paths_to_absolute_posix",),
        why="Finds where datasets lie as the context of a run does.",
        until="A public function for it.",
    ),
    ForeignName(
        paths=(
            "kedro.io:DataCatalog._datasets",
            "kedro.io:DataCatalog._lazy_datasets",
            "kedro.io:AbstractDataset._init_args",
            "kedro.io:CatalogConfigResolver._get_pattern_config",
            "kedro.io:CatalogConfigResolver._resolve_dataset_config",
        ),
        why="Finds out what a catalog says of its datasets, without making them.",
        until="A public way to the configuration of each dataset.",
    ),
    ForeignName(
        paths=(
            "kedro.pipeline.node:Node._inputs",
            "kedro.pipeline.node:Node._outputs",
            "kedro.io:DataCatalog._load_versions",
        ),
        why="Finds what a node's arguments are annotated with, and replaces datasets.",
        until="A node that tells its arguments, and a catalog whose datasets can be replaced "
        "without a warning.",
    ),
    ForeignName(
        paths=("kedro.io:DataCatalog._validate", "kedro.io:DataCatalog._validator_specs"),
        why="Validates what a request gives once, before the run's hooks.",
        until="A public function for it.",
        since="kedro 1.7",
    ),
    ForeignName(
        paths=(
            "kedro.io:CachedDataset._dataset",
            "kedro.io:AbstractVersionedDataset._version",
            "kedro.io:AbstractVersionedDataset._glob_function",
            "kedro.io:AbstractVersionedDataset._exists_function",
            "kedro.io:AbstractVersionedDataset._get_versioned_path",
        ),
        why="Decides once for a run which version of a dataset it loads.",
        until="A session that decides so, and knows which versions are complete.",
    ),
    ForeignName(
        paths=(
            f"{_LOADER}._register_globals_resolver",
            f"{_LOADER}._register_runtime_params_resolver",
            f"{_LOADER}._resolve_environment_variables",
        ),
        why="Overridden by CachingConfigLoader: the steps of Kedro's loader that it does once, and "
        "its resolvers, of which one function serves all loaders.",
        until="A loader of Kedro's that reads and resolves nothing twice.",
    ),
    ForeignName(
        paths=(
            f"{_LOADER}._read_dir_configs",
            f"{_LOADER}._merge_and_resolve",
            f"{_LOADER}._guard_runtime_params_in_catalog_type",
        ),
        why="As above: reads the files of a folder, resolves what they hold, and refuses types "
        "that parameters choose. Without these, CachingConfigLoader is not used.",
        until="As above.",
        since="kedro 1.7",
    ),
    ForeignName(
        paths=(
            f"{_LOADER}._check_duplicates",
            f"{_LOADER}._get_globals_value",
            f"{_LOADER}._get_runtime_value",
            f"{_LOADER}._globals",
            f"{_LOADER}._protocol",
            f"{_LOADER}._runtime_params_hits",
            "kedro.config.omegaconf_config:_NO_VALUE",
        ),
        why="Does between those steps what Kedro's loader does.",
        until="As above.",
    ),
    ForeignName(
        paths=(f"{_LOADER}._register_new_resolvers", f"{_LOADER}._custom_resolvers"),
        why="Registers the resolvers of a loader again that was unpickled.",
        until="A loader of Kedro's that can be pickled with its resolvers.",
    ),
    ForeignName(
        paths=("omegaconf.base:Node._value", "omegaconf.base:Node._get_parent"),
        why="Finds literal texts in the arguments of resolvers, and attaches their results.",
        until="Values of OmegaConf that are never resolved.",
        since=_OMEGACONF,
    ),
    ForeignName(
        paths=(
            "atexit:_run_exitfuncs",
            "atexit:_clear",
            "threading:_shutdown",
            "weakref:finalize._exitfunc",
            "weakref:finalize._registry",
            "multiprocessing.util:_exit_function",
            "multiprocessing.util:_finalizer_registry",
        ),
        why="Ends a worker as Python ends a program, without what it has inherited.",
        until="os.fork() that leaves out inherited exit functions, and a public end of a program.",
        since=_PYTHON,
    ),
    ForeignName(
        paths=(
            "multiprocessing.resource_tracker:_resource_tracker._pid",
            "multiprocessing.forkserver:_forkserver._forkserver_pid",
        ),
        why="Knows Python's own helpers from the processes that a project has started.",
        until="A public way to their process ids.",
        since=_PYTHON,
    ),
    ForeignName(
        paths=(
            "logging:_handlerList",
            "logging:FileHandler._open",
            "logging.handlers:WatchedFileHandler._statstream",
        ),
        why="Finds all log handlers, and opens the files of a template's again in a worker.",
        until="A public list of all handlers, and a public way to open a file again.",
        since=_PYTHON,
    ),
    ForeignName(
        paths=("numpy.random.mtrand:_rand._bit_generator",),
        why="Finds out whether NumPy's global generator was seeded.",
        until="numpy.random.get_bit_generator with NumPy 1.24 as the oldest.",
        since="numpy 1.0",
    ),
    ForeignName(
        paths=("sys:_getframe",),
        why="Finds the module that imports another.",
        until="importlib that says so.",
        since=_PYTHON,
    ),
)
"""What is read, called, or overridden in a class or an object of this package's own."""

REPLACED_ELSEWHERE = (
    ForeignName(
        paths=("logging:Logger.callHandlers", "logging:Logger.removeHandler"),
        why="A thread of its own writes the records of runs that share a process, and has written "
        "them before a handler goes.",
        until="A logging.handlers.QueueListener that serves handlers which projects configure.",
        since=_PYTHON,
    ),
    ForeignName(
        paths=("logging:StreamHandler.format",),
        why="Each record of any handler is one line.",
        until="A hook for the text of a record.",
        since=_PYTHON,
    ),
    ForeignName(
        paths=("logging:Handler.handle",),
        why="What a handler prints while it writes a record is not printed output of the run.",
        until="A hook around the writing of a record.",
        since=_PYTHON,
    ),
    ForeignName(
        paths=("atexit:register", "atexit:unregister"),
        why="Finds out which functions the project registers when it is imported.",
        until="A public list of them.",
        since=_PYTHON,
    ),
    ForeignName(
        paths=("random:Random.seed", "random:seed", "secrets:randbits"),
        why="Finds out whether importing the project seeds a generator, for as long as that takes.",
        until="Generators that say whether they were seeded.",
        since=_PYTHON,
    ),
)
"""What the rooms of workers and logs replace in the standard library, by code of their own."""

FOREIGN_NAMES = REPLACED + USED + REPLACED_ELSEWHERE


def apply(stage: Stage = Stage.BOOTSTRAP) -> None:
    """Replace the names of a stage that are not replaced yet, for the whole process.

    Args:
        stage: Which.

    Raises:
        AttributeError: If a library does not have one of them.
    """
    wanted = [
        (*_owner_of(path), resolve_name(each.replacement))
        for each in REPLACED
        if each.stage is stage
        for path in each.paths
    ]
    with _applying:
        for owner, name, replacing in wanted:
            original = getattr(owner, name)
            if hasattr(original, ORIGINAL):
                continue
            replacement = replacing(original)
            with suppress(AttributeError):  # None has no attributes
                setattr(replacement, ORIGINAL, original)
            is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
            setattr(owner, name, staticmethod(replacement) if is_static else replacement)


def _owner_of(path: str) -> tuple[Any, str]:
    """Return what has a name, and the name."""
    module, _, names = path.partition(":")
    *owners, name = names.split(".")
    return resolve_name(f"{module}:{'.'.join(owners)}"), name
