"""Serves an application with waitress."""

from kedro_flask_server.serving.server import CUT_OFF, DRAINED, Server, end_process

__all__ = ["CUT_OFF", "DRAINED", "Server", "end_process"]
