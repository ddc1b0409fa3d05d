"""Commands act on smaller offsets of their partition, wherever the deliveries are."""

from pathlib import Path

import pytest

from tests.support.deliveries import HOST, delivery
from tests.support.inside import Inside
from thorn_worker import metrics
from thorn_worker.outcome import Death

BY = [{"ids": ("d1", "d2", "d3", "late")}, {"subs": ("s1",)}, {"hosts": (HOST,)}]


def cancelled(inside: Inside) -> int:
    return inside.counters.family(metrics.DELIVERIES)["cancelled"].value


@pytest.mark.parametrize("chosen", BY)
def test_cancel_reaches_lane_flight_and_store(tmp_path: Path, chosen: dict[str, tuple[str, ...]]) -> None:
    with Inside(tmp_path, per_lane=1) as inside:
        # Given one delivery in the store, one in flight, one in its lane, and one behind the command
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.driver.answer("d1", 500)
        inside.append(delivery("d2"), delivery("d3"))
        inside.wait_started("d2")
        inside.wait(inside.rows, what="a row")
        inside.order("cancel", **chosen)
        inside.append(delivery("late"))
        inside.wait(lambda: not inside.rows(), what="the row to go")

        # When the one in flight fails
        inside.driver.answer("d2", 500)

        # Then all three are over without a letter, and the later one is delivered
        inside.wait_started("late")
        inside.driver.answer("late", 200)
        inside.settled()
        assert inside.rows() == []
        assert inside.letters() == []
        assert inside.driver.started == [("d1", 1), ("d2", 1), ("late", 1)]
        assert cancelled(inside) == 3
        assert inside.commit() == 4


def test_a_cancelled_delivery_that_arrives_all_the_same_is_delivered(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.order("cancel", ids=("d1",))
        inside.wait(lambda: inside.home.tracker.window == 2, what="the command to be read")
        inside.turns()

        # The command is complete only when what it means has come to its end
        assert inside.home.tracker.incomplete == 2
        inside.driver.answer("d1", 200)
        inside.settled()
        assert inside.counters.family(metrics.DELIVERIES)["delivered"].value == 1
        assert cancelled(inside) == 0


def test_a_command_is_complete_only_once_its_writes_are_durable(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.driver.answer("d1", 500)
        inside.settled()
        inside.order("cancel", subs=("s1",))
        with inside.busy_file():
            inside.wait(lambda: inside.home.tracker.incomplete, what="the command to be read")
            inside.turns()
            assert inside.home.tracker.watermark == 1
        inside.settled()
        assert inside.home.tracker.watermark == 2
        assert inside.rows() == []


@pytest.mark.parametrize("chosen", BY)
def test_retry_makes_rows_due_now(tmp_path: Path, chosen: dict[str, tuple[str, ...]]) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.driver.answer("d1", 500)
        inside.settled()
        inside.order("retry", **chosen)
        inside.wait_started("d1")
        assert inside.driver.started == [("d1", 1), ("d1", 2)]
        inside.driver.answer("d1", 200)
        inside.settled()
        inside.wait(lambda: not inside.rows(), what="the row to go")


def test_retry_of_more_rows_than_one_page(tmp_path: Path) -> None:
    with Inside(tmp_path, per_lane=2000) as inside:
        # Given more rows than are read at a time
        names = [f"d{number:04}" for number in range(1201)]
        inside.append(*(delivery(name, not_before=inside.clock.now() + 3600) for name in names))
        inside.settled()
        assert len(inside.rows()) == 1201

        # When all are to be retried, then each has exactly one attempt
        inside.order("retry", subs=("s1",))
        inside.wait_started(*names)
        inside.settled()
        assert sorted(inside.driver.started) == [(name, 1) for name in names]


def test_retry_tries_nothing_whose_secrets_are_unknown(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1", lookup=True))
        inside.wait(inside.rows, what="a row")
        inside.order("retry", ids=("d1",))
        inside.wait(lambda: inside.commit() == 2, what="the command to be applied")
        inside.turns()
        assert inside.driver.started == []
        assert inside.rows()[0].due_at is None


def test_disable_and_enable_act_on_what_comes_behind_them(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.order("disable", subs=("s1",))
        inside.append(delivery("d1", sub="s1"), delivery("d2", sub="s2"))
        inside.wait_started("d2")
        inside.driver.answer("d2", 200)
        inside.settled()
        assert [letter.reason for letter in inside.letters()] == [Death.DISABLED]

        # What is replayed right behind an enable meets an enabled endpoint
        inside.order("enable", subs=("s1",))
        inside.append(delivery("d3", sub="s1"))
        inside.wait_started("d3")


def test_what_is_in_flight_when_its_endpoint_is_disabled_ends_as_disabled(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("bad"), delivery("good"))
        inside.wait_started("bad", "good")
        inside.order("disable", subs=("s1",))
        inside.wait(lambda: inside.home.disabled("s1"), what="the command to be applied")
        inside.driver.answer("bad", 500)
        inside.driver.answer("good", 200)
        inside.settled()
        assert [letter.reason for letter in inside.letters()] == [Death.DISABLED]
        assert inside.rows() == []


def test_a_command_read_again_after_a_crash_is_not_applied_over_a_later_one(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given a disable and an enable behind it, both applied, and a crash before either was committed
        inside.append(delivery("open"))
        inside.wait_started("open")
        inside.order("disable", subs=("s1",))
        inside.order("enable", subs=("s1",))
        inside.wait(
            lambda: inside.home.tracker.window == 3 and inside.home.tracker.incomplete == 1, what="both"
        )
        inside.crash()

    with Inside(tmp_path) as again:
        # When they are read again, then the endpoint is still enabled
        again.wait_started("open")
        again.wait(lambda: again.home.tracker.window == 3, what="the commands to be read again")
        again.turns()
        assert not again.home.disabled("s1")
