"""Reads state partitions: from a checkpoint to their end (a restore), and on from there for a while.

One greenlet owns one consumer, over all partitions that are being restored or watched; several restore side
by side. The end of a restore is a position, not a count: compaction leaves holes, and a partition may end in
a marker that is no record. kafka-python's `position` jumps over both.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
from gevent.event import Event

from producer.errors import ConfigurationError, LogError, LogUnavailable, LogUnusable
from producer.log.kafka_options import KafkaOptions, check_library
from producer.log.kafka_trouble import explain
from thorn_worker.logs import RateLimited
from thorn_worker.store.kafka_cache import Cache
from thorn_worker.store.kafka_changes import Mark
from thorn_worker.store.kafka_followed import Followed
from thorn_worker.store.kafka_hold import Hold
from thorn_worker.store.kafka_tail import Tail

#: A partition is watched for this long after its restore, or after a gap between our own writes.
WATCH_S: Final = 120.0
#: Pause between two looks while nothing is being restored.
WATCH_PAUSE_S: Final = 0.25
#: A restore that gets nowhere for this long has failed.
STALL_S: Final = 10.0
#: Progress of a long restore is told this often.
TELL_S: Final = 5.0
#: After an error a new consumer is made not before this long.
AGAIN_S: Final = 1.0

_log: Final = logging.getLogger("thorn_worker.store")


class Follower:
    """Restores and watches.

    intruded: called with the hold, key and value of a record that must be overwritten. superseded: called
    with a hold that somebody else holds in a newer epoch. records: read in all; restore_s: how long the last
    finished restore took.
    """

    def __init__(
        self,
        options: KafkaOptions,
        cache: Cache,
        writer: str,
        intruded: Callable[[Hold, bytes, bytes | None], None],
        superseded: Callable[[Hold], None],
    ) -> None:
        self.records = 0
        self.restore_s: float | None = None
        self._options = options
        self._cache = cache
        self._writer = writer
        self._intruded = intruded
        self._superseded = superseded
        self._followed: dict[int, Followed] = {}
        self._tail: Tail | None = None
        self._wake = Event()
        self._complaints = RateLimited(_log)
        self._greenlet = gevent.spawn(self._run)

    @property
    def restoring(self) -> int:
        """Partitions whose restore is under way."""
        return sum(followed.restoring for followed in self._followed.values())

    def restore(self, hold: Hold) -> None:
        """Bring the cache of the hold's partition to the end that its topic has now; waits.

        From then on the hold has a trail, and is watched. Raises `LogError`, also if it is dropped meanwhile.
        """
        followed = Followed(hold, self._cache)
        self._follow(followed)
        followed.wait()
        hold.check_alive()

    def watch(self, hold: Hold) -> None:
        """Something unknown lies between the hold's own writes: read it."""
        followed = self._followed.get(hold.partition)
        if followed is None and hold.trail is not None:
            position = hold.trail.begin_to_read()
            followed = Followed(hold, self._cache, position=position, restoring=False)
            self._follow(followed)
        if followed is not None:
            followed.until = time.monotonic() + WATCH_S

    def drop(self, hold: Hold) -> None:
        """The hold is over."""
        followed = self._followed.get(hold.partition)
        if followed is not None and followed.hold is hold:
            del self._followed[hold.partition]
            followed.finish(None)

    def close(self) -> None:
        """Stop; restores under way fail."""
        self._greenlet.kill()
        for followed in list(self._followed.values()):
            self.drop(followed.hold)
        self._discard()

    def _follow(self, followed: Followed) -> None:
        self._followed[followed.partition] = followed
        self._wake.set()

    # -- the loop ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            if not self._followed:
                self._discard()
            while not self._followed:  # the consumer took its time to close
                self._wake.clear()
                self._wake.wait()
            try:
                self._turn()
            except Exception as error:
                # After an error of its own, kafka-python's next poll may turn for ever: never poll it again.
                self._discard()
                self._fail(self._explained(error))
                gevent.sleep(AGAIN_S)

    def _turn(self) -> None:
        if self._tail is None:
            check_library()
            self._tail = Tail(self._options)
        tail = self._tail
        for partition in tail.assign(self._followed):
            self._followed[partition].placed = False
        self._place_new(tail)
        for partition, records in tail.poll().items():
            followed = self._followed.get(partition)
            if followed is not None and followed.placed:
                self.records += len(records)
                self._take(followed, records)
        for partition, followed in list(self._followed.items()):
            if followed.placed and self._followed.get(partition) is followed:
                self._moved(followed, tail.position(partition))
        # Watching may be late by as much; each poll costs CPU whether it brings something or not.
        self._wake.clear()
        self._wake.wait(0 if self.restoring else WATCH_PAUSE_S)

    def _explained(self, error: Exception) -> LogError:
        try:
            return explain(error, self._options, f"reading {self._options.state}")
        except ConfigurationError as refused:
            return LogUnusable(str(refused))

    def _fail(self, error: LogError) -> None:
        """Restores have failed, and are asked for again; what is watched goes on with a new consumer."""
        self._complaints.warning("fail", "the state topic can't be read just now: %s", error)
        for partition, followed in list(self._followed.items()):
            if followed.restoring:
                del self._followed[partition]
                followed.finish(error)
            else:
                followed.placed = False

    def _place_new(self, tail: Tail) -> None:
        """Say from where what is new is read, before the first poll: without a position that would fail."""
        new = {
            partition: followed
            for partition, followed in self._followed.items()
            if partition in tail.partitions and not followed.placed
        }
        if not new:
            return
        asked_at = time.time()
        # The assignment came first: whatever its last owner was acknowledged lies before this end.
        offsets = tail.offsets(list(new))
        for partition, followed in new.items():
            if followed.restoring:
                followed.begin_restore(offsets[partition], asked_at)
            tail.seek(partition, max(followed.position, offsets[partition].begin))
            followed.placed = True
        now = time.monotonic()
        for followed in self._followed.values():  # nothing was read meanwhile
            followed.moved_at = now

    def _discard(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            tail.close()

    # -- what was read -----------------------------------------------------------------------------

    def _take(self, followed: Followed, records: Sequence[Any]) -> None:
        if followed.restoring:
            followed.restore(records)
            return
        hold = followed.hold
        assert hold.trail is not None
        for record in records:
            mark = Mark.of(record.headers or ())
            if mark.epoch > hold.epoch:
                _log.critical(
                    "partition %d has a newer owner, which writes its state in epoch %d: ours, %d, is over",
                    *(hold.partition, mark.epoch, hold.epoch),
                )
                self._superseded(hold)
                return
            ours = mark.number if mark[:2] == (self._writer, hold.epoch) else None
            key = record.key or b""
            if hold.trail.read(record.offset, key, ours):
                self._intruded(hold, key, record.value)

    def _moved(self, followed: Followed, position: int) -> None:
        now = time.monotonic()
        if position > followed.position:
            followed.position, followed.moved_at = position, now
        if not followed.restoring:
            self._watched(followed, now)
        elif followed.position >= followed.end:
            self._restored(followed, now)
        elif now - followed.moved_at > STALL_S:
            raise LogUnavailable(
                f"{self._options.place} gives nothing more of partition {followed.partition} of "
                f"{self._options.state} since {STALL_S:g} s: it is tried again"
            )
        elif now - followed.told_at > TELL_S:
            followed.told_at = now
            _log.info(
                "partition %d: restoring its stored deliveries, %d of %d offsets read",
                followed.partition,
                followed.position - followed.begin,
                followed.end - followed.begin,
            )

    def _restored(self, followed: Followed, now: float) -> None:
        followed.until = now + WATCH_S
        followed.end_restore()
        self.restore_s = time.monotonic() - followed.began_at

    def _watched(self, followed: Followed, now: float) -> None:
        trail = followed.hold.trail
        assert trail is not None
        trail.read_to(followed.position)
        if now > followed.until and not trail.open:
            trail.stop_reading()
            del self._followed[followed.partition]
