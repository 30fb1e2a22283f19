"""Settings of the probe project, some of them chosen by the tests through the environment."""

import os

from probe.hooks import ProbeHooks

if os.environ.get("PROBE_LOADER"):
    from probe import loaders

    CONFIG_LOADER_CLASS = getattr(loaders, os.environ["PROBE_LOADER"])

HOOKS = (ProbeHooks(),)

RUNNER_MODULE_ALLOWLIST = ["permitted_runners"]
RUNNER_MODULES_WHITELIST = ["formerly_permitted_runners"]

if os.environ.get("PROBE_SERVER"):
    import json

    SERVER = json.loads(os.environ["PROBE_SERVER"])

if os.environ.get("PROBE_BLUEPRINTS"):
    SERVER_BLUEPRINTS = os.environ["PROBE_BLUEPRINTS"].split(",")
