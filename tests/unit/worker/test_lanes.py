"""Whose turn is it: fairness, limits, and nothing forgotten."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from thorn_worker.lanes import Lanes, Limits

Unit = tuple[str, str, int]  # host, subscription, number


def lanes_with(limits: Limits, *units: Unit) -> Lanes[Unit]:
    lanes: Lanes[Unit] = Lanes(limits)
    for unit in units:
        lanes.add(unit[0], unit[1], unit)
    return lanes


def started(lanes: Lanes[Unit]) -> list[Unit]:
    found = []
    while (unit := lanes.start()) is not None:
        found.append(unit)
    return found


def test_hosts_take_turns_whatever_their_backlog() -> None:
    lanes = lanes_with(
        Limits(6, 4), *(("big", "s", n) for n in range(100)), ("small", "s", 0), ("tiny", "s", 0)
    )

    assert [unit[0] for unit in started(lanes)] == ["big", "small", "tiny", "big", "big", "big"]


def test_subscriptions_of_a_host_take_turns() -> None:
    lanes = lanes_with(Limits(100, 4), *(("h", "a", n) for n in range(50)), ("h", "b", 0))

    assert [unit[1] for unit in started(lanes)] == ["a", "b", "a", "a"]


def test_one_subscription_keeps_its_order() -> None:
    lanes = lanes_with(Limits(100, 100), *(("h", "s", n) for n in range(10)))

    assert [unit[2] for unit in started(lanes)] == list(range(10))


def test_a_full_lane_lets_others_pass_and_goes_on_when_one_finishes() -> None:
    lanes = lanes_with(Limits(10, 1), ("h", "s", 0), ("h", "s", 1), ("other", "s", 0))

    assert started(lanes) == [("h", "s", 0), ("other", "s", 0)]
    lanes.finished("h", "s")
    assert started(lanes) == [("h", "s", 1)]


def test_a_subscriptions_own_limit_holds_and_does_not_slow_its_neighbour() -> None:
    lanes: Lanes[Unit] = Lanes(Limits(100, 10))
    for number in range(5):
        lanes.add("h", "limited", ("h", "limited", number), limit=2)
        lanes.add("h", "free", ("h", "free", number))

    assert Counter(unit[1] for unit in started(lanes)) == {"limited": 2, "free": 5}


def test_work_put_first_goes_ahead_of_its_subscription() -> None:
    lanes = lanes_with(Limits(1, 1), ("h", "s", 1))
    lanes.add("h", "s", ("h", "s", 0), first=True)

    assert lanes.start() == ("h", "s", 0)


def test_idle_lanes_are_forgotten() -> None:
    lanes = lanes_with(Limits(10, 10), *((f"h{n}", "s", 0) for n in range(5)))
    units = started(lanes)
    assert len(lanes) == 5

    for host, sub, _ in units:
        lanes.finished(host, sub)

    assert len(lanes) == 0
    assert lanes.in_flight == lanes.queued == 0


def test_removed_work_never_starts_and_its_lane_goes_on() -> None:
    lanes = lanes_with(Limits(10, 10), *(("h", "s", n) for n in range(6)), ("h", "t", 0))

    removed = lanes.remove(lambda unit: unit[1] == "s" and unit[2] % 2 == 0)

    assert [unit[2] for unit in removed] == [0, 2, 4]
    assert sorted(started(lanes)) == [("h", "s", 1), ("h", "s", 3), ("h", "s", 5), ("h", "t", 0)]


@given(backlogs=st.lists(st.integers(1, 60), min_size=2, max_size=8), slots=st.integers(1, 20))
def test_no_host_gets_two_turns_more_than_another_that_waits(backlogs: list[int], slots: int) -> None:
    lanes: Lanes[Unit] = Lanes(Limits(1, 1))
    for host, backlog in enumerate(backlogs):
        for number in range(backlog):
            lanes.add(f"h{host}", "s", (f"h{host}", "s", number))
    turns: Counter[str] = Counter()

    for _ in range(slots):
        unit = lanes.start()
        if unit is None:
            break
        turns[unit[0]] += 1
        lanes.finished(unit[0], unit[1])

    waiting = [turns[f"h{host}"] for host, backlog in enumerate(backlogs) if turns[f"h{host}"] < backlog]
    if waiting:
        assert max(turns.values()) - min(waiting) <= 1


class LanesMachine(RuleBasedStateMachine):
    """Random adds, starts, ends and removals against plain lists: no limit is ever passed, nothing is lost or
    stuck.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(total=5, per_lane=3)
        self.lanes: Lanes[Unit] = Lanes(self.limits)
        self.queued: list[Unit] = []
        self.in_flight: list[Unit] = []
        self.sub_limit: dict[tuple[str, str], int | None] = {}
        self.number = 0

    @rule(
        host=st.sampled_from("abc"),
        sub=st.sampled_from("xy"),
        limit=st.sampled_from([None, 1, 2]),
        first=st.booleans(),
    )
    def add(self, host: str, sub: str, limit: int | None, first: bool) -> None:
        self.number += 1
        unit = (host, sub, self.number)
        self.lanes.add(host, sub, unit, limit, first=first)
        self.queued.append(unit)
        self.sub_limit[host, sub] = limit

    @rule()
    def start(self) -> None:
        unit = self.lanes.start()
        if unit is None:
            assert not any(self.may_start(candidate) for candidate in self.queued)
            return
        assert self.may_start(unit)
        self.queued.remove(unit)
        self.in_flight.append(unit)

    def may_start(self, unit: Unit) -> bool:
        host, sub, _ = unit
        of_lane = sum(one[0] == host for one in self.in_flight)
        of_sub = sum(one[:2] == (host, sub) for one in self.in_flight)
        limit = self.sub_limit[host, sub]
        return (
            len(self.in_flight) < self.limits.total
            and of_lane < self.limits.per_lane
            and (limit is None or of_sub < limit)
        )

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        unit = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(unit)
        self.lanes.finished(unit[0], unit[1])

    @rule(host=st.sampled_from("abc"))
    def remove(self, host: str) -> None:
        removed = self.lanes.remove(lambda unit: unit[0] == host)
        assert sorted(removed) == sorted(unit for unit in self.queued if unit[0] == host)
        self.queued = [unit for unit in self.queued if unit[0] != host]

    @invariant()
    def counts_agree(self) -> None:
        assert self.lanes.in_flight == len(self.in_flight)
        assert self.lanes.queued == len(self.queued)
        assert len(self.lanes) == len({unit[0] for unit in self.queued + self.in_flight})


TestLanesMachine = LanesMachine.TestCase
