"""The store beside the SQLite log: tables in the same file, written through the same journal."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gevent.event import Event

from producer.model import Life
from thorn_worker.log.group_commit import GroupCommit
from thorn_worker.log.journal import Journal
from thorn_worker.log.ops import Op
from thorn_worker.store import queries
from thorn_worker.store.contract import DeadLetter, Done, EndpointState, Pending, Restored
from thorn_worker.store.rows import encode_endpoint, encode_letter, encode_pending, letter_id
from thorn_worker.store.statements import PUT, REMOVE, SAVE_ENDPOINT
from thorn_worker.store.table import RELEASE_WAIT_S, TableStore

_BURY: Final = (
    "INSERT OR REPLACE INTO dead (partition, offset, idx, host, sub, delivery_id, died_at, reason, value)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_Statement = tuple[str, tuple[object, ...]]


class SqliteStore(TableStore):
    """Rows of the partitions whose epoch is ours. Usable between the reader's `open` and `close`."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def __repr__(self) -> str:
        return f"<SqliteStore of {self._journal!r} for {sorted(self._owned)}>"

    def restore(self, partition: int, epoch: int, committed: int) -> Restored:
        restored = self._journal.read(
            partial(queries.restore_leased, lease=(partition, self._journal.me, epoch), committed=committed)
        )
        self._own(partition)
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
        self._write(life.partition, epoch, [(PUT, values)], done)

    def remove(self, epoch: int, life: Life, done: Done) -> None:
        self._write(life.partition, epoch, [(REMOVE, life[1:])], done)

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
        self._write(life.partition, epoch, [(_BURY, values), (REMOVE, life[1:])], done)

    def save_endpoint(self, partition: int, epoch: int, state: EndpointState, done: Done) -> None:
        values = (partition, state.sub, encode_endpoint(state))
        self._write(partition, epoch, [(SAVE_ENDPOINT, values)], done)

    def release(self, partition: int, epoch: int) -> bool:
        finished = Event()
        verdicts: list[bool] = []

        def settled(done: bool) -> None:
            verdicts.append(done)
            finished.set()

        self._journal.submit(Op((partition, epoch), _change_nothing, settled))
        finished.wait(RELEASE_WAIT_S)
        self._disown(partition)
        return verdicts == [True]

    def _file(self) -> GroupCommit:
        return self._journal

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
