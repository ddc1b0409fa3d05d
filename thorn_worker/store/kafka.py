"""The store of a Kafka log: a compacted topic with the same partitions, and a local cache of it in SQLite.

A write is durable when Kafka has acknowledged it; then it enters the cache, and is called back. What is read
is read from the cache. A new owner of a partition reads the topic, from a checkpoint or in full, to the end
that it has after the assignment, before anything of the partition is delivered.

`kafka_changelog` carries the writes (`kafka_outbox` sends them), `kafka_follower` restores and watches,
`kafka_hold` is a partition in one epoch, `kafka_trail` its checkpoint, `kafka_changes` says what a message is
to the tables, `kafka_cache` and `kafka_folder` are the file.

**Zombies.** A worker that was evicted and does not know it yet (Z, in epoch e) may write after the restore of
its successor (O, in a later epoch). Why that may repeat a delivery and never loses one:

1. *Before the end of O's restore* Z's writes are like any other. A row: O has it, and completes its record
   without an attempt if that comes again. A tombstone: Z wrote it because the delivery was done or cancelled,
   or because its dead letter was acknowledged before, so nothing is owed.
2. *Behind it, Z puts a row* of a record that was not complete. Z never commits that record, since its commits
   are fenced: O reads it, and owes the delivery by itself. If Z's row stands, its delivery is repeated once.
3. *Behind it, Z updates a row*: the delivery counts an attempt more or less, and the same life is owed.
4. *Behind it, Z writes a tombstone*: the delivery was done (or buried, or cancelled). O's cache has the row,
   and O tries it again: a repeat.
5. *Z delivers what it had in flight*, and O does so too: a repeat, and nothing is written wrong.

2 to 4 are mended too. For two minutes after a restore, and whenever the offsets of its own writes have a gap,
O reads its partition. Over what Z wrote it writes its own value again: the row in its cache, or a tombstone
if it removed that row itself. A row of a life that it knows nothing of it takes over as it is.

That must not lose what a *newer* owner N wrote, while O is the zombie. Messages carry their writer's epoch,
and epochs of a partition grow with every assignment: O overwrites none of a higher epoch, and gives the
partition up when it reads one. What O sends before that is for N a zombie's write as above: a row, or a
tombstone of a life that O itself was done with. No tombstone is written for a life that somebody may owe.

A worker that stood still knows it, and sends nothing until the group has confirmed what it holds
(`Ownership.confirmed`). A client that is replaced may leave copies of our own writes behind: late ones are
overwritten like a zombie's.

**Crashes.** Between the acknowledgement of a row and the commit of its record: the record is read again, and
is found among `Restored.lives`. Between a write and its acknowledgement: nothing was called back, its record
is incomplete, and if the message is in the topic it counts like any other. The cache keeps whole
transactions, each with its checkpoint; what lies behind that is read again, and the last message of a key
decides, whatever the cache has. A checkpoint older than half of the time that tombstones stay could miss one,
and is not used.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from gevent.lock import BoundedSemaphore

from producer.errors import LogUnavailable, LogUnusable
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_sender import KafkaSender
from producer.model import Life
from thorn_worker.log.group_commit import GroupCommit
from thorn_worker.log.kafka_topics import Topics
from thorn_worker.store import queries
from thorn_worker.store.contract import DeadLetter, Done, EndpointState, Pending, Restored
from thorn_worker.store.kafka_cache import Cache
from thorn_worker.store.kafka_changelog import Changelog, tombstone
from thorn_worker.store.kafka_changes import place_of
from thorn_worker.store.kafka_folder import Folder
from thorn_worker.store.kafka_follower import Follower
from thorn_worker.store.kafka_hold import Burial, Hold, Write, encode_row
from thorn_worker.store.kafka_stats import StoreStats, stats_of
from thorn_worker.store.queries import Place
from thorn_worker.store.rows import encode_endpoint, endpoint_key, pending_key
from thorn_worker.store.table import RELEASE_WAIT_S, TableStore

#: State is sparse and its callers wait for nobody: let more of it travel together than a producer would.
LINGER_S: Final = 0.01
#: How long `close` waits for what is unacknowledged, and for the cache's last transaction.
CLOSE_WAIT_S: Final = 1.0


class Ownership(Protocol):
    """What the store asks of the reader."""

    @property
    def topics(self) -> Topics:
        """As found when the reader was opened."""
        ...

    def confirmed(self) -> bool:
        """What is assigned is certainly still ours."""
        ...


@dataclass(frozen=True, slots=True)
class _Parts:
    """What exists once the store is open."""

    folder: Folder
    cache: Cache
    sender: KafkaSender
    changelog: Changelog
    follower: Follower


class KafkaStore(TableStore):
    """Rows of the partitions that are held in an epoch of ours. Usable once the reader is open."""

    def __init__(self, options: KafkaOptions, ownership: Ownership, state_dir: str | None) -> None:
        super().__init__()
        self._options = options
        self._ownership = ownership
        self._state_dir = state_dir
        self._writer = uuid.uuid4().hex[:16]
        self._holds: dict[int, Hold] = {}
        self._epochs: dict[int, int] = {}
        self._parts: _Parts | None = None
        self._opening = BoundedSemaphore(1)

    def __repr__(self) -> str:
        return f"<KafkaStore of {self._options.place} as {self._writer} for {sorted(self._owned)}>"

    def open(self) -> None:
        """Take a folder and open the cache in it; waits. Done by the first `restore` too.

        Raises `LogUnusable` for a folder that can't be used.
        """
        with self._opening:
            if self._parts is None:
                self._parts = self._opened()

    def _opened(self) -> _Parts:
        folder = Folder(self._options, self._state_dir)
        topics = self._ownership.topics
        cache = Cache(folder.path, topics.state_id, topics.deliveries_id)
        try:
            cache.open()
        except BaseException:
            cache.close(0.0)
            folder.close()
            raise
        sender = KafkaSender(self._options, linger_s=LINGER_S)
        may_write = self._ownership.confirmed
        changelog = Changelog(self._options, sender, cache, self._writer, may_write, self._watch)
        follower = Follower(self._options, cache, self._writer, changelog.overwrite, self._superseded)
        return _Parts(folder, cache, sender, changelog, follower)

    def close(self) -> None:
        """Stop, and leave the folder to the next process. What is under way is not called back."""
        parts, self._parts = self._parts, None
        if parts is None:
            return
        for hold in self._holds.values():
            hold.alive = False
        parts.follower.close()
        parts.changelog.close()
        parts.sender.close(CLOSE_WAIT_S)
        parts.cache.close(CLOSE_WAIT_S)
        parts.folder.close()

    @property
    def stats(self) -> StoreStats:
        """Figures of now."""
        if self._parts is None:
            return StoreStats()
        return stats_of(self._parts.changelog, self._parts.sender, self._parts.follower)

    @property
    def trouble(self) -> str | None:
        """Why writes are not acknowledged just now, in one sentence; None while they are."""
        return None if self._parts is None else self._parts.sender.trouble or self._parts.cache.trouble

    # -- one partition -----------------------------------------------------------------------------

    def restore(self, partition: int, epoch: int, committed: int) -> Restored:
        if epoch < self._epochs.get(partition, epoch):
            raise LogUnavailable(
                f"partition {partition} in epoch {epoch} is over: it was assigned anew since"
            )
        self._epochs[partition] = epoch
        self.open()
        assert self._parts is not None
        self._give_up(partition)
        hold = self._holds[partition] = Hold(partition, epoch)
        try:
            self._parts.sender.open()
            hold.check_alive()
            self._parts.follower.restore(hold)
            found = partial(queries.restore, partition=partition, committed=committed)
            restored = self._parts.cache.read(found)
            hold.check_alive()
        except BaseException:
            if hold.alive:
                self._give_up(partition)
            raise
        self._own(partition)
        # What can't be read has no host, and is never due.
        hosts = {host: due_at for host, due_at in restored.hosts.items() if host}
        return replace(restored, hosts=hosts)

    def release(self, partition: int, epoch: int) -> bool:
        hold = self._holds.get(partition)
        if hold is None or hold.epoch != epoch:
            return True
        finished = hold.wait(RELEASE_WAIT_S)
        if self._holds.get(partition) is hold:
            self._give_up(partition)
        return finished

    def _give_up(self, partition: int) -> None:
        """Forget the partition: late acknowledgements change nothing, what waits is not sent."""
        hold = self._holds.pop(partition, None)
        if hold is not None and self._parts is not None:
            hold.alive = False
            self._parts.follower.drop(hold)
        self._disown(partition)

    def _superseded(self, hold: Hold) -> None:
        if self._holds.get(hold.partition) is hold:
            self._give_up(hold.partition)

    def _held(self, partition: int, epoch: int) -> Hold | None:
        hold = self._holds.get(partition)
        return hold if hold is not None and hold.epoch == epoch and hold.trail is not None else None

    def _watch(self, hold: Hold) -> None:
        if self._parts is not None and hold.alive:
            self._parts.follower.watch(hold)

    # -- writes ------------------------------------------------------------------------------------

    def put(self, epoch: int, row: Pending, done: Done) -> None:
        hold = self._held(row.life.partition, epoch)
        if hold is not None:
            turn = hold.turn(done)
            self._submit(Write(hold, pending_key(row.life), turn, partial(encode_row, row), row=row))

    def remove(self, epoch: int, life: Life, done: Done) -> None:
        hold = self._held(life.partition, epoch)
        if hold is not None:
            self._submit(Write(hold, pending_key(life), hold.turn(done), tombstone, life=life))

    def bury(self, epoch: int, letter: DeadLetter, done: Done) -> None:
        hold = self._held(letter.life.partition, epoch)
        if hold is not None:
            self._submit(Burial(hold, letter, hold.turn(done)))

    def save_endpoint(self, partition: int, epoch: int, state: EndpointState, done: Done) -> None:
        hold = self._held(partition, epoch)
        if hold is not None:
            encode: Callable[[], bytes | None] = partial(encode_endpoint, state)
            self._submit(Write(hold, endpoint_key(state.sub), hold.turn(done), encode))

    def _submit(self, item: Write | Burial) -> None:
        assert self._parts is not None
        self._parts.changelog.submit(item)

    # -- reads -------------------------------------------------------------------------------------

    def _file(self) -> GroupCommit:
        if self._parts is None:
            raise LogUnusable(f"the store of {self._options.place} is not open")
        if self._parts.changelog.defect is not None:
            raise LogUnusable(
                f"the store of {self._options.place} ended in an error of its own "
                f"({self._parts.changelog.defect!r}): restart the worker"
            )
        return self._parts.cache

    def _place(self, life: Life) -> Place:
        return place_of(life, self._ownership.topics.deliveries_id)
