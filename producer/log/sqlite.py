"""The SQLite log's writing half: one group commit per wake-up of the sender, safe with many processes at
once."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from producer.errors import LogFull, LogUnusable
from producer.log.buffer_state import BufferLimits
from producer.log.contract import NewRecord, OnDone
from producer.log.group_writer import GroupWriter
from producer.log.partition import partition_of

if TYPE_CHECKING:
    import sqlite3

#: Short, because the buffer tries again itself and must see deadlines, `close` and forks between two tries.
BUSY_TIMEOUT_S: Final = 1.0

_log = logging.getLogger("thorn.producer")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteOptions:
    """Where the log is and how large it may get.

    path: absolute, or relative to the working folder; the file is made if missing, its folder is not.
    partitions: of a new log; an existing one keeps its own. max_log_bytes: used pages, beyond which bounded
    records are refused.
    """

    path: str
    partitions: int = 12
    max_log_bytes: int = 10 * 1024**3


class SqliteWriter(GroupWriter):
    """Appends to the log in one SQLite file. `append` raises `LogFull` once `max_log_bytes` are used."""

    def __init__(self, options: SqliteOptions, limits: BufferLimits) -> None:
        self._options = options
        self._path = os.path.abspath(options.path)
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None
        self._partitions = 0
        #: Connections of a parent process. A child must neither use nor close them.
        self._inherited: list[sqlite3.Connection] = []
        super().__init__(limits)

    def __repr__(self) -> str:
        return f"<SqliteWriter {self._path} buffered={self.buffered_bytes}>"

    def partitions(self) -> int:
        if not self._partitions:
            self.open()
        return self._partitions

    def append(self, records: Sequence[NewRecord], on_done: OnDone) -> None:
        for record in records:
            if record.partition is not None and not 0 <= record.partition < self.partitions():
                raise ValueError(
                    f"partition {record.partition} does not exist: "
                    f"{self._path} has 0 to {self._partitions - 1}"
                )
        super().append(records, on_done)

    def _open(self) -> None:
        self._ready()

    def _write(self, records: Sequence[NewRecord]) -> None:
        from producer.log.sqlite_schema import explained, same_file, transaction

        connection = self._ready()
        if self._opened is None or not same_file(self._path, self._opened):
            self._close()
            raise LogUnusable(
                f"{self._path} was deleted or replaced while in use: stop its users before moving it"
            )
        with explained(self._path), transaction(connection):
            if any(record.bounded for record in records):
                self._check_room(connection)
            self._insert(connection, records)

    def _check_room(self, connection: "sqlite3.Connection") -> None:
        from producer.log.sqlite_schema import used_bytes

        used, limit = used_bytes(connection), self._options.max_log_bytes
        if used >= limit:
            raise LogFull(
                f"{self._path} uses {used} bytes and max_log_bytes is {limit}: "
                "let the workers catch up, or raise THORN_MAX_LOG_BYTES"
            )

    def _insert(self, connection: "sqlite3.Connection", records: Sequence[NewRecord]) -> None:
        """Give each record the next offset of its partition. The counter moves in the same transaction, so
        offsets have no gaps, and a partition that was pruned empty goes on where it was."""
        from producer.log.sqlite_schema import record_id

        now = time.time()
        next_offsets: dict[int, int] = {}
        rows = []
        for record in records:
            partition = record.partition
            if partition is None:
                partition = partition_of(record.key, self._partitions)
            offset = next_offsets.get(partition)
            if offset is None:
                (offset,) = connection.execute(
                    "SELECT next_offset FROM partitions WHERE partition = ?", (partition,)
                ).fetchone()
            rows.append((record_id(partition, offset), record.key, now, record.value))
            next_offsets[partition] = offset + 1
        connection.executemany("INSERT INTO records (id, key, appended_at, value) VALUES (?, ?, ?, ?)", rows)
        connection.executemany(
            "UPDATE partitions SET next_offset = ? WHERE partition = ?",
            ((offset, partition) for partition, offset in next_offsets.items()),
        )

    def _ready(self) -> "sqlite3.Connection":
        if self._connection is not None:
            return self._connection
        from producer.log.sqlite_schema import open_log

        connection, identity = open_log(self._path, self._options.partitions, busy_timeout_s=BUSY_TIMEOUT_S)
        if identity.partitions != self._options.partitions:
            _log.warning(
                "%s was made with %d partitions and keeps them; the setting partitions = %d has no effect",
                self._path,
                identity.partitions,
                self._options.partitions,
            )
        self._opened = os.stat(self._path)
        self._partitions = identity.partitions
        self._connection = connection
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _forget(self) -> None:
        if self._connection is not None:
            self._inherited.append(self._connection)
            self._connection = None
