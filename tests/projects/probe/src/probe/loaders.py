"""Configuration loaders that projects have."""

import time
from typing import Any

from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from omegaconf import OmegaConf


class OldArgumentsLoader(OmegaConfigLoader):
    """Knows the arguments of an older Kedro alone."""

    def __init__(
        self,
        conf_source: str,
        env: str | None = None,
        runtime_params: dict[str, Any] | None = None,
        *,
        base_env: str | None = None,
        default_run_env: str | None = None,
    ) -> None:
        super().__init__(
            conf_source,
            env,
            runtime_params,
            base_env=base_env,
            default_run_env=default_run_env,
        )


class OwnResolversLoader(OmegaConfigLoader):
    """Registers a resolver for each instance, as if there were one in a process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not OmegaConf.has_resolver("own_tag"):
            OmegaConf.register_new_resolver("own_tag", lambda: self.runtime_params.get("tag"))

    def __getitem__(self, key: str) -> Any:
        if key == "catalog":
            config = super().__getitem__(key)
            tag = OmegaConf.to_container(OmegaConf.create({"tag": "${own_tag:}"}), resolve=True)
            config["echo"]["tag"] = tag["tag"] or "none"
            return config
        return super().__getitem__(key)


class ForeignLoader(AbstractConfigLoader):
    """Shares nothing with Kedro's loader, its guard neither: it keeps one inside."""

    def __init__(
        self,
        conf_source: str,
        env: str | None = None,
        runtime_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conf_source, env, runtime_params)
        self._inner = OmegaConfigLoader(
            conf_source, env, runtime_params, base_env="base", default_run_env="local"
        )

    def __getitem__(self, key: str) -> Any:
        return self._inner[key]


class SlowLoader(OmegaConfigLoader):
    """Takes its time over the catalog."""

    def __getitem__(self, key: str) -> Any:
        if key == "catalog":
            time.sleep(20)
        return super().__getitem__(key)
