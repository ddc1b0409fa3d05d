"""What a keyed topic holds now, for one command: the last value of each key, in a temporary file."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from producer.errors import LogUnusable

#: (offset, index) by which rows of a partition are listed; None for a key that is of no interest.
PlaceOf = Callable[[bytes], tuple[int, int] | None]
#: (key, value) of a record; a value of None is a tombstone.
Keyed = tuple[bytes | None, bytes | None]

_TABLE: Final = """CREATE TABLE rows (
    id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, idx INTEGER NOT NULL,
    key BLOB NOT NULL, value BLOB NOT NULL, UNIQUE (partition, offset, idx, key))"""
_PUT: Final = (
    "INSERT INTO rows (partition, offset, idx, key, value) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (partition, offset, idx, key) DO UPDATE SET value = excluded.value"
)
_REMOVE: Final = "DELETE FROM rows WHERE partition = ? AND offset = ? AND idx = ? AND key = ?"
_ROWS: Final = "SELECT partition, key, value FROM rows ORDER BY partition, offset, idx, key"


class Stored(NamedTuple):
    """A row as it lies in its topic."""

    partition: int
    key: bytes
    value: bytes


class Mirror:
    """The last value of every key, per partition, without what tombstones removed: disk, not memory.

    The file has no name and vanishes with the process at the latest. Raises `LogUnusable` if there is no room
    for it. For one thread or greenlet at a time.
    """

    def __init__(self, place_of: PlaceOf) -> None:
        self._place_of = place_of
        # An empty name is a temporary database on disk, private to the connection (SQLite, "Temporary
        # Databases"); SQLite looks at SQLITE_TMPDIR and TMPDIR for a folder.
        with _explained():
            self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = OFF")
            self._connection.execute(_TABLE)

    def __repr__(self) -> str:
        return f"<Mirror of {self._connection.total_changes} changes>"

    def take(self, partition: int, records: Iterable[Keyed]) -> None:
        """Apply records of a partition, in their order."""
        puts, removed = [], []
        for key, value in {key: value for key, value in records if key is not None}.items():
            place = self._place_of(key)
            if place is None:
                continue
            if value is None:
                removed.append((partition, *place, key))
            else:
                puts.append((partition, *place, key, value))
        with _explained():
            self._connection.execute("BEGIN")
            self._connection.executemany(_PUT, puts)
            self._connection.executemany(_REMOVE, removed)
            self._connection.execute("COMMIT")

    def rows(self) -> Iterator[Stored]:
        """What is there, by partition and place."""
        with _explained():
            yield from map(Stored._make, self._connection.execute(_ROWS))

    def close(self) -> None:
        """Delete it."""
        self._connection.close()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LogUnusable(
            f"the temporary copy of a topic can't be kept on disk ({error}): free some space in the folder "
            "for temporary files, or name another with TMPDIR"
        ) from error
