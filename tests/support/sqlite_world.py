"""A log in an SQLite file for the reader's and the store's contract, with leases that expire fast."""

import sqlite3
from contextlib import closing
from pathlib import Path

import gevent

from producer.log.buffer import BufferLimits
from producer.log.contract import NewRecord
from producer.log.sqlite import SqliteOptions, SqliteWriter
from tests.contract.reader import PARTITIONS, ReaderWorld
from thorn_worker.log.contract import LogReader
from thorn_worker.log.journal import Journal
from thorn_worker.log.leases import LeaseTiming, member_name
from thorn_worker.log.sqlite import SqliteReader
from thorn_worker.store.contract import Store
from thorn_worker.store.sqlite import SqliteStore

BEAT_S = 0.05
TTL_S = 1.0


class SqliteReaderWorld(ReaderWorld):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.timing = LeaseTiming(beat_s=BEAT_S, ttl_s=TTL_S)
        self.readers: list[SqliteReader] = []
        self._writer = SqliteWriter(SqliteOptions(path=str(path), partitions=PARTITIONS), BufferLimits())

    def append(self, partition: int, *values: bytes) -> None:
        failures: list[object] = []
        records = [NewRecord("https://a.example:443", value, partition=partition) for value in values]
        self._writer.append(records, failures.append)
        assert self._writer.flush(20.0)
        assert failures == [None]

    def journal(self) -> Journal:
        return Journal(str(self.path), PARTITIONS, member_name(f"member{len(self.readers)}"))

    def member(self) -> tuple[LogReader, Store]:
        journal = self.journal()
        self.readers.append(SqliteReader(journal, self.timing))
        return self.readers[-1], SqliteStore(journal)

    def program(self) -> list[str]:
        return ["-m", "tests.support.sqlite_member", str(self.path), str(BEAT_S), str(TTL_S)]

    def outlast_lease(self) -> None:
        gevent.sleep(TTL_S + 0.1)

    def stored_offsets(self, partition: int) -> list[int]:
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute("SELECT id FROM records WHERE id >> 40 = ? ORDER BY id", (partition,))
            return [number & (1 << 40) - 1 for (number,) in rows]

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
        self._writer.close(5.0)
