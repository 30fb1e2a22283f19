"""Serves an application with waitress: the one door to it."""

from kedro_flask_server.serving.server import CUT_OFF, DRAINED, Server, end_process

__all__ = ["CUT_OFF", "DRAINED", "Server", "end_process"]
