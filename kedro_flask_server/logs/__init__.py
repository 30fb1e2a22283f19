"""Logging: records made safe, attributed to runs, and cheap for the runs."""

from __future__ import annotations

from kedro_flask_server.logs.lines import draw_for_terminals_only, json_line, notice_of_dropped
from kedro_flask_server.logs.records import logs_of, logs_of_process, make_records_safe
from kedro_flask_server.logs.writer import LogWriter, flush_logs

__all__ = [
    "LogWriter",
    "draw_for_terminals_only",
    "flush_logs",
    "json_line",
    "logs_of",
    "logs_of_process",
    "make_records_safe",
    "notice_of_dropped",
]
