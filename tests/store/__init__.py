from __future__ import annotations

import time
from typing import Protocol

from kedro_flask_server.errors import StoreUnavailableError


class _Opened(Protocol):
    def open(self) -> None: ...


def open_when_ready(store: _Opened) -> None:
    """Open a store or a database, however long this machine takes to make its schema."""
    ends_at = time.monotonic() + 60
    while True:
        try:
            return store.open()
        except StoreUnavailableError:
            if time.monotonic() > ends_at:
                raise
