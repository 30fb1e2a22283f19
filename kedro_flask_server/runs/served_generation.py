"""One generation of a served pipeline: workers that have the same data loaded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from kedro_flask_server.executors import ServedWorkers
from kedro_flask_server.model.served import DatasetVersion, Loaded

logger = logging.getLogger(__name__)


class ServedGeneration:
    """Workers with their data, until the last of their calls has ended. Thread-safe."""

    def __init__(
        self,
        number: int,
        workers: ServedWorkers,
        chosen: Mapping[str, DatasetVersion],
        loaded: Loaded,
        described: dict[str, Any],
    ) -> None:
        """Take workers that are ready.

        Args:
            number: Its number in this server, from 1.
            workers: The workers.
            chosen: What was chosen to be loaded.
            loaded: What was loaded.
            described: What data the pipeline takes and returns.
        """
        self.described = described
        self.number = number
        self.workers = workers
        self.chosen = dict(chosen)
        self.loaded = loaded
        self.since = datetime.now(timezone.utc)
        self._lock = threading.Lock()
        self._calls = 0
        self._is_retired = False

    def enter(self) -> bool:
        """Begin a call; return False where it takes no more."""
        with self._lock:
            if self._is_retired:
                return False
            self._calls += 1
            return True

    def leave(self) -> None:
        """End a call."""
        with self._lock:
            self._calls -= 1
            is_over = self._is_retired and self._calls == 0
        if is_over:
            self._close()

    def retire(self) -> None:
        """Take no more calls, and end the workers after those that there are."""
        with self._lock:
            self._is_retired = True
            is_over = self._calls == 0
        if is_over:
            self._close()

    def _close(self) -> None:
        # No caller waits for the end of processes.
        threading.Thread(target=self.close, name="kedro-served-end", daemon=True).start()

    def close(self) -> None:
        """End the workers now."""
        try:
            self.workers.close()
        except Exception:  # a server goes on with the next generation
            logger.exception("The workers of a generation could not be ended")
