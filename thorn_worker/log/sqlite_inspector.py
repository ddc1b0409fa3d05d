"""The command line's view of an SQLite log. Plain and blocking; reads page by page, so that no snapshot is
held."""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from producer.log.sqlite_schema import explained, open_log, open_read_only, transaction
from thorn_worker.inspector import Inspector, PartitionStatus, RowFilter
from thorn_worker.log.readable import readable
from thorn_worker.store.contract import DeadLetter, EndpointState, Pending
from thorn_worker.store.rows import decode_endpoint, decode_letter, decode_pending

#: Rows of one read transaction: a longer one would keep the write-ahead log from shrinking.
PAGE_ROWS: Final = 500

_PAGE: Final = (
    "SELECT partition, offset, idx, value FROM {table} INDEXED BY {table}_life"
    " WHERE (partition, offset, idx) > (:partition, :offset, :idx){conditions}"
    " ORDER BY partition, offset, idx LIMIT :limit"
)


class SqliteInspector(Inspector):
    """Looks into the log at `path`, which must exist. Raises `LogError` if it does not or is not ours."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        with explained(self._path):
            self._connection, self._identity = open_read_only(self._path)
            self._ends = dict(self._connection.execute("SELECT partition, next_offset FROM partitions"))

    def __repr__(self) -> str:
        return f"<SqliteInspector {self._path}>"

    def pendings(self, wanted: RowFilter) -> Iterator[Pending]:
        return readable(self._rows("pendings", "appended_at", wanted), decode_pending, self._path)

    def letters(self, wanted: RowFilter) -> Iterator[DeadLetter]:
        for letter in readable(self._rows("dead", "died_at", wanted), decode_letter, self._path):
            if letter.life.offset < self._ends.get(letter.life.partition, 0):
                yield letter

    def endpoints(self, subs: Collection[str] = ()) -> Iterator[tuple[int, EndpointState]]:
        with explained(self._path):
            rows = self._connection.execute(
                "SELECT partition, value FROM endpoints ORDER BY partition, sub"
            ).fetchall()
        for partition, state in readable(rows, _endpoint, self._path):
            if not subs or state.sub in subs:
                yield partition, state

    def partitions(self) -> Sequence[PartitionStatus]:
        with explained(self._path):
            rows = self._connection.execute(
                "SELECT partition, committed, next_offset, owner FROM partitions ORDER BY partition"
            )
            return [PartitionStatus(*row) for row in rows]

    def forget(self, letters: Collection[DeadLetter]) -> None:
        lives = [letter.life for letter in letters]
        places = [life[1:] for life in lives if life.topic_id == self._identity.log_id]
        with explained(self._path):
            connection, _identity = open_log(self._path, self._identity.partitions, create=False)
            try:
                with transaction(connection):
                    connection.executemany(
                        "DELETE FROM dead WHERE partition = ? AND offset = ? AND idx = ?", places
                    )
            finally:
                connection.close()

    def close(self) -> None:
        self._connection.close()

    def _rows(self, table: str, instant: str, wanted: RowFilter) -> Iterator[bytes]:
        conditions, values = _conditions(instant, wanted)
        sql = _PAGE.format(table=table, conditions=conditions)
        place = (-1, -1, -1)
        while True:
            partition, offset, idx = place
            values.update(partition=partition, offset=offset, idx=idx, limit=PAGE_ROWS)
            with explained(self._path):
                page = self._connection.execute(sql, values).fetchall()
            for *_place, value in page:
                yield value
            if len(page) < PAGE_ROWS:
                return
            place = page[-1][:3]


def _endpoint(row: tuple[int, bytes]) -> tuple[int, EndpointState]:
    partition, value = row
    return partition, decode_endpoint(value)


def _conditions(instant: str, wanted: RowFilter) -> tuple[str, dict[str, object]]:
    """SQL that begins with AND, or is empty, and the values that it names."""
    text = ""
    values: dict[str, object] = {}
    lists = {
        "delivery_id": wanted.ids,
        "sub": wanted.subs,
        "host": wanted.hosts,
        "reason": wanted.reasons,
    }
    for column, allowed in lists.items():
        if allowed:
            text += f" AND {column} IN (SELECT value FROM json_each(:{column}))"  # noqa: S608 - names are ours
            values[column] = json.dumps(list(allowed))
    if wanted.since_at is not None:
        text += f" AND {instant} >= :since_at"
        values["since_at"] = wanted.since_at
    if wanted.until_at is not None:
        text += f" AND {instant} <= :until_at"
        values["until_at"] = wanted.until_at
    return text, values
