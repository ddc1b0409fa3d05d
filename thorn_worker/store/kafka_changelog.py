"""The writes of the Kafka store: acknowledged, in offset order, they enter the cache, and are called back.

Some ask the cache first: a burial needs a tombstone only if there is a row, and over a value that somebody
else wrote, what the cache holds is written again.
"""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

import gevent
from gevent.event import Event

from producer.errors import LogError
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_sender import KafkaSender
from thorn_worker.logs import RateLimited
from thorn_worker.store.kafka_cache import Cache
from thorn_worker.store.kafka_changes import Changes, is_kept, stored_value
from thorn_worker.store.kafka_hold import Burial, Hold, Write
from thorn_worker.store.kafka_outbox import Outbox

#: Acknowledged writes that enter the cache, and are called back, before others have a turn on the hub.
APPLY_AT_ONCE: Final = 500
#: A cache that does not answer is asked again after this long.
ASK_AGAIN_S: Final = 0.1

_log: Final = logging.getLogger("thorn_worker.store")


class Changelog:
    """Carries writes from `submit` to their callback.

    on_open: called with a hold whose trail shows something between our writes. acknowledged: messages of the
    state topic so far; refused: those that can never be written; last_ack_at: when the last one was
    acknowledged (monotonic clock). defect: an error of our own that ended a loop: writes may stand for ever.
    """

    def __init__(
        self,
        options: KafkaOptions,
        sender: KafkaSender,
        cache: Cache,
        writer: str,
        may_write: Callable[[], bool],
        on_open: Callable[[Hold], None],
    ) -> None:
        self.acknowledged = self.refused = 0
        self.last_ack_at: float | None = None
        self.defect: Exception | None = None
        self._state = options.state
        self._cache = cache
        self._on_open = on_open
        self._complaints = RateLimited(_log)
        self._outbox = Outbox(options, sender, writer, may_write, self._on_sent, self._refuse)
        self._acks: deque[tuple[Write, int | None, LogError | None]] = deque()
        self._letters: deque[tuple[Burial, LogError | None]] = deque()
        self._intruded: deque[tuple[Hold, bytes]] = deque()
        self._acked, self._asked = Event(), Event()
        loops = (self._outbox.send_all, self._outbox.tend, self._apply_all, self._look_up_all)
        self._greenlets = [gevent.spawn(self._keep, loop) for loop in loops]

    @property
    def waiting(self) -> int:
        """Writes that were not sent yet."""
        return len(self._outbox)

    def submit(self, item: Write | Burial) -> None:
        """Write, or bury; returns at once."""
        hold, key = item.hold, item.key
        if key in hold.behind:
            hold.behind[key].append(item)
            return
        if isinstance(item, Burial):
            hold.behind[key] = deque()
        else:
            hold.begun(key)
        self._outbox.put(item)

    def overwrite(self, hold: Hold, key: bytes, theirs: bytes | None) -> None:
        """An intruder's value of `key` stands, `theirs`: write our own again, unless one is on its way."""
        if is_kept(key) and hold.is_quiet(key):
            if key not in hold.looked_up:
                self._intruded.append((hold, key))
            hold.looked_up[key] = theirs
            self._asked.set()

    def close(self) -> None:
        """Stop; what is under way is not called back."""
        gevent.killall(self._greenlets)

    def _keep(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Exception as error:
            _log.critical("the store ended in an error of its own: report it", exc_info=True)
            self.defect = error

    def _on_sent(self, item: Write | Burial, offset: int | None, error: LogError | None) -> None:
        if isinstance(item, Burial):
            self._letters.append((item, error))
            self._asked.set()
        else:
            self._acks.append((item, offset, error))
            self._acked.set()

    # -- to the cache, and back to the callers -----------------------------------------------------

    def _apply_all(self) -> None:
        while True:
            self._acked.wait()
            self._acked.clear()
            while self._acks:
                batch = list(islice(self._acks, APPLY_AT_ONCE))
                for _ in batch:
                    self._acks.popleft()
                self._apply(batch)
                self._outbox.look_again()
                gevent.sleep(0)

    def _apply(self, batch: list[tuple[Write, int | None, LogError | None]]) -> None:
        writes: defaultdict[Hold, list[Write]] = defaultdict(list)
        for write, offset, error in batch:
            if error is not None:
                self._say_refused(write, error)
                self._refuse(write)
                continue
            self.acknowledged += 1
            self.last_ack_at = time.monotonic()
            if write.hold.alive:
                self._note(write, -1 if offset is None else offset)
                writes[write.hold].append(write)
        for hold, ours in writes.items():
            assert hold.trail is not None
            changes = Changes(hold.partition, self._cache.topic_id)
            for write in ours:
                write.enter(changes)
            settled = partial(self._applied, hold, ours)
            self._cache.write(changes.write, hold.partition, hold.trail.checkpoint, hold.trail.at, settled)
            if hold.trail.open:
                self._on_open(hold)

    def _note(self, write: Write, offset: int) -> None:
        hold = write.hold
        assert hold.trail is not None
        if not hold.trail.acknowledged(write.number, offset, write.key, write.sent_at):
            self._complaints.log(
                logging.CRITICAL,
                f"lost {hold.partition}",
                "partition %d of %s has lost records, offset %d was given again, and stored deliveries may "
                "be gone: restart the workers, so that it is read anew",
                *(hold.partition, self._state, offset),
            )

    def _applied(self, hold: Hold, writes: list[Write], done: bool) -> None:
        if not (done and hold.alive and hold.trail is not None):
            return
        for write in writes:
            hold.ended(write.key)
            hold.remember(write.key, removed=write.value is None)
            if write.turn is not None:
                write.turn.over = True
        for key in hold.trail.intruders:  # behind what we wrote, or late copies of it
            if key not in hold.looked_up:
                self.overwrite(hold, key, None)
        hold.call_back()

    def _say_refused(self, item: Write | Burial, error: LogError) -> None:
        self._complaints.log(
            logging.CRITICAL,
            "refused",
            "a write of partition %d to the store is refused for good, and its delivery stays incomplete: %s",
            *(item.hold.partition, error),
        )

    def _refuse(self, item: Write | Burial) -> None:
        """Its caller never hears of it; everybody else goes on."""
        self.refused += 1
        hold = item.hold
        if item.turn is not None:
            item.turn.over = item.turn.refused = True
        if isinstance(item, Burial):
            self._go_on_behind(item)
        else:
            hold.ended(item.key)
        hold.call_back()

    # -- what asks the cache first -----------------------------------------------------------------

    def _look_up_all(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            while self._letters:
                self._end_burials()
            while self._intruded:
                self._write_again(*self._intruded.popleft())

    def _end_burials(self) -> None:
        """The letters are durable: now the rows may go, where there are any."""
        burials: list[Burial] = []
        while self._letters:
            burial, error = self._letters.popleft()
            if error is not None:
                self._say_refused(burial, error)
                self._refuse(burial)
            elif burial.hold.alive:
                burials.append(burial)
        # Asked before the cache is: what is under way now is perhaps in the cache, unseen, a moment later.
        stored = [burial.key in burial.hold.under_way for burial in burials]
        held = self._held([(burial.hold.partition, burial.key) for burial in burials])
        for burial, is_stored, value in zip(burials, stored, held, strict=True):
            if burial.hold.alive:
                self._end_burial(burial, is_stored or value is not None)

    def _end_burial(self, burial: Burial, stored: bool) -> None:
        hold = burial.hold
        if stored:
            hold.begun(burial.key)
            life = burial.letter.life
            self._outbox.put(Write(hold, burial.key, burial.turn, tombstone, life=life))
        else:
            burial.turn.over = True
            hold.remember(burial.key, removed=True)
        self._go_on_behind(burial)
        hold.call_back()

    def _go_on_behind(self, burial: Burial) -> None:
        hold = burial.hold
        for item in hold.behind.pop(burial.key):
            self.submit(item)
        if hold.trail is not None and burial.key in hold.trail.intruders:
            self.overwrite(hold, burial.key, None)

    def _write_again(self, hold: Hold, key: bytes) -> None:
        """Ours is what the cache holds, or a tombstone if we removed the key.

        What we know nothing of is written again as it is: somebody may owe it.
        """
        (value,) = self._held([(hold.partition, key)])
        if not hold.alive or key not in hold.looked_up or key in hold.behind:  # ours has come, and sees to it
            return
        if value is None and key not in hold.removed:
            value = hold.looked_up[key]
        self._complaints.warning(
            f"intruder {hold.partition}",
            "partition %d: an earlier owner wrote to the state topic; our own value is written again",
            hold.partition,
        )
        self.submit(Write(hold, key, None, lambda: value))

    def _held(self, keys: list[tuple[int, bytes]]) -> list[bytes | None]:
        """What the cache holds under these keys of these partitions; asked until it answers."""
        topic_id = self._cache.topic_id
        while True:
            try:
                return self._cache.read(
                    lambda connection: [stored_value(connection, place, key, topic_id) for place, key in keys]
                )
            except LogError as error:  # counted by the cache
                self._complaints.warning("cache", "the local cache does not answer: %s", error)
                gevent.sleep(ASK_AGAIN_S)


def tombstone() -> None:
    """The value that removes a key."""
