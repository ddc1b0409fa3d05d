"""What the Kafka store keeps in memory of a partition in one epoch: its writes under way, in their order."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from gevent.event import Event

from producer.errors import LogUnavailable
from producer.log.kafka_options import MAX_MESSAGE_BYTES
from producer.model import Life
from thorn_worker.store.contract import DeadLetter, Done, Pending
from thorn_worker.store.kafka_changes import Changes, place_of
from thorn_worker.store.kafka_trail import Trail
from thorn_worker.store.rows import cut, encode_letter, encode_pending, letter_key, pending_key

#: Keys that we removed last and remember as such, per partition.
REMOVED_KEYS: Final = 5_000
#: Largest value: with its key, headers, and what compression may add, it still fits into a message.
LARGEST_VALUE: Final = MAX_MESSAGE_BYTES - 32 * 1024

_log: Final = logging.getLogger("thorn_worker.store")


@dataclass(slots=True, eq=False)
class Turn:
    """The place of one call of the store among those of its partition: callbacks run in this order.

    over: nothing more is awaited; `done` is called then, unless the write was refused for good.
    """

    done: Done
    over: bool = False
    refused: bool = False


@dataclass(slots=True, eq=False)
class Write:
    """One message for the state topic.

    turn: None for a value that is written again. row, life: what is put, or removed; else neither is set.
    """

    hold: "Hold"
    key: bytes
    turn: Turn | None
    encode: Callable[[], bytes | None]
    row: Pending | None = None
    life: Life | None = None
    value: bytes | None = None
    number: int = -1
    sent_at: float = 0.0

    def enter(self, changes: Changes) -> None:
        """Add what was written to the changes of the cache."""
        if self.row is not None and self.value is not None:
            changes.put(self.row, self.value)
        elif self.life is not None:
            changes.pendings[place_of(self.life, changes.topic_id)] = None
        else:
            changes.take(self.key, self.value, self.sent_at)


@dataclass(slots=True, eq=False)
class Burial:
    """A dead letter on its way, and then the tombstone of the life's row if there is one."""

    hold: "Hold"
    letter: DeadLetter
    turn: Turn
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = pending_key(self.letter.life)

    @property
    def letter_key(self) -> bytes:
        return letter_key(self.letter)

    def encode(self) -> bytes:
        """The letter's bytes, cut if they would not fit."""
        value = encode_letter(self.letter)
        return value if len(value) <= LARGEST_VALUE else encode_letter(cut(self.letter))


def encode_row(row: Pending) -> bytes:
    """The row's bytes. One that is too large leaves its history behind: the rest came in one record."""
    value = encode_pending(row)
    return value if len(value) <= LARGEST_VALUE else encode_pending(replace(row, history=()))


@dataclass(slots=True, eq=False)
class Hold:
    """A partition in one epoch of ours. Once it is not `alive`, what was written in it counts no more.

    trail: from the end of the restore on. turns: calls that were not called back. under_way: number of writes
    per key that are not in the cache yet. behind: per key whose burial is under way, the writes that wait for
    its tombstone. looked_up: keys whose value is being read from the cache, to be written again, with what
    somebody else wrote there. removed: the keys that we removed last.
    """

    partition: int
    epoch: int
    alive: bool = True
    trail: Trail | None = None
    written: int = 0
    turns: deque[Turn] = field(default_factory=deque)
    under_way: dict[bytes, int] = field(default_factory=dict)
    behind: dict[bytes, deque[Write | Burial]] = field(default_factory=dict)
    looked_up: dict[bytes, bytes | None] = field(default_factory=dict)
    removed: dict[bytes, None] = field(default_factory=dict)
    _all_over: Event = field(default_factory=Event)

    def check_alive(self) -> None:
        """Raise `LogUnavailable` if the partition was given up, while its restore waited for something."""
        if not self.alive:
            raise LogUnavailable(f"partition {self.partition} was given up while it was restored")

    def turn(self, done: Done) -> Turn:
        """The next turn."""
        turn = Turn(done)
        self.turns.append(turn)
        return turn

    def begun(self, key: bytes) -> None:
        """A write of `key` is under way."""
        self.under_way[key] = self.under_way.get(key, 0) + 1
        self.looked_up.pop(key, None)

    def ended(self, key: bytes) -> None:
        """A write of `key` is in the cache, or was refused."""
        left = self.under_way[key] - 1
        if left:
            self.under_way[key] = left
        else:
            del self.under_way[key]

    def remember(self, key: bytes, *, removed: bool) -> None:
        """What became of `key` by our hand."""
        self.removed.pop(key, None)
        if removed:
            self.removed[key] = None
            if len(self.removed) > REMOVED_KEYS:
                del self.removed[next(iter(self.removed))]

    def is_quiet(self, key: bytes) -> bool:
        """The cache holds the last value that we gave `key`."""
        return key not in self.under_way and key not in self.behind

    def call_back(self) -> None:
        """Call back whoever's turn it is."""
        while self.turns and self.turns[0].over:
            turn = self.turns.popleft()
            if not turn.refused:
                try:
                    turn.done()
                except Exception:
                    _log.exception("the callback of a write to the store raised")
        if not self.turns:
            self._all_over.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until every call was called back; False if some were not in time."""
        if self.turns:
            self._all_over.clear()
            self._all_over.wait(timeout_s)
        return not self.turns
