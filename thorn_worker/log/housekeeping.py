"""What keeps the SQLite file small: deleting completed records, giving pages back, cutting the write-ahead
log."""

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Final

from producer.log.sqlite_schema import record_id, transaction

#: One transaction deletes at most so much, to stay short for everybody who waits for the file.
PRUNE_RECORDS: Final = 500
PRUNE_BYTES: Final = 8 * 1024 * 1024
#: Seconds between looks at the file's size.
LOOK_EVERY_S: Final = 10.0
#: A write-ahead log larger than this is emptied when nothing else is to do.
WAL_TIDY_BYTES: Final = 16 * 1024 * 1024
#: Free pages beyond this are given back to the file system, so many at a time.
FREE_PAGES_KEPT: Final = 16_384
PAGES_PER_STEP: Final = 1_024
#: How long emptying the write-ahead log waits for readers before it lets it be.
CHECKPOINT_WAIT_MS: Final = 100

Chore = Callable[[sqlite3.Connection], None]


class Housekeeping:
    """Decides which chore is due. `next` is called on the hub; the chores run on the writing thread."""

    def __init__(self, path: str) -> None:
        self._wal = f"{path}-wal"
        self._unpruned: dict[int, int] = {}
        self._looked_at = float("-inf")
        self._may_shrink = True

    def prune(self, partition: int, below: int) -> None:
        """Records of `partition` below this offset are to be deleted."""
        self._unpruned[partition] = max(below, self._unpruned.get(partition, 0))

    def next(self, now: float) -> Chore | None:
        """The next chore, None if none is due. now: monotonic."""
        if self._unpruned:
            partition, below = self._unpruned.popitem()
            return partial(self._prune, partition, below)
        if now - self._looked_at < LOOK_EVERY_S:
            return None
        if self._may_shrink:
            self._may_shrink = False
            return self._shrink
        self._looked_at = now
        self._may_shrink = True
        return _checkpoint if _size(self._wal) > WAL_TIDY_BYTES else None

    def _prune(self, partition: int, below: int, connection: sqlite3.Connection) -> None:
        with transaction(connection):
            more = prune(connection, partition, below)
        if more:
            self.prune(partition, below)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if free > FREE_PAGES_KEPT:
            with transaction(connection):
                connection.execute(f"PRAGMA incremental_vacuum({PAGES_PER_STEP})").fetchall()
            self._may_shrink = True


def prune(connection: sqlite3.Connection, partition: int, below: int) -> bool:
    """Delete the oldest records of `partition` below offset `below`, a bounded number. True if some are left.

    Inside a write transaction.
    """
    first, end = record_id(partition, 0), record_id(partition, below)
    (last, seen) = connection.execute(
        "SELECT max(id) FILTER (WHERE before < ?), max(id) FROM ("
        " SELECT id, sum(size) OVER (ORDER BY id) - size AS before FROM ("
        "  SELECT id, length(value) AS size FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?))",
        (PRUNE_BYTES, first, end, PRUNE_RECORDS),
    ).fetchone()
    if last is None:
        return False
    deleted = connection.execute("DELETE FROM records WHERE id >= ? AND id <= ?", (first, last)).rowcount
    return last < seen or deleted == PRUNE_RECORDS


def _checkpoint(connection: sqlite3.Connection) -> None:
    (usual,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {usual}")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
