"""Rows come back when they are due, a lane's worth at a time, and never twice."""

from base64 import b64encode
from pathlib import Path

from tests.support.deliveries import delivery
from tests.support.inside import MAX_AGE_S, Inside
from thorn_worker.outcome import Death

SUB = "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"
SECRET = "whsec_" + b64encode(b"k" * 32).decode()


def test_a_lane_loads_at_most_twice_its_width_and_all_in_the_end(tmp_path: Path) -> None:
    with Inside(tmp_path, per_lane=3) as inside:
        # Given more due rows than the lane may hold
        names = [f"d{number:02}" for number in range(20)]
        inside.append(*(delivery(name, not_before=inside.clock.now() + 60) for name in names))
        inside.settled()
        inside.hands.wait(61)

        # When they are delivered one by one, then the lane holds no more than it may, and each comes once
        most = 0
        while len(inside.driver.started) < 20 or inside.driver.in_flight:
            inside.wait(lambda: inside.driver.in_flight, what="an attempt")
            most = max(most, inside.lanes.queued + inside.lanes.in_flight)
            inside.driver.answer(inside.driver.in_flight[0], 200)
            inside.hands.wait(0.2)
        assert sorted(name for name, _ in inside.driver.started) == names
        assert most <= 3 + 2 * 3
        inside.wait(lambda: not inside.rows(), what="the rows to go")


def test_rows_survive_a_restart_and_are_due_at_once_if_they_are(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1", not_before=inside.clock.now() + 60))
        inside.settled()
        hands = inside.hands
    hands.wait(120)
    with Inside(tmp_path, hands=hands) as again:
        again.wait_started("d1")


def test_what_was_unresolved_is_loaded_when_it_is_known(tmp_path: Path) -> None:
    answers: dict[str, object] = {}
    with Inside(tmp_path, secrets_of=answers.get, per_lane=2) as inside:
        # Given deliveries of a subscription that nobody knows
        names = [f"d{number}" for number in range(10)]
        inside.append(*(delivery(name, sub=SUB, lookup=True) for name in names))
        inside.wait(lambda: len(inside.rows()) == 10, what="ten rows")

        # When it is asked for too early, the last answer still counts
        answers[SUB] = [SECRET]
        inside.reload.look_up(inside.partitions.all())
        assert inside.home.unresolved == {SUB}

        # When the answer is old, then it is asked again, and all come as first attempts
        inside.hands.wait(31)
        inside.reload.look_up(inside.partitions.all())
        assert inside.home.unresolved == set()
        while len(inside.driver.started) < 10 or inside.driver.in_flight:
            inside.wait(lambda: inside.driver.in_flight, what="an attempt")
            inside.driver.answer(inside.driver.in_flight[0], 200)
        assert sorted(inside.driver.started) == [(name, 1) for name in names]
        inside.wait(lambda: not inside.rows(), what="the rows to go")


def test_what_waits_for_ever_ends_at_its_age(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        now = inside.clock.now()
        inside.append(
            delivery("old", sub=SUB, lookup=True),
            delivery("brief", sub=SUB, lookup=True, expires_at=now + 60),
        )
        inside.wait(lambda: len(inside.rows()) == 2, what="two rows")
        inside.hands.wait(61)
        inside.reload.overdue(inside.partitions.all())
        inside.wait(inside.letters, what="a letter")
        assert [letter.delivery.id for letter in inside.letters() if letter.delivery] == ["brief"]
        inside.hands.wait(MAX_AGE_S)
        inside.reload.overdue(inside.partitions.all())
        inside.wait(lambda: len(inside.letters()) == 2, what="both letters")
        assert {letter.reason for letter in inside.letters()} == {Death.UNRESOLVED}
        assert inside.rows() == []


def test_nothing_is_loaded_of_a_partition_that_is_gone(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1", not_before=inside.clock.now() + 60))
        inside.settled()
        home = inside.home
        inside.dispatcher.forget(home)
        inside.hands.wait(61)
        inside.reload.due([home])
        inside.reload.overdue([home])
        inside.dispatcher.pump()
        assert inside.driver.started == []
