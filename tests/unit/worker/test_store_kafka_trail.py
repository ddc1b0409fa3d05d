"""The checkpoint of a state partition, against a log in which anything may lie between our own writes."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from thorn_worker.store.kafka_trail import Trail

#: Few, so that writes of one key meet often.
keys, values = st.sampled_from((b"a", b"b")), st.sampled_from((None, 1, 2))
#: What ends all that goes on should not happen at every turn.
seldom = st.integers(0, 7).map(lambda number: number == 5)


def test_the_worked_example() -> None:
    trail = Trail(10, at=1.0)
    for number, offset in enumerate((10, 11, 14)):
        assert trail.acknowledged(number, offset, b"own", sent_at=2.0 + number)
    assert (trail.checkpoint, trail.open) == (12, True)

    assert trail.read(12, b"stolen", None)
    assert not trail.read(13, b"own", 2)
    trail.read_to(14)
    assert (trail.checkpoint, trail.intruders) == (12, (b"stolen",))

    assert trail.acknowledged(3, 15, b"stolen", sent_at=9.0)
    assert (trail.checkpoint, trail.open) == (16, False)


def test_a_write_below_the_checkpoint_tells_that_the_topic_lost_records() -> None:
    trail = Trail(10, at=1.0)
    assert not trail.acknowledged(0, 3, b"a", sent_at=2.0)
    assert trail.checkpoint == 10
    assert trail.acknowledged(1, -1, b"a", sent_at=2.0)  # a repeat whose place the broker has forgotten


def test_an_idle_partition_keeps_the_instant_of_its_last_write() -> None:
    trail = Trail(10, at=1.0)
    trail.stop_reading()
    trail.acknowledged(0, 10, b"a", sent_at=50.0)
    assert (trail.checkpoint, trail.at) == (11, 50.0)


def test_a_write_of_ours_that_lies_before_the_intruder_does_not_undo_it() -> None:
    trail = Trail(10, at=1.0)
    assert trail.read(11, b"a", None)  # before the acknowledgement of what we wrote at 10
    trail.read_to(12)
    trail.acknowledged(0, 10, b"a", sent_at=2.0)
    assert (trail.checkpoint, trail.intruders) == (11, (b"a",))
    trail.acknowledged(1, 12, b"a", sent_at=2.0)
    assert (trail.checkpoint, trail.intruders) == (13, ())


def test_of_two_intruders_the_later_one_is_to_be_undone() -> None:
    trail = Trail(10, at=1.0)
    assert trail.read(10, b"a", None)
    assert not trail.read(11, b"a", 0)
    assert trail.read(12, b"a", None)
    trail.read_to(13)
    trail.acknowledged(0, 11, b"a", sent_at=2.0)
    assert (trail.checkpoint, trail.intruders) == (12, (b"a",))


def test_a_late_copy_that_was_read_before_any_acknowledgement_is_an_intruder() -> None:
    trail = Trail(10, at=1.0)
    for offset, key, number in ((10, b"a", 0), (11, b"a", 1), (12, b"a", 0)):
        assert not trail.read(offset, key, number)
    trail.read_to(13)
    trail.acknowledged(0, 10, b"a", sent_at=2.0)
    trail.acknowledged(1, 11, b"a", sent_at=2.0)
    assert (trail.checkpoint, trail.intruders) == (12, (b"a",))


@dataclass(frozen=True)
class Message:
    """offset: where it lies. epoch: 0 for somebody else's."""

    offset: int
    key: bytes
    value: int | None
    epoch: int
    number: int


@dataclass(frozen=True)
class Own:
    """A write of ours. offset: None until it lies in the log."""

    key: bytes
    value: int | None
    number: int
    offset: int | None = None


def replayed(log: list[Message], start: int = 0, onto: Mapping[bytes, int] | None = None) -> dict[bytes, int]:
    """What a log says, its tombstones applied."""
    found: dict[bytes, int | None] = dict(onto or {})
    found.update((message.key, message.value) for message in log if message.offset >= start)
    return {key: value for key, value in found.items() if value is not None}


class AnyInterleaving(RuleBasedStateMachine):
    """One owner, its client that may write things twice, a zombie, a compacting broker, and crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Message] = []
        self.end = 0
        self.cache: dict[bytes, int] = {}
        self.checkpoint = 0
        self.epoch = 0
        self.start()

    def start(self) -> None:
        """A process starts, or gets the partition again: it restores from what the last one left."""
        self.cache = replayed(self.log, self.checkpoint, self.cache)
        self.checkpoint = self.end
        self.epoch += 1
        self.trail = Trail(self.end, at=0.0)
        self.position: int | None = self.end
        self.numbers = 0
        self.sent: deque[Own] = deque()
        self.unacknowledged: deque[Own] = deque()
        self.ghosts: list[Own] = []

    def append(self, key: bytes, value: int | None, epoch: int, number: int) -> int:
        self.log.append(Message(self.end, key, value, epoch, number))
        self.end += 1
        return self.end - 1

    @rule(key=keys, value=values)
    def write(self, key: bytes, value: int | None) -> None:
        self.sent.append(Own(key, value, self.numbers))
        self.numbers += 1

    @precondition(lambda self: self.sent)
    @rule(ghost=st.booleans())
    def the_broker_appends(self, ghost: bool) -> None:
        """ghost: an older client's request with the same write is still on the wire."""
        own = self.sent.popleft()
        if ghost:
            self.ghosts.append(own)
        offset = self.append(own.key, own.value, self.epoch, own.number)
        self.unacknowledged.append(Own(own.key, own.value, own.number, offset))

    @precondition(lambda self: self.ghosts)
    @rule(data=st.data())
    def a_late_copy_arrives(self, data: st.DataObject) -> None:
        own = self.ghosts.pop(data.draw(st.integers(0, len(self.ghosts) - 1)))
        self.append(own.key, own.value, self.epoch, own.number)

    @precondition(lambda self: self.unacknowledged)
    @rule()
    def the_client_is_replaced(self) -> None:
        """What it had not acknowledged is sent again, in order, ahead of what comes later."""
        again = [Own(own.key, own.value, own.number) for own in self.unacknowledged]
        self.unacknowledged.clear()
        self.sent.extendleft(reversed(again))

    @precondition(lambda self: self.unacknowledged)
    @rule(known=st.booleans())
    def the_broker_acknowledges(self, known: bool) -> None:
        own = self.unacknowledged.popleft()
        assert own.offset is not None
        self.trail.acknowledged(own.number, own.offset if known else -1, own.key, 0.0)
        self.cache = replayed([Message(0, own.key, own.value, 0, 0)], 0, self.cache)
        self.checkpoint = self.trail.checkpoint  # in the transaction of the row
        if self.trail.open and self.position is None:
            self.position = self.trail.begin_to_read()
        for key in self.trail.intruders:
            self.overwrite(key, None)

    @rule(key=keys, value=values)
    def a_zombie_writes(self, key: bytes, value: int | None) -> None:
        self.append(key, value, 0, 0)

    @precondition(lambda self: self.position is not None)
    @rule(count=st.integers(1, 4))
    def the_follower_reads(self, count: int) -> None:
        assert self.position is not None
        for message in [message for message in self.log if message.offset >= self.position][:count]:
            number = message.number if message.epoch == self.epoch else None
            if self.trail.read(message.offset, message.key, number):
                self.overwrite(message.key, message.value)
            self.position = message.offset + 1
        self.trail.read_to(self.position)

    def overwrite(self, key: bytes, theirs: int | None) -> None:
        """What we know nothing of is taken over."""
        quiet = all(own.key != key for own in (*self.sent, *self.unacknowledged))
        if quiet:
            self.write(key, self.cache.get(key, theirs))

    @precondition(lambda self: self.position is not None and not self.trail.open)
    @rule(ends=seldom)
    def the_watch_ends(self, ends: bool) -> None:
        if ends:
            self.trail.stop_reading()
            self.position = None

    @rule()
    def the_broker_compacts(self) -> None:
        last = {message.key: message for message in self.log}
        self.log = [message for message in self.log if last[message.key] is message]

    @rule(now=seldom)
    def the_process_crashes(self, now: bool) -> None:
        if now:
            self.start()

    @invariant()
    def a_restore_from_the_checkpoint_says_what_the_log_says(self) -> None:
        assert self.checkpoint <= self.end
        assert replayed(self.log, self.checkpoint, self.cache) == replayed(self.log)

    @invariant()
    def the_checkpoint_passes_nothing_unacknowledged(self) -> None:
        there = {message.offset for message in self.log}  # what is superseded may be compacted away
        unsure = [own.offset for own in self.unacknowledged if own.offset in there]
        assert all(offset is None or offset >= self.trail.checkpoint for offset in unsure)

    def teardown(self) -> None:
        """Once all is quiet the cache says what the log says, and nothing is left to be read."""
        if self.position is None:
            self.position = self.trail.begin_to_read()
        while self.ghosts:
            own = self.ghosts.pop()
            self.append(own.key, own.value, self.epoch, own.number)
        for _ in range(10):  # rounds; two or three are enough
            while self.sent:
                self.the_broker_appends(ghost=False)
            while self.unacknowledged:
                self.the_broker_acknowledges(known=True)
            self.the_follower_reads(count=1000)
        assert self.cache == replayed(self.log)
        assert not self.trail.open


AnyInterleaving.TestCase.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyInterleaving = AnyInterleaving.TestCase
