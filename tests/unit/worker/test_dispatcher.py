"""Attempts and what they lead to, on a real log and store; the outcomes are told by the test."""

from pathlib import Path

import gevent
import pytest

from producer.model import Life
from tests.support.deliveries import delivery
from tests.support.inside import SCHEDULE_S, Inside
from thorn_worker import metrics
from thorn_worker.outcome import Death, Outcome, Phase
from thorn_worker.store.contract import NOT_BEFORE


def test_a_delivery_is_complete_when_it_was_delivered(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given a record with two deliveries, both in flight
        inside.append(delivery("d1"), delivery("d2"))
        inside.wait_started("d1", "d2")

        # When one is delivered, then the record is not complete; when both are, it is
        inside.driver.answer("d1", 200)
        assert inside.commit() == 0
        inside.driver.answer("d2", 204)
        assert inside.commit() == 1
        assert inside.rows() == []
        assert inside.home.works == {}


@pytest.mark.parametrize("status", [500, 410])
def test_a_failure_is_complete_only_once_its_successor_is_durable(tmp_path: Path, status: int) -> None:
    with Inside(tmp_path) as inside:
        # Given a delivery in flight, and a file that takes no writes just now
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        with inside.busy_file():
            # When the attempt fails, then its offset stays incomplete while its successor is not acknowledged
            inside.driver.answer("d1", status)
            gevent.sleep(0.1)
            assert inside.home.tracker.watermark == 0
            assert inside.home.tracker.incomplete == 1

        # When the file takes writes again, then it is complete
        inside.settled()
        assert inside.commit() == 1
        assert len(inside.rows() if status == 500 else inside.letters()) == 1


def test_each_failure_spends_a_step_and_the_last_one_buries(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1"))
        for number, delay_s in enumerate((*SCHEDULE_S, None), 1):
            inside.wait_started("d1")
            inside.driver.answer("d1", 500)
            inside.settled()
            if delay_s is not None:
                (row,) = inside.rows()
                assert (row.reason, row.delivery.attempts, len(row.history)) == ("failed", number, number)
                inside.hands.wait(delay_s * 1.1 + 0.1)
        (letter,) = inside.letters()
        assert (letter.reason, len(letter.history)) == (Death.EXHAUSTED, 3)
        assert letter.delivery is not None
        assert letter.delivery.attempts == 3
        assert inside.rows() == []


def test_a_delivered_retry_removes_its_row(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.driver.answer("d1", 503, retry_after_s=90.0)
        inside.settled()
        (row,) = inside.rows()
        assert row.reason == "throttled"
        inside.hands.wait(85.0)
        inside.turns()
        assert inside.driver.in_flight == []  # the step says 60 s, the receiver 90
        inside.hands.wait(6.0)
        inside.wait_started("d1")
        inside.driver.answer("d1", 200)
        inside.wait(lambda: not inside.rows(), what="the row to go")
        assert inside.home.works == {}


def test_a_forbidden_address_is_buried_and_a_lying_name_is_tried_again(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("literal"), delivery("name"))
        inside.wait_started("literal", "name")
        inside.driver.fail("literal", Outcome.BLOCKED, Phase.GUARD)
        inside.driver.fail("name", Outcome.BLOCKED, Phase.DNS)
        inside.settled()
        assert [letter.reason for letter in inside.letters()] == [Death.BLOCKED]
        assert [row.reason for row in inside.rows()] == ["blocked"]


def test_local_trouble_goes_first_again_and_slows_intake(tmp_path: Path) -> None:
    with Inside(tmp_path, per_lane=1) as inside:
        # Given one attempt at a time
        inside.append(delivery("d1"), delivery("d2"), delivery("d3"))
        inside.wait_started("d1")

        # When our own machine fails it
        inside.driver.trouble("d1")

        # Then it is nobody's failure: no row, no step spent, and nothing starts for a moment
        assert inside.dispatcher.troubled
        inside.turns()
        assert inside.driver.in_flight == []
        assert inside.rows() == []
        assert inside.counters.counter(metrics.LOCAL_ERRORS).value == 1
        assert inside.counters.family(metrics.ATTEMPTS)[Outcome.FAILED].value == 0

        # And it stands ahead of the rest, as the same attempt
        inside.wait_started("d1")
        assert inside.driver.started == [("d1", 1), ("d1", 1)]
        assert not inside.dispatcher.troubled


def test_trouble_of_a_cancelled_delivery_ends_it(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.order("cancel", ids=("d1",))
        inside.wait(lambda: inside.home.tracker.window == 2, what="the command to be read")
        inside.turns()
        inside.driver.trouble("d1")
        inside.settled()
        assert inside.driver.started == [("d1", 1)]


def test_nothing_that_finishes_in_a_lost_epoch_changes_anything(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given two deliveries in flight and one in its lane
        inside.append(delivery("d1"), delivery("d2"))
        inside.wait_started("d1", "d2")
        home = inside.home

        # When the partition is lost, and they fail or succeed afterwards
        inside.dispatcher.forget(home)
        inside.driver.answer("d1", 500)
        inside.driver.answer("d2", 200)
        gevent.sleep(0.1)

        # Then nothing is written and nothing completes
        assert inside.rows() == []
        assert home.tracker.watermark == 0
        assert home.tracker.incomplete == 1
        assert inside.lanes.in_flight == 0


def test_an_attempt_of_an_older_epoch_counts_for_the_new_one(tmp_path: Path) -> None:
    first = Inside(tmp_path)
    with first as inside:
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        # Given the partition went and came back while the attempt was under way
        home = inside.home
        life = Life(home.topic_id, 0, 0, 0)
        new = type(home)(
            partition=0,
            epoch=home.epoch,
            topic_id=home.topic_id,
            tracker=type(home.tracker)(0),
            committed=0,
            restoring=False,
        )
        inside.dispatcher.forget(home)
        new.tracker.read(0, 1)

        # When its record is read again, then it is not sent twice, and its outcome counts
        assert inside.dispatcher.adopt(life, new, stored=False)
        assert inside.dispatcher.is_in_flight(life)
        inside.driver.answer("d1", 200)
        assert new.tracker.watermark == 1
        assert new.works == {}
        assert not inside.dispatcher.adopt(life, new, stored=False)


def test_a_row_stands_against_a_failure_of_an_older_epoch(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given a row whose attempt, begun in an older epoch, is still under way
        inside.append(delivery("d1", not_before=inside.clock.now() + 60))
        inside.settled()
        inside.hands.wait(61)
        inside.wait_started("d1")
        home = inside.home
        (work,) = home.works.values()
        work.home = old = type(home)(
            partition=0,
            epoch=0,
            topic_id=home.topic_id,
            tracker=type(home.tracker)(0),
            committed=0,
            alive=False,
        )
        del home.works[work.life]
        assert old.works == {}
        assert inside.dispatcher.adopt(work.life, home, stored=True)

        # When it fails, then the row is as it was, due now
        inside.driver.answer("d1", 500)
        (row,) = inside.rows()
        assert (row.reason, row.delivery.attempts) == (NOT_BEFORE, 0)
        inside.wait_started("d1")


def test_gone_disables_what_comes_later_also_after_a_restart(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1", sub="s1"))
        inside.wait_started("d1")
        inside.driver.answer("d1", 410)
        inside.append(delivery("d2", sub="s1"), delivery("d3", sub="s2"))
        inside.wait_started("d3")
        inside.driver.answer("d3", 200)
        inside.settled()
        assert [letter.reason for letter in inside.letters()] == [Death.GONE, Death.DISABLED]
        assert inside.commit() == 2
    with Inside(tmp_path) as again:
        again.append(delivery("d4", sub="s1"))
        again.settled()
        assert again.driver.started == []
        assert [letter.reason for letter in again.letters()] == [Death.GONE, Death.DISABLED, Death.DISABLED]


def test_what_waits_in_memory_past_its_end_is_not_sent(tmp_path: Path) -> None:
    with Inside(tmp_path, per_lane=1) as inside:
        inside.append(delivery("d1"), delivery("d2", expires_at=inside.clock.now() + 10))
        inside.wait_started("d1")
        inside.hands.wait(11)
        inside.driver.answer("d1", 200)
        inside.settled()
        assert [letter.reason for letter in inside.letters()] == [Death.EXPIRED]
        assert inside.driver.started == [("d1", 1)]


def test_a_header_that_cannot_be_sent_is_no_failure_of_the_host(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("bad", event="line\r\nbreak"), delivery("good"))
        inside.wait_started("good")
        inside.driver.answer("good", 200)
        inside.settled()
        assert [letter.reason for letter in inside.letters()] == [Death.MALFORMED]
        assert inside.lanes.in_flight == 0
