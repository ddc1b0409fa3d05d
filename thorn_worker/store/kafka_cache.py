"""The local half of the Kafka store: an SQLite file that holds what the state topic says of some partitions.

It is a cache: what it loses is read again from the topic. So it does not wait for the disk at each commit
(synchronous NORMAL: a power cut takes the last transactions, rows and checkpoints together), and a file that
is damaged is thrown away.
"""

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from gevent.event import AsyncResult

from producer.errors import LogUnavailable, LogUnusable
from producer.log.sqlite_schema import (
    BUSY_TIMEOUT_S,
    ROWS,
    WAL_LIMIT_BYTES,
    explained,
    transaction,
    use_wal,
)
from thorn_worker.log.group_commit import GroupCommit
from thorn_worker.log.kafka_findings import STATE_RETENTION_MS
from thorn_worker.log.ops import Change, Op

#: An older checkpoint may lie before a row that is gone together with its tombstone, and is not used.
CHECKPOINT_AGE_S: Final = STATE_RETENTION_MS / 1000 / 2
#: Rows of a partition that are dropped in one transaction.
DROP_ROWS: Final = 20_000
#: `user_version` of the file; another one is not read.
_VERSION: Final = 1
_SCHEMA: Final = (
    *ROWS,
    """CREATE TABLE checkpoints (
        partition INTEGER PRIMARY KEY, state_id TEXT NOT NULL, topic_id TEXT NOT NULL,
        offset INTEGER NOT NULL, at REAL NOT NULL)""",
    f"PRAGMA user_version = {_VERSION}",
)
_DROP_STALE: Final = (
    "DELETE FROM checkpoints WHERE partition NOT IN (SELECT value FROM json_each(?))",
    "DELETE FROM pendings WHERE partition NOT IN (SELECT value FROM json_each(?))",
    "DELETE FROM endpoints WHERE partition NOT IN (SELECT value FROM json_each(?))",
)
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_log: Final = logging.getLogger("thorn_worker.store")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to where the cache stands for a state partition.

    offset: everything below it is in the cache. at: Unix seconds at which nothing at or beyond it was written
    yet. The ids are of the state topic and of the deliveries topic.
    """

    state_id: str
    topic_id: str
    offset: int
    at: float


class Cache(GroupCommit):
    """Owns the file, and with it both connections to it.

    state_id, topic_id: of the topics that it is used for. What it holds of others, or is too old, is dropped
    when it is opened.
    """

    def __init__(self, folder: Path, state_id: str, topic_id: str) -> None:
        super().__init__(str(folder / "cache.db"), "", "the local cache of the store")
        self.state_id: Final = state_id
        self.topic_id: Final = topic_id
        self._damaged = False

    def open(self) -> None:
        """Open the file, or make it; waits. Raises `LogError`."""
        self._start()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `GroupCommit.read`; raises `LogUnusable` for good once the file was found damaged."""
        if self._damaged:
            raise LogUnusable(
                f"{self.path} was damaged and is dropped: restart the worker, which restores it in full"
            )
        return super().read(work)

    def checkpoint(self, partition: int) -> Checkpoint | None:
        """Of a partition; None if nothing of it is held. Waits; raises `LogError`."""
        return self.read(partial(_checkpoint, partition=partition))

    def drop(self, partition: int) -> None:
        """Forget all of a partition, its checkpoint first; waits. Raises `LogUnavailable` if it can't."""
        while self._written(partial(_drop_some, partition=partition)):
            pass

    def write(
        self, change: Change, partition: int, offset: int, at: float, settled: Callable[[bool], None]
    ) -> None:
        """Make `change` and move the partition's checkpoint, in one transaction; returns at once.

        offset, at: see `Checkpoint`. settled: see `Op`.
        """
        row = (partition, self.state_id, self.topic_id, offset, at)

        def both(connection: sqlite3.Connection) -> None:
            change(connection)
            connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?)", row)

        self.submit(Op(None, both, settled))

    def _written(self, work: Callable[[sqlite3.Connection], T]) -> T:
        results: list[T] = []
        settled: AsyncResult[bool] = AsyncResult()
        self.submit(Op(None, lambda connection: results.append(work(connection)), settled.set))
        if not settled.get():
            raise LogUnavailable(f"{self.path} was closed")
        return results[-1]

    # What follows runs on the two threads.

    def _connect(self, *, first: bool) -> sqlite3.Connection:
        with explained(self.path):
            if first and not self._is_readable():
                self._remove()
            connection = sqlite3.connect(
                f"file:{quote(self.path)}?mode={'rwc' if first else 'rw'}",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                use_wal(connection, self.path)
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
                if first:
                    with transaction(connection):
                        self._prepare(connection)
                return connection
            except BaseException:
                connection.close()
                raise

    def _is_readable(self) -> bool:
        """A file of this release's, not damaged, with something in it that is of use."""
        if not os.path.exists(self.path):
            return False
        try:
            with closing(sqlite3.connect(self.path)) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                return version == _VERSION and bool(self._fresh_partitions(connection))
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _log.warning("%s is damaged (%s): it is dropped, and restored in full", self.path, error)
            return False

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            for statement in _SCHEMA:
                connection.execute(statement)
        fresh = json.dumps(self._fresh_partitions(connection))
        for stale in _DROP_STALE:
            connection.execute(stale, (fresh,))

    def _fresh_partitions(self, connection: sqlite3.Connection) -> list[int]:
        now = time.time()
        found = connection.execute("SELECT partition FROM checkpoints").fetchall()
        checkpoints = {partition: _checkpoint(connection, partition) for (partition,) in found}
        return [
            partition
            for partition, checkpoint in checkpoints.items()
            if checkpoint is not None and self.is_usable(checkpoint, now)
        ]

    def is_usable(self, checkpoint: Checkpoint, now: float) -> bool:
        """It is of these topics, and no tombstone at or beyond it can be gone yet.

        now: Unix seconds. A checkpoint from the future: the clock was wrong, then or now.
        """
        same = (checkpoint.state_id, checkpoint.topic_id) == (self.state_id, self.topic_id)
        return same and 0 <= now - checkpoint.at < CHECKPOINT_AGE_S

    def _give_up(self, connection: sqlite3.Connection | None, error: LogUnusable) -> None:
        super()._give_up(connection, error)
        if isinstance(error.__cause__, sqlite3.Error) and _is_damage(error.__cause__):
            self._damaged = True
            self._remove()

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.remove(self.path + suffix)


def _checkpoint(connection: sqlite3.Connection, partition: int) -> Checkpoint | None:
    row = connection.execute(
        "SELECT state_id, topic_id, offset, at FROM checkpoints WHERE partition = ?", (partition,)
    ).fetchone()
    return None if row is None else Checkpoint(*row)


def _drop_some(connection: sqlite3.Connection, partition: int) -> int:
    """Number of rows that were dropped."""
    connection.execute("DELETE FROM checkpoints WHERE partition = ?", (partition,))
    connection.execute("DELETE FROM endpoints WHERE partition = ?", (partition,))
    return connection.execute(
        "DELETE FROM pendings WHERE id IN (SELECT id FROM pendings WHERE partition = ? LIMIT ?)",
        (partition, DROP_ROWS),
    ).rowcount


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _DAMAGE
