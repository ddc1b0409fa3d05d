"""The store beside the SQLite log: tables in the same file, written through the same journal."""

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

import gevent
from gevent.event import Event

from producer.errors import LogError
from producer.model import Life
from thorn_worker.log.journal import Journal
from thorn_worker.log.ops import Op
from thorn_worker.store import queries
from thorn_worker.store.contract import (
    DeadLetter,
    Done,
    Due,
    EndpointState,
    Pending,
    Restored,
    Selection,
    Store,
)
from thorn_worker.store.rows import encode_endpoint, encode_letter, encode_pending, letter_id

#: How long `release` waits for the last writes of a partition.
RELEASE_WAIT_S: Final = 3.0
#: `counts` is at least this stale, and counting takes at most this part of the reading thread's time.
COUNT_EVERY_S: Final = 5.0
COUNT_SHARE: Final = 0.02

_PUT: Final = (
    "INSERT INTO pendings"
    " (partition, offset, idx, host, sub, delivery_id, due_at, appended_at, expires_at, reason, value)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (partition, offset, idx) DO UPDATE SET host = excluded.host, sub = excluded.sub,"
    " delivery_id = excluded.delivery_id, due_at = excluded.due_at, appended_at = excluded.appended_at,"
    " expires_at = excluded.expires_at, reason = excluded.reason, value = excluded.value"
)
_REMOVE: Final = "DELETE FROM pendings WHERE partition = ? AND offset = ? AND idx = ?"
_BURY: Final = (
    "INSERT OR REPLACE INTO dead (partition, offset, idx, host, sub, delivery_id, died_at, reason, value)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SAVE_ENDPOINT: Final = "INSERT OR REPLACE INTO endpoints (partition, sub, value) VALUES (?, ?, ?)"

_Statement = tuple[str, tuple[object, ...]]


class SqliteStore(Store):
    """Rows of the partitions whose epoch is ours. Usable between the reader's `open` and `close`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._owned: set[int] = set()
        self._counts: tuple[int, float | None] = (0, None)
        self._counting = False
        self._count_due_at = float("-inf")

    def __repr__(self) -> str:
        return f"<SqliteStore of {self._journal!r} for {sorted(self._owned)}>"

    def restore(self, partition: int, epoch: int, committed: int) -> Restored:
        restored = self._journal.read(
            partial(queries.restore, lease=(partition, self._journal.me, epoch), committed=committed)
        )
        self._owned.add(partition)
        self._count_due_at = float("-inf")
        return restored

    def put(self, epoch: int, row: Pending, done: Done) -> None:
        life, delivery = row.life, row.delivery
        values = (
            *life[1:],
            row.host,
            delivery.sub,
            delivery.id,
            row.due_at,
            row.appended_at,
            delivery.expires_at,
            row.reason,
            encode_pending(row),
        )
        self._write(life.partition, epoch, [(_PUT, values)], done)

    def remove(self, epoch: int, life: Life, done: Done) -> None:
        self._write(life.partition, epoch, [(_REMOVE, life[1:])], done)

    def bury(self, epoch: int, letter: DeadLetter, done: Done) -> None:
        life = letter.life
        sub = "" if letter.delivery is None else letter.delivery.sub
        values = (
            *life[1:],
            letter.host,
            sub,
            letter_id(letter),
            letter.died_at,
            str(letter.reason),
            encode_letter(letter),
        )
        self._write(life.partition, epoch, [(_BURY, values), (_REMOVE, life[1:])], done)

    def save_endpoint(self, partition: int, epoch: int, state: EndpointState, done: Done) -> None:
        values = (partition, state.sub, encode_endpoint(state))
        self._write(partition, epoch, [(_SAVE_ENDPOINT, values)], done)

    def due(self, partition: int, host: str, now: float, limit: int, loaded: Collection[Life]) -> Due:
        return self._journal.read(
            partial(queries.due, place=(partition, host), now=now, limit=limit, loaded=_places(loaded))
        )

    def unresolved(self, partition: int, sub: str, limit: int, loaded: Collection[Life]) -> list[Pending]:
        return self._journal.read(
            partial(queries.unresolved, partition=partition, sub=sub, limit=limit, loaded=_places(loaded))
        )

    def overdue(self, partition: int, appended_before: float, now: float, limit: int) -> list[Pending]:
        return self._journal.read(
            partial(
                queries.overdue, partition=partition, appended_before=appended_before, now=now, limit=limit
            )
        )

    def select(
        self, partition: int, selection: Selection, limit: int, after: Life | None
    ) -> Sequence[Pending]:
        return self._journal.read(
            partial(queries.select, partition=partition, selection=selection, limit=limit, after=after)
        )

    def release(self, partition: int, epoch: int) -> bool:
        finished = Event()
        verdicts: list[bool] = []

        def settled(done: bool) -> None:
            verdicts.append(done)
            finished.set()

        self._journal.submit(Op((partition, epoch), _change_nothing, settled))
        finished.wait(RELEASE_WAIT_S)
        self._owned.discard(partition)
        self._count_due_at = float("-inf")
        return verdicts == [True]

    def counts(self) -> tuple[int, float | None]:
        if not self._counting and time.monotonic() >= self._count_due_at:
            self._counting = True
            gevent.spawn(self._count)
        return self._counts

    def _count(self) -> None:
        began = time.monotonic()
        try:
            self._counts = self._journal.read(partial(queries.count, partitions=tuple(self._owned)))
        except LogError:
            return  # counted and logged by the journal; the last figures stand
        finally:
            ended = time.monotonic()
            self._count_due_at = ended + max(COUNT_EVERY_S, (ended - began) / COUNT_SHARE)
            self._counting = False

    def _write(self, partition: int, epoch: int, statements: Sequence[_Statement], done: Done) -> None:
        self._journal.submit(Op((partition, epoch), partial(_execute, statements), partial(_if_done, done)))


def _execute(statements: Sequence[_Statement], connection: sqlite3.Connection) -> None:
    for sql, values in statements:
        connection.execute(sql, values)


def _change_nothing(connection: sqlite3.Connection) -> None:
    """A mark in the journal: whatever came before it is settled."""


def _if_done(callback: Callable[[], None], done: bool) -> None:
    if done:
        callback()


def _places(lives: Collection[Life]) -> frozenset[tuple[int, int]]:
    return frozenset((life.offset, life.index) for life in lives)
