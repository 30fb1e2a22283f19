"""Names of others are where this package takes them to be, and none is used that is not listed."""

from __future__ import annotations

import ast
import inspect
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import re
import weakref
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.cli.utils import _split_params
from kedro.framework.project import pipelines
from kedro.framework.session import KedroServiceSession
from kedro.io.core import _redact_url_credentials
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

import kedro_flask_server
from kedro_flask_server.project.configuration.caching_loader import CachingConfigLoader
from kedro_flask_server.project.configuration.isolated_loader import _GUARD
from kedro_flask_server.project.kedro_patches import (
    FOREIGN_NAMES,
    ORIGINAL,
    REPLACED,
    REPLACED_ELSEWHERE,
    ForeignName,
    Stage,
    apply,
)

PACKAGE = Path(kedro_flask_server.__file__).parent
ROOMS = ("project", "workers", "logs")
MODULES = [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
MODULES.append(PACKAGE / "origins.py")

LOADER = "kedro.config.omegaconf_config:OmegaConfigLoader"
SESSIONS = "kedro.framework.session"

# The parameters of each function; None of what is no function.
PARAMETERS: dict[str, str | None] = {
    "kedro.runner.task:Task.execute": "self",
    "kedro.runner.task:Task._run_node_synchronization": "package_name logging_config",
    "kedro.runner.task:ThreadPoolExecutor": None,
    "kedro.runner.thread_runner:ThreadPoolExecutor": None,
    f"{SESSIONS}.service_session:_register_hooks_entry_points": "hook_manager disabled_plugins",
    f"{SESSIONS}.session:_register_hooks_entry_points": "hook_manager disabled_plugins",
    "kedro.runner.task:_register_hooks_entry_points": "hook_manager disabled_plugins",
    "kedro.io.core:_load_obj": "class_path",
    "kedro.io.core:getcallargs": "func positional named",
    "kedro.io.catalog_config_resolver:parse": "format string extra_types evaluate_result "
    "case_sensitive",
    "kedro.io.memory_dataset:_infer_copy_mode": "data",
    "kedro.validation.type_extractor:TypeExtractor._extract_types_from_node": "self node",
    "kedro.pipeline:Pipeline.inputs": "self",
    "kedro.pipeline:Pipeline.outputs": "self",
    "kedro.config.omegaconf_config:OmegaConf": None,
    "omegaconf.base:parse": "value parser_rule lexer_mode",
    "omegaconf.basecontainer:BaseContainer._resolvers": None,
    "omegaconf.basecontainer:BaseContainer._resolve_with_default": "self key value default_value",
    "omegaconf:OmegaConf.to_container": "cfg resolve throw_on_missing enum_to_str "
    "structured_config_mode",
    "omegaconf.nodes:ValueNode._set_value": "self value flags",
    "kedro.framework.project:PACKAGE_NAME": None,
    "kedro.runner:AbstractRunner._run": "self pipeline catalog hook_manager run_id",
    "kedro.runner:AbstractRunner._release_datasets": "node catalog load_counts pipeline",
    "kedro.framework.project:pipelines._lock": None,
    "kedro.framework.cli.utils:_split_params": "ctx param value",
    "kedro.io.core:_redact_url_credentials": "value",
    "kedro.framework.hooks.manager:_create_hook_manager": "",
    "kedro.framework.context.context:_convert_paths_to_absolute_posix": "project_path "
    "conf_dictionary",
    "kedro.io:CatalogConfigResolver._get_pattern_config": "self pattern",
    "kedro.io:CatalogConfigResolver._resolve_dataset_config": "ds_name pattern config",
    "kedro.io:DataCatalog._validate": "self ds_name data mode",
    "kedro.io:AbstractVersionedDataset._get_versioned_path": "self version",
    "kedro.framework.context:KedroContext._get_catalog": "self catalog_class save_version "
    "load_versions",
    f"{LOADER}._read_dir_configs": "self conf_path patterns key processed_files "
    "read_environment_variables",
    f"{LOADER}._register_globals_resolver": "self",
    f"{LOADER}._register_runtime_params_resolver": "self",
    f"{LOADER}._resolve_environment_variables": "config",
    f"{LOADER}._merge_and_resolve": "self key config_per_file",
    f"{LOADER}._guard_runtime_params_in_catalog_type": "self aggregate_config "
    "merged_config_container",
    f"{LOADER}._check_duplicates": "self key config_per_file",
    f"{LOADER}._get_globals_value": "self variable default_value",
    f"{LOADER}._get_runtime_value": "self variable default_value",
    "kedro.config.omegaconf_config:_NO_VALUE": None,
    f"{LOADER}._register_new_resolvers": "resolvers",
    "omegaconf.base:Node._value": "self",
    "omegaconf.base:Node._get_parent": "self",
    "atexit:_run_exitfuncs": "",
    "atexit:_clear": "",
    "threading:_shutdown": "",
    "weakref:finalize._exitfunc": "",
    "weakref:finalize._registry": None,
    "multiprocessing.util:_exit_function": None,
    "multiprocessing.util:_finalizer_registry": None,
    "multiprocessing.resource_tracker:_resource_tracker._pid": None,
    "multiprocessing.forkserver:_forkserver._forkserver_pid": None,
    "logging:_handlerList": None,
    "logging:FileHandler._open": "self",
    "logging.handlers:WatchedFileHandler._statstream": "self",
    "numpy.random.mtrand:_rand._bit_generator": None,
    "sys:_getframe": None,
    "logging:Logger.callHandlers": "self record",
    "logging:Logger.removeHandler": "self hdlr",
    "logging:StreamHandler.format": "self record",
    "logging:Handler.handle": "self record",
    "atexit:register": None,
    "atexit:unregister": None,
    "random:Random.seed": "self a version",
    "random:seed": "a version",
    "secrets:randbits": "k",
}

# Attributes that objects of a class get when they are made: what its source says.
ATTRIBUTES = {
    "kedro.framework.session:KedroServiceSession._hook_manager": "self._hook_manager = ",
    "kedro.framework.session:KedroServiceSession._serving_mode": "if self._serving_mode:",
    "kedro.framework.context:KedroContext._pipelines_to_validate": "self._pipelines_to_validate",
    "kedro.io:DataCatalog._datasets": "self._datasets: ",
    "kedro.io:DataCatalog._lazy_datasets": "self._lazy_datasets: ",
    "kedro.io:DataCatalog._load_versions": "self._load_versions, ",
    "kedro.io:DataCatalog._validator_specs": "self._validator_specs: ",
    "kedro.pipeline.node:Node._inputs": "self._inputs = ",
    "kedro.pipeline.node:Node._outputs": "self._outputs",
    "kedro.io:AbstractDataset._init_args": "self._init_args = ",
    "kedro.io:CachedDataset._dataset": "self._dataset = ",
    "kedro.io:AbstractVersionedDataset._version": "self._version = ",
    "kedro.io:AbstractVersionedDataset._glob_function": "self._glob_function = ",
    "kedro.io:AbstractVersionedDataset._exists_function": "self._exists_function = ",
    f"{LOADER}._globals": "self._globals = ",
    f"{LOADER}._protocol": "self._protocol = ",
    f"{LOADER}._runtime_params_hits": "self._runtime_params_hits",
    f"{LOADER}._custom_resolvers": "self._custom_resolvers = ",
}

# How Kedro calls what is replaced or overridden: by the name that is replaced.
CALLS = {
    "kedro.io.core": ["getcallargs(init_func, self, *args, **kwargs)", "= _load_obj("],
    "kedro.io.catalog_config_resolver": ["parse(pattern, ds_name)"],
    "kedro.io.memory_dataset": ["_infer_copy_mode(data)"],
    "kedro.validation.type_extractor": ["._extract_types_from_node("],
    "kedro.runner.runner": ["self._run(", "self._release_datasets("],
    "kedro.runner.task": ["Task._run_node_synchronization(", "with ThreadPoolExecutor("],
    "kedro.runner.thread_runner": ["ThreadPoolExecutor("],
    "kedro.config.omegaconf_config": [
        "OmegaConf.load(",
        "io.StringIO(",
        "OmegaConf.unsafe_merge(",
        "self._check_duplicates(",
        "self._register_globals_resolver(",
        "self._register_runtime_params_resolver(",
        "self._resolve_environment_variables(",
        "self._get_globals_value",
        "self._get_runtime_value",
        "self._register_new_resolvers(",
    ],
    "omegaconf.base": ["parse("],
    "omegaconf.basecontainer": ["._set_value("],
    "omegaconf.dictconfig": ["self._resolve_with_default("],
}
LOADERS_STEPS = [
    "self._read_dir_configs(",
    "self._merge_and_resolve(",
    "self._guard_runtime_params_in_catalog_type(",
]

EACH = [(path, each) for each in FOREIGN_NAMES for path in each.paths]

needs_kedro_1_7 = pytest.mark.skipif(
    not CachingConfigLoader.is_supported(), reason="this Kedro's loader has not these steps"
)


def skip_unless_there(each: ForeignName) -> None:
    library, since = each.since.split()
    if library != "python":
        newest = tuple(map(int, version(library).split(".")[:2]))
        if newest < tuple(map(int, since.split("."))):
            pytest.skip(f"this is {library} {version(library)}")


@pytest.mark.usefixtures("unpatched")
@pytest.mark.parametrize(("path", "each"), EACH, ids=[path for path, _ in EACH])
def test_name_is_there_in_the_form_that_is_relied_on(path: str, each: ForeignName) -> None:
    skip_unless_there(each)
    if path in ATTRIBUTES:
        owner, name = path.rsplit(".", 1)
        assert ATTRIBUTES[path] in inspect.getsource(resolve_name(owner))
        assert name.startswith("_")
        return
    found = resolve_name(path)
    expected = PARAMETERS[path]
    if expected is not None:
        try:
            parameters = [*inspect.signature(found).parameters]
        except ValueError:  # of C, and of no signature
            parameters = []
        assert parameters[: len(expected.split())] == expected.split()


def test_no_name_has_an_expectation_that_is_not_listed() -> None:
    assert {*PARAMETERS, *ATTRIBUTES} == {path for path, _ in EACH}
    assert len({path for path, _ in EACH}) == len(EACH)


@pytest.mark.usefixtures("unpatched")
def test_values_are_of_the_kinds_that_are_relied_on() -> None:
    assert resolve_name("kedro.io.core:getcallargs") is inspect.getcallargs
    assert resolve_name("kedro.io.catalog_config_resolver:parse") is resolve_name("parse:parse")
    assert resolve_name("omegaconf.base:parse") is resolve_name("omegaconf.grammar_parser:parse")
    assert resolve_name("kedro.config.omegaconf_config:OmegaConf") is resolve_name(
        "omegaconf:OmegaConf"
    )
    assert isinstance(resolve_name("omegaconf.basecontainer:BaseContainer._resolvers"), dict)
    assert "oc.decode" in resolve_name("omegaconf.basecontainer:BaseContainer._resolvers")
    assert hasattr(pipelines._lock, "__enter__")
    assert _redact_url_credentials("https://a:b@c/?d") == "https://<redacted>@c/?<redacted>"
    assert _split_params(None, None, "a.b=1") == {"a": {"b": 1}}
    assert isinstance(weakref.finalize._registry, dict)  # type: ignore[attr-defined]
    for helper in (
        multiprocessing.resource_tracker._resource_tracker._pid,
        multiprocessing.forkserver._forkserver._forkserver_pid,
    ):
        assert helper is None or isinstance(helper, int)


@pytest.mark.usefixtures("unpatched")
@pytest.mark.parametrize("module", CALLS)
def test_kedro_and_omegaconf_call_it_by_that_name(module: str) -> None:
    source = inspect.getsource(resolve_name(f"{module}:"))
    assert [call for call in CALLS[module] if call not in source] == []


@needs_kedro_1_7
def test_loader_takes_these_steps() -> None:
    source = inspect.getsource(OmegaConfigLoader)
    assert [step for step in LOADERS_STEPS if step not in source] == []


def test_guard_is_asked_for_by_the_argument_that_is_relied_on() -> None:
    assert _GUARD in inspect.signature(OmegaConfigLoader.__init__).parameters
    assert _GUARD in inspect.getsource(KedroServiceSession)


def test_session_registers_hooks_by_that_name_and_looks_at_its_mode() -> None:
    source = inspect.getsource(KedroServiceSession)
    for text in ("_register_hooks_entry_points(", "self._serving_mode", "._get_catalog("):
        assert text in source


@pytest.mark.usefixtures("unpatched")
def test_each_stage_replaces_its_names_once() -> None:
    for stage in (Stage.BOOTSTRAP, Stage.CONFIG_LOADER, Stage.FIRST_LITERAL):
        paths = [path for each in REPLACED if each.stage is stage for path in each.paths]
        originals = [resolve_name(path) for path in paths]
        apply(stage)
        found = [resolve_name(path) for path in paths]
        assert [getattr(each, ORIGINAL) for each in found] == originals
        apply(stage)
        assert [resolve_name(path) for path in paths] == found


@pytest.mark.usefixtures("unpatched")
def test_nothing_is_replaced_before_its_stage() -> None:
    apply()
    later = [path for each in REPLACED if each.stage is not Stage.BOOTSTRAP for path in each.paths]
    assert not any(hasattr(resolve_name(path), ORIGINAL) for path in later)


def test_forkservers_children_find_no_package_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kedro.framework.project.PACKAGE_NAME", "probe")
    apply(Stage.FORKSERVER)
    assert resolve_name("kedro.framework.project:PACKAGE_NAME") is None


@pytest.mark.usefixtures("unpatched")
def test_replacements_are_what_kedro_calls() -> None:
    apply()
    threads = resolve_name("kedro.runner.task:ThreadPoolExecutor")
    for name in ("task", "thread_runner"):
        replaced = resolve_name(f"kedro.runner.{name}:ThreadPoolExecutor")
        assert issubclass(replaced, getattr(threads, ORIGINAL))
    pipeline = Pipeline([node(lambda: 1, None, "x", name="n")])
    assert set(SequentialRunner().run(pipeline, resolve_name("kedro.io:DataCatalog")())) == {"x"}


def used_private_names() -> dict[str, str]:
    """Return the private names that these rooms use and do not define, and where."""
    used: dict[str, str] = {}
    defined: set[str] = set()
    for path in MODULES:
        for each in ast.walk(ast.parse(path.read_text())):
            if isinstance(each, (ast.FunctionDef, ast.ClassDef)):
                defined.add(each.name)
            elif isinstance(each, (ast.Assign, ast.AnnAssign)):
                targets = each.targets if isinstance(each, ast.Assign) else [each.target]
                names = [name for target in targets for name in ast.walk(target)]
                defined |= {name.id for name in names if isinstance(name, ast.Name)}
                defined |= {name.attr for name in names if is_attribute_of_self(name)}
            elif isinstance(each, ast.Attribute) and is_private(each.attr):
                used[each.attr] = f"{path}:{each.lineno}"
            elif isinstance(each, ast.ImportFrom):
                used |= {
                    alias.name: f"{path}:{each.lineno}"
                    for alias in each.names
                    if is_private(alias.name)
                }
    return {name: where for name, where in used.items() if name not in defined}


def is_private(name: str) -> bool:
    return bool(re.match("_[a-zA-Z]", name))


def is_attribute_of_self(node: ast.AST) -> Any:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    )


def test_every_private_name_of_others_is_listed() -> None:
    listed = {path.rpartition(":")[2].rpartition(".")[2] for path, _ in EACH}
    listed |= {part for path, _ in EACH for part in path.rpartition(":")[2].split(".")}
    unlisted = {n: where for n, where in used_private_names().items() if n not in listed}
    unlisted.pop("_exit")  # os._exit, which is documented
    assert unlisted == {}


def test_every_listed_name_is_used() -> None:
    text = "\n".join(path.read_text() for path in MODULES if path.name != "kedro_patches.py")
    unused = [
        path
        for path, each in EACH
        if not each.replacement and path.rpartition(":")[2].rpartition(".")[2] not in text
    ]
    assert unused == []


def replaced_names(path: Path) -> set[str]:
    """Return what a module assigns to attributes of what it imports."""
    tree = [*ast.walk(ast.parse(path.read_text()))]
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for each in tree
        if isinstance(each, (ast.Import, ast.ImportFrom))
        for alias in each.names
    }
    targets = {
        ast.unparse(each)
        for each in tree
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
    }
    return {each for each in targets if each.partition(".")[0] in imported}


def test_only_apply_replaces_in_the_project_room() -> None:
    found = {path.name: replaced_names(path) for path in (PACKAGE / "project").rglob("*.py")}
    assert {name: each for name, each in found.items() if each} == {}


def test_what_workers_and_logs_replace_is_listed() -> None:
    paths = [*(PACKAGE / "workers").rglob("*.py"), *(PACKAGE / "logs").rglob("*.py")]
    found = {name for path in paths for name in replaced_names(path)}
    listed = {path.replace(":", ".") for each in REPLACED_ELSEWHERE for path in each.paths}
    found.discard("SECRETS.announce")  # of this package
    documented = {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
    assert found - documented == listed


@pytest.mark.parametrize("each", FOREIGN_NAMES, ids=lambda each: each.paths[0])
def test_row_says_why_and_until_when(each: ForeignName) -> None:
    assert each.why.endswith(".")
    assert each.until.endswith(".")
    assert re.fullmatch(r"(kedro|omegaconf|numpy|python) \d+\.\d+", each.since)
    assert not each.replacement or callable(resolve_name(each.replacement))
