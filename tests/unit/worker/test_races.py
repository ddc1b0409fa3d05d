"""Commands, rows and epochs under bad timing: late writes, failing reads, several orders, a partition that
comes back.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from producer.config import Settings, load
from producer.errors import LogUnavailable, LogUnusable
from producer.model import Command, Life
from tests.support.deliveries import delivery
from tests.support.hub import wait_on_hub
from tests.support.inside import MAX_AGE_S, Inside
from thorn_worker.log.contract import Consent
from thorn_worker.offsets import Progress, Tracker
from thorn_worker.outcome import Death
from thorn_worker.partitions import _joined
from thorn_worker.store.contract import Due, Pending, Selection
from thorn_worker.work import LATE_WRITE_S, DueHosts
from thorn_worker.worker import TROUBLE_WAIT_S, Worker

#: Longer than the first step of the schedule with all its jitter.
LONG_S = 70.0

SUB = "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"
SECRET = "whsec_c2VjcmV0LXRoYXQtaXMtbG9uZy1lbm91Z2g="


def _failed_once(inside: Inside, *names: str) -> None:
    """These deliveries become rows that are due in about a minute."""
    inside.append(*(delivery(name) for name in names))
    inside.wait_started(*names)
    for name in names:
        inside.driver.answer(name, 500)
    inside.settled()


def _lose_and_regain(inside: Inside) -> None:
    """The partition goes to another worker, which does nothing, and comes back."""
    before = inside.home
    with Inside(inside.path.parent, ttl_s=0.5) as other:
        other.dispatcher.stop()
        wait_on_hub(
            lambda: inside.reader.poll(0.01) == [] and not inside.partitions.all(), what="the loss to be seen"
        )
    inside.wait(lambda: inside.partitions.all() and inside.home is not before, what="the partition to return")


# -- commands --------------------------------------------------------------------------------------


def test_every_command_that_cancels_a_delivery_in_flight_completes(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given two commands that mean the same attempt under way
        inside.append(delivery("d1"))
        inside.wait_started("d1")
        inside.order("cancel", ids=("d1",))
        inside.order("cancel", subs=("s1",))
        inside.wait(lambda: inside.home.tracker.window == 3, what="both commands to be read")
        inside.turns()

        # When it fails, then both are complete
        inside.driver.answer("d1", 500)
        inside.settled()
        assert inside.commit() == 3
        assert inside.rows() == []


def test_a_command_whose_rows_cannot_be_read_is_applied_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Inside(tmp_path) as inside:
        _failed_once(inside, "d1", "d2")
        select, failures = inside.store.select, ["once"]

        def flaky(partition: int, selection: Selection, limit: int, after: Life | None) -> Sequence[Pending]:
            if failures:
                raise LogUnavailable(f"not just now: {failures.pop()}")
            return select(partition, selection, limit, after)

        monkeypatch.setattr(inside.store, "select", flaky)
        monkeypatch.setattr("thorn_worker.orders.AGAIN_S", 0.05)

        # When the first of two commands meets a failing read, then both are applied and complete
        inside.order("cancel", ids=("d1",))
        inside.order("cancel", ids=("d2",))
        inside.wait(lambda: inside.home.tracker.watermark == 3, what="the commands to be complete")
        assert inside.rows() == []
        assert inside.home.watchers == {}


def test_a_cancelled_row_is_not_tried_while_its_removal_is_late(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        _failed_once(inside, "d1")
        with inside.busy_file():
            # Given a cancelled row that the file still holds, and that falls due
            home = inside.home
            orders = inside.intake._orders
            home.tracker.read(1, 1)
            orders.take(home, 1, Command(op="cancel", ids=("d1",)))
            inside.wait(lambda: home.works, what="the row to be hidden")
            orders.take(home, 1, Command(op="retry", ids=("d1",)))
            inside.hands.wait(LONG_S)
            inside.turns()
            assert inside.driver.in_flight == []

        # Then it is gone once the file takes the removal, and stays so
        inside.wait(lambda: not inside.rows() and not home.works, what="the row to go")
        inside.turns()
        assert inside.driver.started == [("d1", 1)]


def test_a_cancel_ends_an_attempt_of_an_older_epoch_too(tmp_path: Path) -> None:
    with Inside(tmp_path, ttl_s=0.5) as inside:
        # Given a row whose attempt, begun in an older epoch, is under way
        _failed_once(inside, "d1")
        inside.hands.wait(LONG_S)
        inside.wait_started("d1")
        inside.commit()
        _lose_and_regain(inside)
        inside.wait(lambda: inside.home.works, what="the attempt to be adopted")

        # When it is cancelled and fails, then the row is gone and the command complete
        inside.order("cancel", ids=("d1",))
        inside.wait(lambda: inside.home.tracker.window == 1, what="the command to be read")
        inside.turns()
        inside.driver.answer("d1", 500)
        inside.settled()
        inside.wait(lambda: not inside.rows(), what="the row to go")
        assert inside.commit() == 2


def test_a_cancel_during_a_look_up_leaves_no_row(tmp_path: Path) -> None:
    asked, answer = Event(), Event()

    def secrets_of(sub: str) -> None:
        asked.set()
        answer.wait()

    with Inside(tmp_path, secrets_of=secrets_of) as inside:
        # Given a delivery whose subscription is being looked up
        inside.append(delivery("d1", lookup=True))
        inside.wait(asked.is_set, what="the look-up")

        # When it is cancelled meanwhile, and nobody knows the subscription
        inside.order("cancel", ids=("d1",))
        inside.wait(lambda: inside.home.tracker.window == 2, what="the command to be read")
        inside.turns()
        answer.set()

        # Then it is over, not stored
        inside.settled()
        assert inside.rows() == []
        assert inside.commit() == 2


# -- rows ------------------------------------------------------------------------------------------


def test_a_row_that_lands_after_its_subscription_became_known_is_loaded(tmp_path: Path) -> None:
    known: list[str] = []
    with Inside(tmp_path, secrets_of=lambda _: known or None) as inside:
        inside.append(delivery("d1", sub=SUB, lookup=True))
        with inside.busy_file():
            # Given an unresolved row that is not written yet when its subscription becomes known and its rows
            # are loaded
            home = inside.home
            inside.wait(lambda: home.unresolved, what="the row to be on its way")
            home.unresolved.clear()

        # When it lands, then it is asked for again, and loaded
        inside.settled()
        known.append(SECRET)
        inside.hands.wait(31.0)
        inside.reload.look_up([home])
        inside.wait_started("d1")
        inside.driver.answer("d1", 200)
        inside.wait(lambda: not inside.rows(), what="the row to go")


def test_no_row_is_loaded_while_writes_are_late(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given a row that is due, and an outcome that the file does not take
        _failed_once(inside, "d1")
        inside.append(delivery("d2"))
        inside.wait_started("d2")
        with inside.busy_file():
            inside.driver.answer("d2", 500)
            inside.hands.wait(LONG_S + LATE_WRITE_S)
            inside.turns()
            assert inside.driver.in_flight == []

        # When the file takes writes again, then it is
        inside.wait(lambda: "d1" in inside.driver.in_flight, what="the row to be loaded")


def test_a_host_whose_rows_could_not_be_read_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Inside(tmp_path) as inside:
        _failed_once(inside, "d1")
        inside.hands.wait(LONG_S)
        due = inside.store.due

        def failing(partition: int, host: str, now: float, limit: int, loaded: Collection[Life]) -> Due:
            raise LogUnavailable("not just now")

        monkeypatch.setattr(inside.store, "due", failing)
        with pytest.raises(LogUnavailable):
            inside.reload.due(inside.partitions.all())
        monkeypatch.setattr(inside.store, "due", due)
        inside.wait_started("d1")


def test_a_host_that_fails_again_and_again_leaves_nothing_behind_in_the_heap() -> None:
    # Given rows due in ten hours, and a host that is looked at every five seconds until then
    hosts = DueHosts({"h": 36_000.0})
    for now in range(0, 35_000, 5):
        hosts.note("h", now + 5.0)
        for host in hosts.ready(now + 5.0):
            hosts.note(host, 36_000.0)
    assert len(hosts._heap) < 100
    assert list(hosts.ready(36_000.0)) == ["h"]


def test_what_is_held_beyond_its_life_ends_at_its_age(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        inside.append(delivery("d1", not_before=inside.clock.now() + 10 * MAX_AGE_S))
        inside.settled()
        inside.hands.wait(MAX_AGE_S + 1.0)
        inside.wait(lambda: not inside.rows(), what="the row to end")
        assert [letter.reason for letter in inside.letters()] == [Death.EXPIRED]
        assert inside.driver.started == []


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_nothing_expires_because_the_clock_was_set(tmp_path: Path, step_s: float) -> None:
    with Inside(tmp_path) as inside:
        # Given a clock that was set after the worker's start, and an event that is good for two minutes by it
        inside.hands.step(step_s)
        inside.append(delivery("d1", expires_at=inside.clock.wall() + 120.0))

        # When its first attempt fails, then there is another one
        inside.wait_started("d1")
        inside.driver.answer("d1", 500)
        inside.settled()
        inside.hands.wait(LONG_S)
        inside.wait_started("d1")
        assert inside.letters() == []


# -- epochs ----------------------------------------------------------------------------------------


def test_what_was_delivered_before_a_loss_is_not_sent_again_when_the_partition_returns(
    tmp_path: Path,
) -> None:
    with Inside(tmp_path, ttl_s=0.5) as inside:
        # Given deliveries of which one is open, one was delivered and not committed, and half of a record was
        inside.append(delivery("open"))
        inside.append(delivery("done"))
        inside.append(delivery("left"), delivery("right"))
        inside.wait_started("open", "done", "left", "right")
        inside.driver.answer("done", 200)
        inside.driver.answer("left", 200)

        # When the partition goes and returns
        _lose_and_regain(inside)
        inside.wait(lambda: inside.home.tracker.window == 3, what="the records to be read again")
        inside.turns()
        assert sorted(inside.driver.started) == [("done", 1), ("left", 1), ("open", 1), ("right", 1)]

        # Then what is open ends, and all is complete
        inside.driver.answer("open", 200)
        inside.driver.answer("right", 200)
        inside.settled()
        assert inside.commit() == 3


@pytest.mark.parametrize("stored", [False, True])
def test_what_is_delivered_while_the_partition_is_away_is_not_sent_again(
    tmp_path: Path, stored: bool
) -> None:
    with Inside(tmp_path, ttl_s=0.5) as inside:
        # Given an attempt of a record, or of a row, that ends well when its partition is lost
        if stored:
            _failed_once(inside, "d1")
            inside.commit()
            inside.hands.wait(LONG_S)
        else:
            inside.append(delivery("d1"))
        inside.wait_started("d1")
        started = list(inside.driver.started)
        home = inside.home
        with Inside(tmp_path, ttl_s=0.5) as other:
            other.dispatcher.stop()
            wait_on_hub(lambda: inside.reader.poll(0.01) == [] and not home.alive, what="the loss to be seen")
            inside.driver.answer("d1", 200)

        # When it returns, then nothing is sent, and nothing is owed
        inside.wait(lambda: inside.partitions.all(), what="the partition to return")
        inside.wait(
            lambda: inside.home.tracker.watermark == 1 and not inside.rows(), what="the delivery to be over"
        )
        inside.turns()
        assert inside.driver.started == started


# -- the worker's loops ----------------------------------------------------------------------------


def _settings(tmp_path: Path) -> Settings:
    return load({"log": f"sqlite:///{tmp_path}/log.db", "admin": "127.0.0.1:0"}, {}).settings


def test_a_log_that_is_silent_for_a_moment_does_not_stop_the_worker() -> None:
    def silent() -> None:
        raise LogUnavailable("not just now")

    def damaged() -> None:
        raise LogUnusable("damaged")

    Worker._patiently(silent)
    with pytest.raises(LogUnusable):
        Worker._patiently(damaged)


def test_lasting_trouble_of_our_own_machine_does_not_silence_the_reader(tmp_path: Path) -> None:
    worker = Worker(_settings(tmp_path), Consent())
    try:
        worker._partitions = worker._parts.partitions(worker._parts.reader.open(), worker._restored)
        worker._parts.reader.join(worker._partitions)
        worker._parts.dispatcher.troubled = True
        with gevent.Timeout(TROUBLE_WAIT_S + 5.0):
            worker._read()
    finally:
        worker._parts.reader.close()
        worker._parts.close()


def test_the_example_of_what_an_earlier_epoch_saw_done() -> None:
    left = Tracker(7)
    for offset in (7, 8, 9, 10):
        left.read(offset, 1)
    for offset in (7, 8, 10):
        left.complete(offset, 0)
    assert left.watermark == 9
    assert _joined(Progress(), left, 7).complete == 0b1011
    # And from a later commit of another worker on, only what lies above counts
    assert _joined(Progress(), left, 10).complete == 0b1
    assert _joined(Progress(), left, 12).complete == 0
