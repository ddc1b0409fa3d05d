"""What counts as a stall, and how the process ends. Whole workers with faults: `tests.e2e.test_watchdog`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.deliveries import delivery
from tests.support.hub import wait_on_hub
from tests.support.inside import Inside
from tests.support.system import ROOT
from thorn_worker.lanes import Lanes, Limits
from thorn_worker.outcome import Outcome, Phase
from thorn_worker.reload import OVERLOOKED_S
from thorn_worker.watchdog import EXIT_CODE, TELL_S, Judge, Pulse

LIMIT_S = 60.0

Counts = tuple[int, int, int]


def verdicts(looks: int, counts: Callable[[int], Counts], ran_s: float = 1.0) -> list[tuple[int, str]]:
    """What the judge says at which of so many looks; counts: turns, polls, moves at that look."""
    judge = Judge(LIMIT_S)
    said = ((number, judge.look(counts(number), ran_s)) for number in range(looks))
    return [(number, cause) for number, cause in said if cause is not None]


def test_counts_that_go_on_are_never_a_stall() -> None:
    assert verdicts(10_000, lambda look: (look, look // 30, look // 59)) == []


def test_a_count_that_stands_is_told_at_the_sixtieth_look_after_its_last_step() -> None:
    def counts(look: int) -> Counts:
        return (min(look, 7), look, look)

    assert verdicts(68, counts) == [(67, "the event loop has not turned for 60 s")]


@pytest.mark.parametrize(
    "stands, cause",
    [
        ((1, 0, 1), "the log's reader has not come back from poll for 60 s"),
        ((1, 1, 0), "a delivery could start and none was started for 60 s"),
        ((0, 0, 0), "the event loop has not turned for 60 s"),  # which explains the others
    ],
)
def test_the_cause_is_named(stands: Counts, cause: str) -> None:
    turns, polls, moves = stands

    assert verdicts(61, lambda look: (look * turns, look * polls, look * moves)) == [(60, cause)]


def test_while_the_hub_stands_nothing_else_is_blamed() -> None:
    # Given a reader that has been gone for 40 s when the hub stops for 50 s and then goes on with both
    def counts(look: int) -> Counts:
        if look < 40:
            return (look, 0, look)
        if look < 90:
            return (40, 0, 40)
        return (look, look, look)

    # Then neither stood for a minute
    assert verdicts(300, counts) == []


def test_looks_may_come_more_often_than_beats() -> None:
    def counts(look: int) -> Counts:
        return (look // 10, 0, look // 10)

    said = verdicts(700, counts, ran_s=0.1)

    assert 600 <= said[0][0] <= 620
    assert said[0][1].startswith("the log's reader has not come back from poll")


def test_only_time_in_which_the_watchdog_ran_counts() -> None:
    assert verdicts(61, lambda _: (0, 0, 0), ran_s=0.5) == []


class Worker:
    """What a pulse asks of the worker around it."""

    def __init__(self) -> None:
        self.started = 0
        self.startable = False
        self.asked = 0
        self.pulse = Pulse(lambda: self.started, self._startable)
        self.pulse.idle = False
        self.pulse.beat()

    def _startable(self) -> bool:
        self.asked += 1
        return self.startable

    def moved(self) -> bool:
        before = self.pulse.moves
        self.pulse.beat()
        return self.pulse.moves > before


def test_a_worker_with_nothing_to_start_moves() -> None:
    assert Worker().moved()


def test_a_worker_that_started_something_moves_and_is_not_asked_what_it_could_start() -> None:
    worker = Worker()
    worker.startable, worker.started, worker.asked = True, 5, 0

    assert worker.moved()
    assert worker.asked == 0


def test_a_worker_that_could_start_and_does_not_stands() -> None:
    worker = Worker()
    worker.startable = True

    assert not worker.moved()


def test_a_worker_that_drains_stands_by_design() -> None:
    worker = Worker()
    worker.startable = worker.pulse.idle = True
    polls = worker.pulse.polls

    assert worker.moved()
    assert worker.pulse.polls > polls


def test_lanes_can_start_what_their_limits_let_pass() -> None:
    lanes: Lanes[str] = Lanes(Limits(total=3, per_lane=2))
    assert not lanes.startable()

    lanes.add("h", "s", "first")
    assert lanes.startable()
    lanes.start()
    assert not lanes.startable()  # nothing is left

    lanes.add("h", "limited", "second", limit=1)
    lanes.add("h", "limited", "third", limit=1)
    lanes.start()
    assert not lanes.startable()  # the subscription and the lane are at their limits

    lanes.add("other", "s", "fourth")
    lanes.add("other", "s", "fifth")
    assert lanes.startable()
    lanes.start()
    assert not lanes.startable()  # all slots are taken

    lanes.finished("h", "s")
    assert lanes.startable()
    assert lanes.started == 3


def test_a_lane_that_was_forgotten_is_seen() -> None:
    lanes: Lanes[str] = Lanes(Limits(total=3, per_lane=2))
    lanes.add("h", "s", "first")
    lanes._ring.clear()

    assert lanes.start() is None
    assert lanes.startable()


def test_trouble_of_this_machine_and_an_unconfirmed_partition_stand_by_design(tmp_path: Path) -> None:
    with Inside(tmp_path, ttl_s=1.0) as inside:
        # Given a delivery that waits because the machine could not make its attempt
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.driver.trouble("d1")
        assert inside.lanes.startable()
        assert not inside.dispatcher.startable()

        # When the trouble is over, then it is started at once
        inside.wait_started("d1")
        assert not inside.dispatcher.startable()

        # Given another one that waits while nobody knows whose the partition is
        inside.driver.answer("d1", 200)
        inside.append(delivery("d2"))
        inside.dispatcher.pump = lambda: None  # type: ignore[method-assign]
        inside.wait(lambda: inside.lanes.queued, what="the delivery to be read")
        assert inside.dispatcher.startable()
        with inside.busy_file():
            wait_on_hub(lambda: not inside.reader.confirmed(), what="the lease to be uncertain")
            assert inside.lanes.startable()
            assert not inside.dispatcher.startable()

        # And a drain starts nothing
        inside.dispatcher.stop()
        assert not inside.dispatcher.startable()


def test_due_rows_that_nobody_asks_for_are_overlooked(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given a row that is due in a minute
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.driver.fail("d1", Outcome.UNREACHABLE, Phase.CONNECT)
        inside.settled()
        homes = inside.partitions.all()
        assert not inside.reload.overlooks(homes)

        # When it is due, then it is overlooked once nobody came for it in good time
        inside.hands.wait(66.1)  # 60 s and at most a tenth more
        assert not inside.reload.overlooks(homes) or OVERLOOKED_S < 6.1
        inside.hands.wait(OVERLOOKED_S)
        assert inside.reload.overlooks(homes)

        # And not while it may not be loaded
        inside.home.restoring = True
        assert not inside.reload.overlooks(homes)
        inside.home.restoring = False

        # And no longer once it was loaded
        inside.wait_started("d1")
        assert not inside.reload.overlooks(homes)


#: A hub that never turns again, under a watchdog that looks ten times a second.
STUCK = """
import time
from thorn_worker.watchdog import Pulse, Watchdog

Watchdog(Pulse(lambda: 0, lambda: False), limit_s=1.0, check_s=0.1).start()

def the_guilty_function():
    while True:
        pass

the_guilty_function()
"""


def test_a_stuck_process_ends_with_its_own_exit_code_and_names_the_guilty_function() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK], cwd=ROOT, capture_output=True, text=True, timeout=30
    )

    assert ended.returncode == EXIT_CODE == 70
    first, _, rest = ended.stderr.partition("\n")
    assert first == (
        "thorn-worker: the event loop has not turned for 1 s: the process ends with exit code 70, to be "
        "started again"
    )
    assert "--- the event loop's thread" in rest
    assert "in the_guilty_function" in rest


def test_a_reader_of_stderr_that_is_stuck_too_does_not_keep_the_process_alive() -> None:
    # Given a pipe that is full, and that nobody reads
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)

    # When a process gets stuck that writes there, then it ends all the same
    try:
        stuck = subprocess.Popen([sys.executable, "-c", STUCK], cwd=ROOT, stderr=writing)
        began = time.monotonic()
        assert stuck.wait(TELL_S + 20) == EXIT_CODE
        assert time.monotonic() - began >= TELL_S
    finally:
        os.close(reading)
        os.close(writing)
