"""The questions that the tables of a store answer. They run on the reading thread, each in one read
transaction."""

import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from producer.errors import LogUnavailable, WireError
from thorn_worker.logs import RateLimited
from thorn_worker.store.contract import Due, EndpointState, Pending, Restored, Selection
from thorn_worker.store.rows import decode_endpoint, decode_pending

T = TypeVar("T")

_unreadable: Final = RateLimited(logging.getLogger(__name__))

#: (offset, index) of a row in its partition.
Place = tuple[int, int]
#: No offset is as small as the negative of this.
FAR: Final = 1 << 62

_DUE: Final = (
    "SELECT offset, idx, due_at, value FROM pendings"
    " WHERE partition = ? AND host = ? AND due_at IS NOT NULL ORDER BY due_at"
)
_UNRESOLVED: Final = (
    "SELECT offset, idx, value FROM pendings"
    " WHERE partition = ? AND sub = ? AND reason = 'unresolved' ORDER BY offset, idx"
)
# Two narrow walks, each along its own index; rows with a due time take care of themselves.
_OVERDUE: Final = (
    "SELECT value FROM pendings WHERE id IN ("
    " SELECT id FROM (SELECT id FROM pendings INDEXED BY pendings_age"
    "  WHERE partition = :partition AND appended_at < :before AND due_at IS NULL"
    "  ORDER BY appended_at LIMIT :limit)"
    " UNION SELECT id FROM (SELECT id FROM pendings INDEXED BY pendings_expiry"
    "  WHERE partition = :partition AND expires_at <= :now AND due_at IS NULL AND expires_at IS NOT NULL"
    "  ORDER BY expires_at LIMIT :limit))"
    " ORDER BY offset, idx LIMIT :limit"
)
_SELECT_IDS: Final = (
    "SELECT value FROM pendings INDEXED BY pendings_delivery"
    " WHERE partition = :partition AND delivery_id IN (SELECT value FROM json_each(:ids))"
    " AND offset < :below AND (offset, idx) > (:offset, :idx) ORDER BY offset, idx"
)
# In the order of lives, page by page: a host's million rows are walked once and never sorted.
_SELECT_ANY: Final = (
    "SELECT value FROM pendings INDEXED BY pendings_life WHERE partition = :partition"
    " AND offset < :below AND (offset, idx) > (:offset, :idx) AND ("
    " delivery_id IN (SELECT value FROM json_each(:ids)) OR sub IN (SELECT value FROM json_each(:subs))"
    " OR host IN (SELECT value FROM json_each(:hosts))) ORDER BY offset, idx"
)


def restore_leased(connection: sqlite3.Connection, lease: tuple[int, str, int], committed: int) -> Restored:
    """What a partition of the SQLite log holds.

    lease: (partition, owner, epoch). Raises `LogUnavailable` if it does not stand.
    """
    partition, owner, epoch = lease
    now = connection.execute(
        "SELECT owner, epoch FROM partitions WHERE partition = ?", (partition,)
    ).fetchone()
    if now != (owner, epoch):
        raise LogUnavailable(
            f"partition {partition} in epoch {epoch} is not ours any more: it belongs to {now[0]}"
        )
    return restore(connection, partition, committed)


def restore(connection: sqlite3.Connection, partition: int, committed: int) -> Restored:
    """What a partition holds."""
    (rows,) = connection.execute("SELECT count(*) FROM pendings WHERE partition = ?", (partition,)).fetchone()
    lives = connection.execute(
        "SELECT offset, idx FROM pendings WHERE partition = ? AND offset >= ?", (partition, committed)
    )
    hosts = connection.execute(
        "SELECT host, min(due_at) FROM pendings WHERE partition = ? AND due_at IS NOT NULL GROUP BY host",
        (partition,),
    )
    subs = connection.execute(
        "SELECT DISTINCT sub FROM pendings WHERE partition = ? AND reason = 'unresolved'", (partition,)
    )
    states = connection.execute("SELECT value FROM endpoints WHERE partition = ?", (partition,))
    endpoints: list[EndpointState] = list(_readable(decode_endpoint, states))
    return Restored(
        rows=rows,
        lives=frozenset(lives),
        hosts=dict(hosts),
        unresolved=frozenset(sub for (sub,) in subs),
        endpoints={state.sub: state for state in endpoints},
    )


def due(
    connection: sqlite3.Connection, place: tuple[int, str], now: float, limit: int, loaded: Collection[Place]
) -> Due:
    """Rows of (partition, host) that are due."""
    rows: list[Pending] = []
    cursor = connection.execute(_DUE, place)
    try:
        for offset, idx, due_at, value in cursor:
            if (offset, idx) in loaded:
                continue
            if due_at > now or len(rows) == limit:
                return Due(rows, due_at)
            rows += _readable(decode_pending, [(value,)])
    finally:
        cursor.close()
    return Due(rows)


def unresolved(
    connection: sqlite3.Connection, partition: int, sub: str, limit: int, loaded: Collection[Place]
) -> list[Pending]:
    """Rows that wait until `sub` is known."""
    rows: list[Pending] = []
    cursor = connection.execute(_UNRESOLVED, (partition, sub))
    for offset, idx, value in cursor:
        if len(rows) == limit:
            break
        if (offset, idx) not in loaded:
            rows += _readable(decode_pending, [(value,)])
    cursor.close()
    return rows


def overdue(
    connection: sqlite3.Connection, partition: int, appended_before: float, now: float, limit: int
) -> list[Pending]:
    """Rows without due time that are too old or expired."""
    wanted = {"partition": partition, "before": appended_before, "now": now, "limit": limit}
    return list(_readable(decode_pending, connection.execute(_OVERDUE, wanted)))


def select(
    connection: sqlite3.Connection, partition: int, selection: Selection, limit: int, after: Place | None
) -> Sequence[Pending]:
    """Rows that a command means."""
    offset, idx = after or (-FAR, 0)
    wanted = {
        "partition": partition,
        "below": selection.below_offset,
        "offset": offset,
        "idx": idx,
        "ids": json.dumps(list(selection.ids)),
        "subs": json.dumps(list(selection.subs)),
        "hosts": json.dumps(list(selection.hosts)),
    }
    sql = _SELECT_ANY if selection.subs or selection.hosts else _SELECT_IDS
    cursor = connection.execute(sql, wanted)
    try:
        return list(islice(_readable(decode_pending, cursor), limit))
    finally:
        cursor.close()


def _readable(decode: Callable[[bytes], T], values: Iterable[tuple[bytes]]) -> Iterator[T]:
    """What can be read of stored values. A damaged one, or one of a later release, is said and stays where it
    is: it must neither end the worker nor be destroyed by it.
    """
    for (value,) in values:
        try:
            yield decode(value)
        except WireError as error:
            _unreadable.error("row", "a stored row can't be read and is left alone: %s", error)


def count(connection: sqlite3.Connection, partitions: Sequence[int]) -> tuple[int, float | None]:
    """(rows, earliest `appended_at`) of these partitions together."""
    rows, oldest = connection.execute(
        "SELECT count(*), min(appended_at) FROM pendings INDEXED BY pendings_age"
        " WHERE partition IN (SELECT value FROM json_each(?))",
        (json.dumps(list(partitions)),),
    ).fetchone()
    return rows, oldest
