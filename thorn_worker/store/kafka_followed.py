"""One state partition that is being restored or watched; how what a restore reads gets into the cache."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gevent.event import AsyncResult, Event

from producer.errors import LogError
from thorn_worker.store.kafka_cache import Cache
from thorn_worker.store.kafka_changes import Changes
from thorn_worker.store.kafka_hold import Hold
from thorn_worker.store.kafka_tail import Offsets
from thorn_worker.store.kafka_trail import Trail


@dataclass(slots=True, eq=False)
class Followed:
    """A partition that is being read.

    position: next offset to read. begin, end: of the restore. at: Unix seconds at which nothing at or beyond
    the position was written yet; asked_at: when the end was asked for. placed: the consumer knows the
    position. until: end of the watch. The other instants are of the monotonic clock too.
    """

    hold: Hold
    cache: Cache
    position: int = 0
    begin: int = 0
    end: int = 0
    at: float = 0.0
    asked_at: float = 0.0
    restoring: bool = True
    placed: bool = False
    until: float = 0.0
    began_at: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)
    told_at: float = field(default_factory=time.monotonic)
    _applied: Event | None = None
    _finished: "AsyncResult[LogError | None]" = field(default_factory=AsyncResult)

    @property
    def partition(self) -> int:
        """Its number."""
        return self.hold.partition

    def begin_restore(self, offsets: Offsets, asked_at: float) -> None:
        """Go on from the checkpoint, or drop what the cache holds and read everything; waits.

        asked_at: Unix seconds at which `offsets` were asked for.
        """
        self.asked_at, self.end = asked_at, offsets.end
        checkpoint = self.cache.checkpoint(self.partition)
        usable = (
            checkpoint is not None
            and self.cache.is_usable(checkpoint, time.time())
            and offsets.begin <= checkpoint.offset <= offsets.end
        )
        if checkpoint is not None and usable:
            self.position, self.at = checkpoint.offset, checkpoint.at
        else:
            self.cache.drop(self.partition)
            self.position, self.at = offsets.begin, 0.0
        self.begin = self.position

    def restore(self, records: Sequence[Any]) -> None:
        """Hand what was read to the cache."""
        changes = Changes(self.partition, self.cache.topic_id)
        for record in records:
            changes.take(record.key or b"", record.value, record.timestamp / 1000)
        self.at = records[-1].timestamp / 1000
        self._apply(changes, records[-1].offset + 1)

    def end_restore(self) -> None:
        """The position is at or beyond the end: the hold has a trail from here on."""
        self.at = self.asked_at  # all that lies beyond was written after the end was asked for
        self._apply(Changes(self.partition, self.cache.topic_id), self.position)
        self._wait_until_applied()
        self.hold.trail = Trail(self.position, self.at)
        self.finish(None)

    def finish(self, error: LogError | None) -> None:
        """Let `wait` return; a second time changes nothing."""
        if self.restoring:
            self.restoring = False
            self._finished.set(error)

    def wait(self) -> None:
        """Until the restore is finished. Raises the error that it was finished with."""
        error = self._finished.get()
        if error is not None:
            raise error

    def _apply(self, changes: Changes, offset: int) -> None:
        """The batch before must be in the cache: memory holds two at most."""
        self._wait_until_applied()
        self._applied = applied = Event()
        self.cache.write(changes.write, self.partition, offset, self.at, lambda _done: applied.set())

    def _wait_until_applied(self) -> None:
        if self._applied is not None:
            self._applied.wait()
