"""The worker's one way to the SQLite log. See `thorn_worker.log.group_commit` for the threads."""

import logging
import sqlite3
from typing import Final, Protocol

from producer.errors import LogUnusable
from producer.log.sqlite_schema import LogIdentity, open_log
from thorn_worker.log.contract import LogInfo
from thorn_worker.log.group_commit import GroupCommit

_log: Final = logging.getLogger("thorn.worker")


class Connect(Protocol):
    """Opens the file; tests pass one that watches the calls."""

    def __call__(
        self, path: str, partitions: int, *, create: bool
    ) -> tuple[sqlite3.Connection, LogIdentity]: ...


class Journal(GroupCommit):
    """Owns both connections of a worker to its log file.

    me: this process's name as a member, unique per start.
    """

    def __init__(self, path: str, partitions: int, me: str, *, connect: Connect = open_log) -> None:
        super().__init__(path, me, "the log")
        self._partitions = partitions
        self._open_log = connect
        self._identity: LogIdentity | None = None

    def open(self) -> LogInfo:
        """Open the file, made or migrated if need be; waits. Raises `LogError`."""
        if self._identity is None:
            self._start()
        identity = self.identity
        if identity.partitions != self._partitions:
            _log.warning(
                "%s was made with %d partitions and keeps them; the setting partitions = %d has no effect",
                self.path,
                identity.partitions,
                self._partitions,
            )
        return LogInfo(self.path, identity.log_id, identity.log_id, identity.partitions)

    @property
    def identity(self) -> LogIdentity:
        """Of the open log. Raises `LogUnusable` before `open`."""
        if self._identity is None:
            raise LogUnusable(f"{self.path} is not open")
        return self._identity

    def prune_later(self, partition: int, below: int) -> None:
        """There are more records to delete than one transaction should: go on when nothing else is to do."""
        self._housekeeping.prune(partition, below)
        self._wake.set()

    def _connect(self, *, first: bool) -> sqlite3.Connection:
        connection, identity = self._open_log(self.path, self._partitions, create=first)
        if first:
            self._identity = identity
        elif identity != self._identity:
            connection.close()
            raise LogUnusable(f"{self.path} is another log than at the start: restart the worker")
        return connection
