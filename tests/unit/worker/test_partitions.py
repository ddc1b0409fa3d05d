"""Partitions come, fill up, and go; what an older epoch did counts for nothing."""

from pathlib import Path

import gevent

from tests.support.deliveries import delivery
from tests.support.hub import wait_on_hub
from tests.support.inside import Inside, ScriptedDriver
from thorn_worker import metrics
from thorn_worker.offsets import WINDOW_OFFSETS
from thorn_worker.work import WINDOW_BYTES

BODY_BYTES = 800_000


def test_a_full_window_pauses_and_half_of_it_resumes(tmp_path: Path) -> None:
    with Inside(tmp_path, per_lane=1) as inside:
        # Given more bytes than a window holds, none of them delivered
        count = WINDOW_BYTES // BODY_BYTES + 10
        for number in range(count):
            inside.append(delivery(f"d{number:03}", body=bytes(BODY_BYTES)))
        inside.wait(lambda: inside.home.paused, what="the window to be full")
        inside.turns()
        held = inside.home.tracker.window
        assert held < count
        assert inside.home.tracker.size_bytes < WINDOW_BYTES + 2 * BODY_BYTES

        # When they are delivered, then it reads on only once half of the window is free
        while inside.home.paused:
            assert inside.home.tracker.window == held
            inside.wait(lambda: inside.driver.in_flight, what="an attempt")
            inside.driver.answer(inside.driver.in_flight[0], 200)
            if inside.home.tracker.size_bytes > WINDOW_BYTES / 2:
                inside.turn()
                assert inside.home.paused
            else:
                inside.partitions.resume_roomy()
            held = inside.home.tracker.window
        assert inside.home.tracker.size_bytes <= WINDOW_BYTES / 2
        inside.wait(
            lambda: inside.home.tracker.watermark + inside.home.tracker.window == count, what="the rest"
        )


def test_an_empty_window_takes_one_record_of_any_size(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        assert not inside.home.full(1.0)
        inside.append(delivery("d1", body=bytes(BODY_BYTES)))
        inside.wait_started("d1")
        assert inside.home.full(1.0)


def test_offsets_bound_the_window_too(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        tracker = inside.home.tracker
        for offset in range(WINDOW_OFFSETS - 1):
            tracker.read(offset, 1)
        assert not inside.home.full(WINDOW_BYTES)
        tracker.read(WINDOW_OFFSETS - 1, 1)
        assert inside.home.full(WINDOW_BYTES)
        for offset in range(WINDOW_OFFSETS // 2):
            assert not inside.home.roomy(WINDOW_BYTES)
            tracker.complete(offset, 0)
        assert inside.home.roomy(WINDOW_BYTES)


def test_a_revoked_partition_waits_for_its_flights_and_drops_its_lanes(tmp_path: Path) -> None:
    with Inside(tmp_path, per_lane=1) as inside:
        # Given one delivery in flight and one behind it
        inside.append(delivery("d1"), delivery("d2"))
        inside.wait_started("d1")
        leaving = gevent.spawn(inside.reader.close)
        wait_on_hub(lambda: inside.home.leaving, what="the partition to leave")

        # When the one in flight fails meanwhile
        inside.driver.answer("d1", 500)
        leaving.join(10)

        # Then its row and the commit are durable, and the one behind it was not started
        assert inside.partitions.all() == []
        assert [row.delivery.id for row in inside.rows()] == ["d1"]
        assert inside.driver.started == [("d1", 1)]

    with Inside(tmp_path) as again:
        # And the next owner starts the one that was not, and it alone
        again.wait_started("d2")
        assert again.driver.started == [("d2", 1)]


def test_a_partition_taken_over_is_lost_and_its_late_outcomes_change_nothing(tmp_path: Path) -> None:
    with Inside(tmp_path, ttl_s=0.5) as frozen:
        # Given a worker with two deliveries in flight that is not scheduled for longer than its lease
        frozen.append(delivery("d1"), delivery("d2"))
        frozen.wait_started("d1", "d2")
        home = frozen.home
        with Inside(tmp_path, ttl_s=0.5, driver=ScriptedDriver()) as taker:
            taker.wait_started("d1", "d2")
            assert taker.home.epoch > home.epoch

            # When the outcomes reach the frozen one before it knows, and it tries to commit them
            frozen.driver.answer("d1", 500)
            frozen.driver.answer("d2", 200)
            gevent.sleep(0.1)
            frozen.partitions.commit([home])

            # Then no row and no commit of it exist; it finds out at its next heartbeat
            assert frozen.rows() == []
            assert taker.commit() == 0
            assert frozen.counters.family(metrics.COMMITS)["stored"].value == 0
            frozen.reader.poll(0.2)
            wait_on_hub(
                lambda: frozen.reader.poll(0.01) == [] and not frozen.partitions.all(), what="the loss"
            )
            assert not home.alive

            # And the new owner's outcomes count
            taker.driver.answer("d1", 200)
            taker.driver.answer("d2", 200)
            assert taker.commit() == 1


def test_a_delivery_in_flight_over_a_loss_and_return_is_not_repeated(tmp_path: Path) -> None:
    with Inside(tmp_path, ttl_s=0.5) as inside:
        # Given a delivery in flight while the partition goes to another worker, which does nothing and leaves
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        first = inside.home
        with Inside(tmp_path, ttl_s=0.5) as other:
            other.dispatcher.stop()
        inside.wait(
            lambda: inside.partitions.all() and inside.home is not first, what="the partition to return"
        )

        # When its record is read again, then there is still one attempt, and its success counts
        inside.wait(lambda: inside.home.works, what="the record to be read again")
        inside.turns()
        assert inside.driver.started == [("d1", 1)]
        inside.driver.answer("d1", 200)
        inside.settled()
        assert inside.commit() == 1


def test_nothing_starts_while_a_partition_is_restored(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1", not_before=inside.clock.now() + 60))
        inside.settled()
        inside.hands.wait(61)
        inside.home.restoring = True
        inside.reload.due(inside.partitions.all())
        assert inside.driver.started == []
