"""Messages of the state topic as changes of the cache's tables, and who wrote them.

The place of a life in the tables is its offset and index, as with the SQLite log. Rows may also be of a
deliveries topic that was there before the present one: they count as older than all of the present one's, so
their offsets are moved down by a stretch of their own.
"""

import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from zlib import crc32

from producer.errors import MalformedRecord, WireError
from producer.model import Life
from thorn_worker.logs import RateLimited
from thorn_worker.store.contract import Pending
from thorn_worker.store.fields import Fields
from thorn_worker.store.queries import Place
from thorn_worker.store.rows import VERSION, life_of_key, pending_key
from thorn_worker.store.statements import FORGET_ENDPOINT, PUT, REMOVE, SAVE_ENDPOINT

#: Name of the header that says who wrote a message of the state topic.
WRITER_HEADER: Final = "writer"
#: Offsets of one deliveries topic, at most; and how many topics of before can be told apart.
_STRETCH: Final = 1 << 42
_TOPICS: Final = 1 << 17
#: `due_at` of a row that this release can't read: it is there, and never due.
NEVER: Final = 1e300

_unreadable: Final = RateLimited(logging.getLogger(__name__))

#: What follows the place in a row of `pendings`: host, subscription, delivery id, due, appended and expires
#: instants, reason, value.
Columns = tuple[str, str, str, float | None, float, float | None, str, bytes]


class Mark(NamedTuple):
    """Who wrote a message: a process (random, per start), in which epoch, and its number within that."""

    writer: str
    epoch: int
    number: int

    def header(self) -> tuple[str, bytes]:
        """The message header that says so.

        >>> Mark("3f9a", 7, 12).header()
        ('writer', b'3f9a/7/12')
        """
        return WRITER_HEADER, f"{self.writer}/{self.epoch}/{self.number}".encode()

    @classmethod
    def of(cls, headers: Iterable[tuple[str, bytes | None]]) -> "Mark":
        """What the headers of a message say; the mark of nobody, in epoch -1, if they don't."""
        for name, value in headers:
            if name == WRITER_HEADER and value is not None:
                try:
                    writer, epoch, number = value.decode().split("/")
                    return cls(writer, int(epoch), int(number))
                except ValueError:
                    break
        return cls("", -1, -1)


def place_of(life: Life, topic_id: str) -> Place:
    """Where a life stands in the cache while `topic_id` is the present deliveries topic.

    >>> place_of(Life("now", 0, 7, 2), "now")
    (7, 2)
    >>> place_of(Life("before", 0, 7, 2), "now")[0] < 0
    True
    """
    if life.topic_id == topic_id:
        return life.offset, life.index
    stretch = 1 + crc32(life.topic_id.encode()) % _TOPICS
    return life.offset - stretch * _STRETCH, life.index


@dataclass(slots=True)
class Changes:
    """What is to change in one partition of the cache: the last value of each key counts.

    topic_id: of the present deliveries topic.
    """

    partition: int
    topic_id: str
    pendings: dict[Place, Columns | None] = field(default_factory=dict)
    endpoints: dict[str, bytes | None] = field(default_factory=dict)

    def put(self, row: Pending, value: bytes) -> None:
        """A row of ours, with its bytes."""
        delivery = row.delivery
        self.pendings[place_of(row.life, self.topic_id)] = (
            row.host,
            delivery.sub,
            delivery.id,
            row.due_at,
            row.appended_at,
            delivery.expires_at,
            row.reason,
            value,
        )

    def take(self, key: bytes, value: bytes | None, written_at: float) -> None:
        """A message as it was read.

        A key of a kind that this release does not know changes nothing. A row that it can't read is kept: its
        delivery is owed, so it counts as stored, and a later release may read it.
        """
        if key.startswith(b"e/"):
            self.endpoints[key[2:].decode(errors="replace")] = value
        elif (life := life_of(key, self.partition)) is not None:
            place = place_of(life, self.topic_id)
            self.pendings[place] = None if value is None else _columns(key, value, written_at)
        elif not key.startswith(b"h/"):
            _unreadable.error("key", "a message of the state topic has the key %r: left alone", key[:80])

    def write(self, connection: sqlite3.Connection) -> None:
        """Make the changes, inside a transaction."""
        partition = self.partition
        gone = [(partition, *place) for place, columns in self.pendings.items() if columns is None]
        rows = [
            (partition, *place, *columns) for place, columns in self.pendings.items() if columns is not None
        ]
        connection.executemany(REMOVE, gone)
        connection.executemany(PUT, rows)
        for sub, value in self.endpoints.items():
            if value is None:
                connection.execute(FORGET_ENDPOINT, (partition, sub))
            else:
                connection.execute(SAVE_ENDPOINT, (partition, sub, value))


def life_of(key: bytes, partition: int) -> Life | None:
    """The life whose row a message of this key is; None if it is nobody's."""
    try:
        life = life_of_key(key, partition)
    except MalformedRecord:
        return None
    fits = 0 <= life.offset < _STRETCH and 0 <= life.index < _STRETCH
    return life if fits and pending_key(life) == key else None


def stored_value(connection: sqlite3.Connection, partition: int, key: bytes, topic_id: str) -> bytes | None:
    """What the cache holds under a key of the state topic; None for nothing."""
    if key.startswith(b"e/"):
        found = connection.execute(
            "SELECT value FROM endpoints WHERE partition = ? AND sub = ?",
            (partition, key[2:].decode(errors="replace")),
        ).fetchone()
    elif (life := life_of(key, partition)) is not None:
        found = connection.execute(
            "SELECT value FROM pendings WHERE partition = ? AND offset = ? AND idx = ?",
            (partition, *place_of(life, topic_id)),
        ).fetchone()
    else:
        found = None
    return None if found is None else found[0]


def is_kept(key: bytes) -> bool:
    """The cache holds messages of such a key."""
    return key.startswith(b"e/") or life_of(key, 0) is not None


def _columns(key: bytes, value: bytes, written_at: float) -> Columns:
    try:
        fields = Fields.of_row(value, VERSION)
        delivery = fields.map("delivery")
        due_at, appended_at = fields.maybe_number("due_at"), fields.number("appended_at")
        expires_at = delivery.maybe_number("expires_at")
        if any(instant != instant for instant in (due_at, appended_at, expires_at)):
            raise MalformedRecord("an instant is not a number")
        return (
            fields.text("host"),
            delivery.text("sub"),
            delivery.text("id"),
            due_at,
            appended_at,
            expires_at,
            fields.text("reason"),
            value,
        )
    except WireError as error:
        _unreadable.error("row", "the stored row %r can't be read and is left alone: %s", key[:80], error)
        return ("", "", "", NEVER, written_at, None, "unreadable", value)
