"""The process's logging, left as it was found."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_restored() -> Iterator[None]:
    """Undo what the code under test does to the root logger, and to those of kafka-python.

    These begin without the filters that an earlier test may have left.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = {"kafka", "kafka.net", "kafka.cluster", *logging.root.manager.loggerDict}
    clients = [logging.getLogger(name) for name in names if name.partition(".")[0] == "kafka"]
    before = [(client, client.level, client.filters[:]) for client in clients]
    for client in clients:
        client.filters.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for client, client_level, filters in before:
            client.setLevel(client_level)
            client.filters[:] = filters
