"""What is read goes to a lane, to the store, or to the dead letters; and never stops its partition."""

from pathlib import Path

import msgpack
import pytest

from producer.wire import encode_batch
from tests.support.deliveries import delivery
from tests.support.inside import Inside
from thorn_worker import metrics
from thorn_worker.intake import SOON_S
from thorn_worker.outcome import Death
from thorn_worker.store.contract import NOT_BEFORE, UNRESOLVED


def unsupported() -> bytes:
    value: bytes = msgpack.packb({"v": 2})
    return value


@pytest.mark.parametrize(
    "value, reason",
    [
        (b"\xc1", Death.MALFORMED),
        (encode_batch([delivery("d1")])[:-3], Death.MALFORMED),
        (unsupported(), Death.UNSUPPORTED),
    ],
)
def test_an_unreadable_record_is_kept_and_the_next_one_delivered(
    tmp_path: Path, value: bytes, reason: Death
) -> None:
    with Inside(tmp_path) as inside:
        inside.append_raw(value)
        inside.append(delivery("next"))
        inside.wait_started("next")
        inside.driver.answer("next", 200)
        inside.settled()
        (letter,) = inside.letters()
        assert (letter.reason, letter.raw, letter.raw_bytes) == (reason, value, len(value))
        assert inside.commit() == 2


def test_an_unreadable_record_is_complete_only_once_its_letter_is_durable(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append_raw(b"\xc1")
        with inside.busy_file():
            inside.wait(lambda: inside.home.tracker.window, what="the record to be read")
            inside.turns()
            assert inside.home.tracker.watermark == 0
        inside.settled()
        assert inside.home.tracker.watermark == 1


@pytest.mark.parametrize("value", [b"", encode_batch([])])
def test_an_empty_record_is_complete_when_read(tmp_path: Path, value: bytes) -> None:
    with Inside(tmp_path) as inside:
        inside.append_raw(value)
        inside.wait(lambda: inside.home.tracker.watermark == 1, what="the record to be read")
        assert inside.counters.counter(metrics.RECORDS_READ).value == 1
        assert inside.commit() == 1


def test_twins_count_by_position(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("twin"), delivery("twin"))
        inside.wait_started("twin", "twin")
        inside.driver.answer("twin", 200)
        assert inside.home.tracker.watermark == 0
        inside.driver.answer("twin", 200)
        assert inside.home.tracker.watermark == 1


def test_what_may_not_start_soon_is_stored_at_once(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given one that is wanted in a minute, and one that is wanted in two seconds
        now = inside.clock.now()
        inside.append(delivery("later", not_before=now + 60), delivery("soon", not_before=now + SOON_S - 3))

        # Then the first is a row, its position complete; the second starts
        inside.wait_started("soon")
        inside.wait(inside.rows, what="a row")
        (row,) = inside.rows()
        assert (row.delivery.id, row.reason, row.due_at) == ("later", NOT_BEFORE, now + 60)

        # And the row comes when it is due, never early
        inside.hands.wait(59)
        inside.turns()
        assert inside.driver.in_flight == ["soon"]
        inside.hands.wait(2)
        inside.wait_started("later", "soon")
        assert ("later", 1) in inside.driver.started


def test_an_unknown_subscription_is_stored_untried(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1", lookup=True, sub="s1"), delivery("d2", sub="s2"))
        inside.wait_started("d2")
        inside.wait(inside.rows, what="a row")
        (row,) = inside.rows()
        assert (row.reason, row.due_at, row.delivery.attempts) == (UNRESOLVED, None, 0)
        assert inside.home.unresolved == {"s1"}


def test_a_life_that_is_a_row_already_is_not_sent_by_its_record(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given a worker that stored a delivery, and died before it committed
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.driver.answer("d1", 500)
        inside.settled()
        rows = inside.rows()
        inside.crash()

    with Inside(tmp_path) as again:
        # When the record is read again, then it is complete without an attempt, and the row stands
        again.wait(lambda: again.home.tracker.watermark == 1, what="the record to be read again")
        again.turns()
        assert again.counters.counter(metrics.RECORDS_READ).value == 1
        assert again.driver.started == []
        assert again.rows() == rows


def test_a_url_that_no_host_can_be_made_of_is_blocked(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("odd", url="ftp://a.example/x"), delivery("fine"))
        inside.wait_started("fine")
        inside.driver.answer("fine", 200)
        inside.settled()
        assert [letter.reason for letter in inside.letters()] == [Death.BLOCKED]
