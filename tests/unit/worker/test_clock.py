"""A clock that nobody can step."""

from pathlib import Path

import pytest

from tests.support.deliveries import delivery
from tests.support.inside import SCHEDULE_S, Hands, Inside
from thorn_worker.clock import Clock

HOUR_S = 3600.0


def test_the_example_of_its_docstring() -> None:
    wall, boot = [1000.0], [50.0]
    clock = Clock(lambda: wall[0], lambda: boot[0])
    boot[0] = 60.0
    wall[0] = 99_999.0
    assert clock.now() == 1010.0
    assert clock.wall() == 99_999.0


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_a_stepped_clock_moves_no_retry(tmp_path: Path, step_s: float) -> None:
    hands = Hands()
    with Inside(tmp_path, hands=hands) as inside:
        # Given a delivery that failed and is due in a minute
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.driver.answer("d1", 500)
        inside.settled()

        # When the machine's clock is set forward or back by an hour, then nothing fires
        hands.step(step_s)
        inside.turns()
        hands.wait(SCHEDULE_S[0] - 5)
        inside.turns()
        assert inside.driver.started == [("d1", 1)]

        # And when the minute has really passed, it does; jitter adds 10 % at most
        hands.wait(5 + SCHEDULE_S[0] * 0.1)
        inside.wait_started("d1")
        assert inside.driver.started == [("d1", 1), ("d1", 2)]


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_a_stepped_clock_neither_expires_nor_prolongs(tmp_path: Path, step_s: float) -> None:
    hands = Hands()
    with Inside(tmp_path, hands=hands) as inside:
        # Given a delivery that may be sent within half an hour, and waits in the store
        inside.append(delivery("d1", expires_at=inside.clock.now() + HOUR_S / 2))
        inside.wait_started("d1")
        inside.driver.answer("d1", 500)
        inside.settled()

        # When the clock is stepped past its expiry, or far before it, then it is still tried when it is due
        hands.step(step_s)
        hands.wait(SCHEDULE_S[0] * 1.1 + 1)
        inside.wait_started("d1")
        assert inside.letters() == []
