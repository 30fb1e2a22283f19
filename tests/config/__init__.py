from __future__ import annotations

from pathlib import Path

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.config.settings_file import SettingsFile
from kedro_flask_server.config.sources import load_config


def load(tmp_path: Path, arguments=None, environ=None, project=None, file=None) -> ServerConfig:
    return load_config(
        tmp_path,
        arguments=arguments or {},
        environ=environ or {},
        read_file=lambda env, conf_source: file or SettingsFile(),
        project_settings=project or {},
    )
