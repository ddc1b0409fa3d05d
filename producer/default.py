"""The one producer behind ``producer.send``, for services that need only one."""

import threading
from typing import Final

from producer.client import Producer


class _Default:
    """Holds the configured producer; makes one from environment and settings file if nobody configured it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def configure(self, settings: dict[str, object]) -> Producer:
        made = Producer(**settings)
        with self._lock:
            previous, self._producer = self._producer, made
        if previous is not None:
            previous.close()
        return made

    def get(self) -> Producer:
        if self._producer is None:
            with self._lock:
                if self._producer is None:
                    self._producer = Producer()
        return self._producer


_default: Final = _Default()


def configure(**settings: object) -> Producer:
    """Make the producer behind ``producer.send``; an earlier one is flushed and closed. See `Producer`."""
    return _default.configure(settings)


def get() -> Producer:
    """The producer behind ``producer.send``; made from environment and settings file at first use."""
    return _default.get()
