"""The command line's view of a Kafka log: topics read once per command, the group's offsets, tombstones.

Plain and blocking: where gevent has patched the process it waits cooperatively, else in the calling thread.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from producer.errors import LogError, MalformedRecord, NotAcknowledged
from producer.log.kafka_options import KafkaOptions, check_library
from producer.log.kafka_sender import KafkaSender, Outgoing
from thorn_worker.inspector import Inspector, PartitionStatus, RowFilter
from thorn_worker.log.kafka_mirror import Mirror, PlaceOf, Stored
from thorn_worker.log.kafka_overview import KafkaOverview
from thorn_worker.log.kafka_scan import TopicScan
from thorn_worker.log.readable import readable
from thorn_worker.store.contract import DeadLetter, EndpointState, Pending
from thorn_worker.store.rows import (
    decode_endpoint,
    decode_letter,
    decode_pending,
    endpoint_key,
    letter_id,
    letter_key,
    life_of_key,
    pending_key,
)

Row = TypeVar("Row")

#: Kafka must take tombstones within this time.
ACKNOWLEDGE_S: Final = 30.0
#: A sender wants to be asked this often whether its client can still go on.
_CHECK_S: Final = 1.0
#: `forget` has waited for every tombstone, so this is for the connections.
_CLOSE_S: Final = 0.5

#: Where a row lies whose key can't be read: it is kept, to be told of.
_NOWHERE: Final = (-1, -1)
#: SQLite's integers end here.
_LIMIT: Final = 2**63


@dataclass(frozen=True, slots=True)
class _Kind(Generic[Row]):
    """One kind of rows in a topic: (offset, index) to list each by, and what a stored one is."""

    place_of: PlaceOf
    decode: Callable[[Stored], Row]


class KafkaInspector(Inspector):
    """Looks into the log that `options` name.

    Nothing is read before it is asked for. A topic is read once, when it is first asked for; later questions
    about it are answered from the same snapshot.
    """

    def __init__(self, options: KafkaOptions) -> None:
        check_library()
        self._options = options
        self._overview = KafkaOverview(options)
        self._mirrors: dict[PlaceOf, Mirror] = {}
        self._sender: KafkaSender | None = None

    def __repr__(self) -> str:
        return f"<KafkaInspector {self._options.place}>"

    def pendings(self, wanted: RowFilter) -> Iterator[Pending]:
        for row in self._rows(self._options.state, _PENDINGS):
            names = (row.delivery.id, row.delivery.sub, row.host, row.reason)
            if _matches(wanted, names, row.appended_at):
                yield row

    def letters(self, wanted: RowFilter) -> Iterator[DeadLetter]:
        for letter in self._rows(self._options.dead, _LETTERS):
            sub = "" if letter.delivery is None else letter.delivery.sub
            if _matches(wanted, (letter_id(letter), sub, letter.host, letter.reason), letter.died_at):
                yield letter

    def endpoints(self, subs: Collection[str] = ()) -> Iterator[tuple[int, EndpointState]]:
        for partition, state in self._rows(self._options.state, _ENDPOINTS):
            if not subs or state.sub in subs:
                yield partition, state

    def partitions(self) -> Sequence[PartitionStatus]:
        return self._overview.statuses()

    def forget(self, letters: Collection[DeadLetter]) -> None:
        if not letters:
            return
        sender = self._opened_sender()
        acknowledged = _Acknowledged(len(letters))
        for letter in letters:
            tombstone = Outgoing(self._options.dead, letter.life.partition, letter_key(letter), None)
            sender.send(tombstone, acknowledged.one)
        acknowledged.wait(sender)

    def close(self) -> None:
        for mirror in self._mirrors.values():
            mirror.close()
        self._mirrors.clear()
        if self._sender is not None:
            self._sender.close(_CLOSE_S)
            self._sender = None
        self._overview.close()

    def _rows(self, topic: str, kind: _Kind[Row]) -> Iterator[Row]:
        mirror = self._mirrors.get(kind.place_of)
        if mirror is None:
            mirror = self._mirrors[kind.place_of] = self._read(topic, kind.place_of)
        return readable(mirror.rows(), kind.decode, topic)

    def _read(self, topic: str, place_of: PlaceOf) -> Mirror:
        bounds = self._overview.bounds(topic)
        mirror = Mirror(place_of)
        try:
            if any(first < end for first, end in bounds.values()):
                with closing(TopicScan(self._options, topic)) as scan:
                    scan.read(bounds, mirror.take)
        except BaseException:
            mirror.close()
            raise
        return mirror

    def _opened_sender(self) -> KafkaSender:
        if self._sender is None:
            sender = KafkaSender(self._options)
            sender.open()
            self._sender = sender
        return self._sender


class _Acknowledged:
    """Counts down acknowledgements, which come on a client's thread, or while the sender is asked."""

    def __init__(self, wanted: int) -> None:
        self._left = wanted
        self._failure: LogError | None = None
        self._lock = threading.Lock()
        self._finished = threading.Event()

    def one(self, _offset: int | None, error: LogError | None) -> None:
        """A record is durable, or can never be."""
        with self._lock:
            self._failure = self._failure or error
            self._left -= 1
        if not self._left:
            self._finished.set()

    def wait(self, sender: KafkaSender) -> None:
        """Until all have come. Raises `LogError`: the first failure, or what keeps the log from answering."""
        deadline = time.monotonic() + ACKNOWLEDGE_S
        while not self._finished.wait(_CHECK_S):
            sender.check()
            if time.monotonic() >= deadline:
                raise NotAcknowledged(
                    f"Kafka did not acknowledge {self._left} tombstones of dead letters within "
                    f"{ACKNOWLEDGE_S:g} s ({sender.trouble or 'it does not say why'}): those letters stay in "
                    "the list although they were sent again"
                )
        if self._failure is not None:
            raise self._failure


def _matches(wanted: RowFilter, names: tuple[str, str, str, str], at: float) -> bool:
    """names: delivery's id, subscription, host, reason. The same questions as those put to an SQLite log."""
    allowed = (wanted.ids, wanted.subs, wanted.hosts, wanted.reasons)
    return (
        all(not some or name in some for name, some in zip(names, allowed, strict=True))
        and (wanted.since_at is None or at >= wanted.since_at)
        and (wanted.until_at is None or at <= wanted.until_at)
    )


def _pending_place(key: bytes) -> tuple[int, int] | None:
    if not key.startswith(b"p/"):
        return None
    try:
        life = life_of_key(key, 0)
    except MalformedRecord:
        return _NOWHERE
    return _placed(life.offset, life.index)


def _endpoint_place(key: bytes) -> tuple[int, int] | None:
    return (0, 0) if key.startswith(b"e/") else None


def _letter_place(key: bytes) -> tuple[int, int]:
    """
    >>> _letter_place(b"d1/3.17.2"), _letter_place(b"raw/3.18"), _letter_place(b"?")
    ((17, 2), (18, 0), (-1, -1))
    """
    numbers = key.rpartition(b"/")[2].split(b".")[1:]
    try:
        offset, index = (*map(int, numbers), 0)[:2]
    except ValueError:
        return _NOWHERE
    return _placed(offset, index)


def _placed(offset: int, index: int) -> tuple[int, int]:
    return (offset, index) if max(abs(offset), abs(index)) < _LIMIT else _NOWHERE


def _pending(stored: Stored) -> Pending:
    row = decode_pending(stored.value)
    _check(stored, row.life.partition, pending_key(row.life))
    return row


def _letter(stored: Stored) -> DeadLetter:
    letter = decode_letter(stored.value)
    _check(stored, letter.life.partition, letter_key(letter))
    return letter


def _endpoint(stored: Stored) -> tuple[int, EndpointState]:
    state = decode_endpoint(stored.value)
    _check(stored, stored.partition, endpoint_key(state.sub))
    return stored.partition, state


def _check(stored: Stored, partition: int, key: bytes) -> None:
    """A row that lies elsewhere than it says could not be removed by what it says."""
    if (stored.partition, stored.key) != (partition, key):
        raise MalformedRecord(
            f"a row under {stored.key!r} in partition {stored.partition} belongs under {key!r} in {partition}"
        )


_PENDINGS: Final = _Kind(_pending_place, _pending)
_LETTERS: Final = _Kind(_letter_place, _letter)
_ENDPOINTS: Final = _Kind(_endpoint_place, _endpoint)
