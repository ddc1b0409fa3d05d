"""Which part of a state partition the cache stands for. Pure: no I/O, no clock.

The checkpoint is the offset below which nothing need be read again: everything there is in the cache, or was
overwritten by something that is. It moves with our own acknowledged writes as long as they follow one upon
the other. A gap between them is a record of somebody else (an owner of before that is not aware yet), or a
copy of our own that was written twice because its first acknowledgement was lost: then the partition is read
from the checkpoint on, and what is not ours is an *intruder*, to be overwritten with our own value.

    checkpoint 10; our writes are acknowledged at 10, 11 and 14  ->  checkpoint 12, open
    read: 12 is foreign, 13 a copy of our write at 14            ->  intruder at 12; checkpoint 12
    our next write of the intruder's key is acknowledged at 15   ->  checkpoint 16
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

#: Beyond and below every offset.
_FAR: Final = 1 << 62
_NOWHERE: Final = -1


@dataclass(slots=True)
class _Run:
    """Offsets [start, end) hold our writes `number`, `number + 1`, …; sent_at: when the first was sent."""

    start: int
    end: int
    number: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class _Early:
    """A record of ours that was read before its acknowledgement came."""

    offset: int
    number: int
    key: bytes


class Trail:
    """The checkpoint of one partition in one epoch of ours, from the end of its restore on.

    checkpoint: see above. at: Unix seconds at which no record at or beyond the checkpoint was written yet.
    """

    def __init__(self, start: int, at: float) -> None:
        self.checkpoint = start
        self.at = at
        self._runs: deque[_Run] = deque()
        self._acked = -1
        self._read_to: int | None = start
        self._early: deque[_Early] = deque()
        self._marks: dict[bytes, int] = {}

    def __repr__(self) -> str:
        return f"<Trail checkpoint={self.checkpoint} open={self.open} read to {self._read_to}>"

    @property
    def open(self) -> bool:
        """Something between our writes is unknown, or not overwritten yet."""
        return bool(self._marks) or any(run.end > self.checkpoint for run in self._runs)

    def begin_to_read(self) -> int:
        """The partition is being read from now on; gives the offset to begin at."""
        self._read_to = self.checkpoint
        return self.checkpoint

    def stop_reading(self) -> None:
        """Nobody reads the partition any more."""
        self._read_to = None
        self._early.clear()
        self._trim()

    def acknowledged(self, number: int, offset: int, key: bytes, sent_at: float) -> bool:
        """Our write `number` (they count up) is durable at `offset`; below 0: the broker could not say where.

        False if it lies below the checkpoint: the topic has lost records.
        """
        self._acked = number
        known = offset >= self.checkpoint
        if known:
            self._extend(number, offset, sent_at)
        while self._early and self._early[0].number <= number:
            early = self._early.popleft()
            if not self._stands_from(early.offset, early.number):  # an old client's copy, late
                self._mark(early.key, early.offset)
        if known:
            if self._marks.get(key, offset) < offset:
                del self._marks[key]
            self._advance()
        return known or offset < 0

    def read(self, offset: int, key: bytes, number: int | None) -> bool:
        """A record was read. number: of our write, None if it is none of this epoch's.

        True if it is an intruder: `key` must be written again.
        """
        if number is not None and number > self._acked:
            self._early.append(_Early(offset, number, key))
            return False
        if number is not None and self._stands_from(offset, number):
            return False
        self._mark(key, offset)
        return True

    def read_to(self, position: int) -> None:
        """Everything below `position` was read, or does not exist."""
        if self._read_to is not None and position > self._read_to:
            self._read_to = position
            self._advance()

    @property
    def intruders(self) -> tuple[bytes, ...]:
        """Keys of which an intruder's value still stands."""
        return tuple(self._marks)

    def _extend(self, number: int, offset: int, sent_at: float) -> None:
        run = self._runs[-1] if self._runs else None
        if run is not None and run.end == offset and run.number + (run.end - run.start) == number:
            run.end += 1
        else:
            self._runs.append(_Run(offset, offset + 1, number, sent_at))

    def _mark(self, key: bytes, offset: int) -> None:
        # Of several intruders of a key the last one alone counts, for us as for the next restore.
        self._marks[key] = max(offset, self._marks.get(key, offset))

    def _stands_from(self, offset: int, number: int) -> bool:
        """Our write `number`, acknowledged, stands at `offset` or beyond: this record is it, or its copy."""
        for run in self._runs:
            if run.end > offset:
                return number >= run.number + max(0, offset - run.start)
        return False

    def _advance(self) -> None:
        reach = min(
            _NOWHERE if self._read_to is None else self._read_to,
            min(self._marks.values(), default=_FAR),
            self._early[0].offset if self._early else _FAR,
        )
        for run in self._runs:
            self.checkpoint = max(self.checkpoint, min(run.start, reach))
            if run.start > self.checkpoint:
                break
            if run.end > self.checkpoint:
                self.checkpoint, self.at = run.end, run.sent_at
        else:
            self.checkpoint = max(self.checkpoint, reach)
        self._trim()

    def _trim(self) -> None:
        """Runs below both the checkpoint and the reader have told all they know."""
        below = self.checkpoint if self._read_to is None else min(self.checkpoint, self._read_to)
        while self._runs and self._runs[0].end <= below:
            self._runs.popleft()
