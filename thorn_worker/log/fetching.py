"""Reading records from the SQLite file, a fair share of each partition at a time. Runs on the reading
thread."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from producer.log.sqlite_schema import OFFSET_BITS, record_id
from thorn_worker.log.contract import CommitRequest, RawRecord
from thorn_worker.log.housekeeping import prune

#: One fetch brings at most so many records, and stops a partition's turn at its share of so many bytes.
FETCH_RECORDS: Final = 500
FETCH_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Want:
    """The next offset to read of a partition that is ours under `epoch` and not paused."""

    partition: int
    epoch: int
    position: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch found.

    version: the file's data version, for the next fetch. more: some partition has records beyond these.
    moved: a wanted partition is not ours any more. free: some partition has no owner.
    """

    version: int
    records: Sequence[RawRecord]
    more: bool
    moved: bool
    free: bool


def fetch(connection: sqlite3.Connection, me: str, wants: Sequence[Want], seen: int | None) -> Fetched | None:
    """The next records of `wants`, in turn, each at least one record if it has any.

    seen: data version of the last fetch; None is returned if nothing in the file has changed since. Each of n
    partitions with records gets a share of FETCH_RECORDS / n and FETCH_BYTES / n, so that a hot one starves
    none.
    """
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    if version == seen:
        return None
    connection.execute("BEGIN")  # one view of counters and records
    try:
        rows = connection.execute("SELECT partition, next_offset, owner, epoch FROM partitions").fetchall()
        ends = {partition: end for partition, end, owner, epoch in rows}
        leases = {partition: (owner, epoch) for partition, end, owner, epoch in rows}
        ours = [want for want in wants if leases[want.partition] == (me, want.epoch)]
        ready = [want for want in ours if want.position < ends[want.partition]][:FETCH_RECORDS]
        records: list[RawRecord] = []
        more = False
        for want in ready:
            got = _records(connection, want, FETCH_RECORDS // len(ready), FETCH_BYTES // len(ready))
            more = more or want.position + len(got) < ends[want.partition]
            records.extend(got)
    finally:
        connection.execute("ROLLBACK")
    free = any(owner is None for owner, _epoch in leases.values())
    return Fetched(version, records, more, len(ours) < len(wants), free)


def end_offsets(connection: sqlite3.Connection) -> dict[int, int]:
    """Partition -> offset of the next record appended."""
    return dict(connection.execute("SELECT partition, next_offset FROM partitions"))


def commit(connection: sqlite3.Connection, request: CommitRequest) -> bool:
    """Store a watermark, never a lower one, and delete what it completes. True if there is more to delete."""
    (committed,) = connection.execute(
        # An older watermark's gap map counts from another offset: it must not stand beside a newer one.
        "UPDATE partitions SET committed = max(committed, ?1),"
        " metadata = CASE WHEN ?1 >= committed THEN ?2 ELSE metadata END WHERE partition = ?3"
        " RETURNING committed",
        (request.offset, request.metadata, request.partition),
    ).fetchone()
    return prune(connection, request.partition, committed)


def _records(connection: sqlite3.Connection, want: Want, count: int, size: int) -> list[RawRecord]:
    cursor = connection.execute(
        "SELECT id, key, appended_at, value FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (record_id(want.partition, want.position), record_id(want.partition + 1, 0), count),
    )
    records = []
    for number, key, appended_at, value in cursor:
        offset = number & (1 << OFFSET_BITS) - 1
        records.append(RawRecord(want.partition, want.epoch, offset, key.encode(), value, appended_at))
        size -= len(value)
        if size <= 0:
            break
    cursor.close()
    return records
