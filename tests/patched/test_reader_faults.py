"""The reading half when brokers, topics, records or other workers do what they should not."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest

from deploy.kafka import Cluster
from producer.errors import LogUnusable
from tests.contract.reader import PARTITIONS, Worker, owns_all, until
from tests.support.kafka_reader_world import SESSION_S, KafkaReaderWorld
from tests.support.kafka_workers import alone, kafka_of, newcomer, polling, request
from thorn_worker.log.contract import Consent
from thorn_worker.log.kafka_topics import grow_topics
from thorn_worker.offsets import Progress

pytestmark = pytest.mark.kafka

EVERYTHING = tuple(range(PARTITIONS))


@pytest.fixture
def world(broker: Cluster, prefix: str, tmp_path: Path) -> Iterator[KafkaReaderWorld]:
    world = KafkaReaderWorld(broker.bootstrap, prefix, tmp_path)
    yield world
    world.close()


def progress(worker: Worker) -> str:
    """Metadata as the worker commits it."""
    topics = kafka_of(worker).topics
    return Progress(topics.deliveries_id, topics.state_id).encode()


# -- brokers -------------------------------------------------------------------------------------------


def test_a_broker_that_was_killed_is_waited_for_and_nothing_is_lost_or_read_twice(
    broker: Cluster, world: KafkaReaderWorld
) -> None:
    worker = alone(world)
    world.append(0, b"1")
    until("the record", world, worker, holds=lambda: worker.offsets(0) == [0])
    assert worker.commit()[0]

    broker.kill(1)
    for _ in range(10):
        assert worker.poll(0.1) == []
    assert worker.commit()[0] is False
    assert worker.reader.errors > 0
    broker.up(1)
    world.append(0, b"2")

    until("the next record", world, worker, holds=lambda: 1 in worker.offsets(0))
    assert worker.offsets(0) == [0, 1]
    until("a commit", world, worker, holds=lambda: worker.commit().get(0))


def test_rule_11_a_broker_that_stands_still_is_said_to_and_confirms_nothing(
    broker: Cluster, world: KafkaReaderWorld
) -> None:
    worker = alone(world)
    broker.freeze(1)
    until("an unconfirmed worker", world, worker, holds=lambda: not worker.reader.confirmed())
    assert "has not confirmed for a whole session" in str(worker.reader.trouble)
    until("silence", world, worker, holds=lambda: "has not answered for" in str(worker.reader.trouble))
    silent_s = kafka_of(worker).stats.silent_s
    assert silent_s is not None
    assert silent_s > SESSION_S

    broker.thaw(1)

    until("all of it again", world, worker, holds=lambda: owns_all(worker) and worker.reader.confirmed())
    assert worker.reader.trouble is None
    world.append(0, b"1")
    until("the record", world, worker, holds=lambda: worker.offsets(0) == [0])


def test_closing_is_bounded_while_the_broker_is_away(broker: Cluster, world: KafkaReaderWorld) -> None:
    worker = alone(world)
    broker.freeze(1)
    with gevent.Timeout(12.0, AssertionError("closing took too long")):
        worker.commit_when_revoked = True
        worker.reader.close()
    assert worker.events[-1] == ("revoked", EVERYTHING)


# -- topics --------------------------------------------------------------------------------------------


def test_a_topic_made_anew_while_it_is_read_ends_the_worker_and_then_stands_until_it_is_accepted(
    world: KafkaReaderWorld,
) -> None:
    # Given a worker that has committed
    worker = alone(world)
    world.append(0, b"1", b"2", b"3")
    until("3 records", world, worker, holds=lambda: len(worker.records) == 3)
    metadata = progress(worker)
    assert worker.commit(metadata)[0]

    # When the topic is made anew and gets records, and the worker, not knowing, commits what it did
    world.make_anew(world.options.deliveries)
    world.append(0, b"new")
    assert worker.commit(metadata)[0]

    # Then the worker ends with a sentence
    with pytest.raises(LogUnusable, match=r"topic .*\.deliveries was made anew"):
        until("the end", world, worker, holds=lambda: False)
    worker.reader.close()

    # and the next one stands, naming what to do, and reads nothing
    heir = alone(world)
    assert "`thorn-worker run --accept-new-log`" in str(heir.owned[0].trouble)
    heir.reader.resume(0)
    for _ in range(10):
        assert heir.poll(0.1) == []
    heir.reader.close()

    # until that is done: then it begins at the first record
    bold = alone(world, consent=Consent(new_log=True))
    assert (bold.owned[0].committed, bold.owned[0].trouble) == (0, None)
    until("the new record", world, bold, holds=lambda: [r.value for r in bold.records] == [b"new"])
    assert all(bold.commit(progress(bold)).values())
    bold.reader.close()

    # and from then on all is well
    last = alone(world)
    assert (last.owned[0].committed, last.owned[0].trouble) == (1, None)


def test_a_state_topic_made_anew_is_noticed_and_stands_until_its_loss_is_accepted(
    world: KafkaReaderWorld,
) -> None:
    worker = alone(world)
    world.append(0, b"1", b"2")
    until("2 records", world, worker, holds=lambda: len(worker.records) == 2)
    assert worker.commit(progress(worker))[0]
    world.make_anew(world.options.state)
    with pytest.raises(LogUnusable, match=r"topic .*\.state was made anew"):
        until("the end", world, worker, holds=lambda: False)
    worker.reader.close()

    heir = alone(world)
    assert "`thorn-worker run --accept-lost-state`" in str(heir.owned[0].trouble)
    heir.reader.close()

    bold = alone(world, consent=Consent(lost_state=True))
    assert (bold.owned[0].committed, bold.owned[0].trouble) == (2, None)


def test_a_topic_that_was_deleted_ends_the_worker_with_a_sentence(world: KafkaReaderWorld) -> None:
    worker = alone(world)
    world.delete_topics(world.options.deliveries)
    with pytest.raises(LogUnusable, match=r"topic .*\.deliveries is gone"):
        until("the end", world, worker, holds=lambda: False)
    with pytest.raises(LogUnusable, match="topics create"):
        world.reader().open()


def test_partitions_that_are_added_are_read_and_those_there_were_are_kept(world: KafkaReaderWorld) -> None:
    worker = alone(world)
    grow_topics(world.options, PARTITIONS + 2)
    until("6 partitions", world, worker, holds=lambda: len(worker.owned) == PARTITIONS + 2)
    assert worker.events == [("assigned", EVERYTHING), ("assigned", (PARTITIONS, PARTITIONS + 1))]
    world.append(PARTITIONS + 1, b"1")
    until("the record", world, worker, holds=lambda: worker.offsets(PARTITIONS + 1) == [0])


# -- offsets -------------------------------------------------------------------------------------------


def test_records_deleted_before_they_were_read_are_counted_and_reading_goes_on(
    world: KafkaReaderWorld, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a worker that has committed 1 of 6 records
    worker = alone(world)
    world.append(0, *[b"x"] * 6)
    until("6 records", world, worker, holds=lambda: len(worker.records) == 6)
    assert worker.reader.commit([request(worker, 0, 1)]) == {0: True}
    worker.reader.close()

    # When retention deletes 4 before the next worker comes
    world.delete_before(0, 4)
    heir = alone(world)

    # Then it goes on where the log begins, and says how many are gone
    assert heir.owned[0].committed == 4
    until("the rest", world, heir, holds=lambda: heir.offsets(0) == [4, 5])
    assert kafka_of(heir).stats.lost_offsets == 3
    assert "3 offsets of partition 0 were deleted" in caplog.text


def test_records_deleted_while_they_are_about_to_be_read_begin_a_new_epoch(world: KafkaReaderWorld) -> None:
    # Given a worker that holds partition 0 back and has committed 1 of it
    worker = alone(world)
    world.append(0, b"1")
    until("the record", world, worker, holds=lambda: worker.offsets(0) == [0])
    worker.commit_when_revoked = True
    epoch = worker.owned[0].epoch
    worker.reader.pause(0)
    world.append(0, *[b"x"] * 6)

    # When what it would read next is deleted, and it reads on
    world.delete_before(0, 5)
    worker.reader.resume(0)

    # Then it is told so as by a rebalance of that partition alone, and goes on where the log begins
    until("the rest", world, worker, holds=lambda: worker.offsets(0) == [0, 5, 6])
    assert worker.events == [("assigned", EVERYTHING), ("revoked", (0,)), ("assigned", (0,))]
    assert worker.owned[0].epoch > epoch
    assert worker.owned[0].committed == 5
    assert kafka_of(worker).stats.lost_offsets == 4


def test_a_commit_beyond_the_end_stands_and_the_others_are_read(world: KafkaReaderWorld) -> None:
    worker = alone(world)
    assert worker.reader.commit([request(worker, 0, 50)]) == {0: True}
    worker.reader.close()
    world.append(0, b"1")
    world.append(1, b"1")

    heir = alone(world)

    assert "now ends at offset 1" in str(heir.owned[0].trouble)
    until("the other partition", world, heir, holds=lambda: heir.offsets(1) == [0])
    assert heir.offsets(0) == []


# -- other workers -------------------------------------------------------------------------------------


def test_partitions_that_are_kept_are_read_all_through_a_rebalance(world: KafkaReaderWorld) -> None:
    first = alone(world)
    stop = False

    def write() -> None:
        while not stop:
            for partition in EVERYTHING:
                world.append(partition, b"x")

    writing = gevent.spawn(write)
    second = newcomer(world)
    with polling(second):
        until("two each", world, first, holds=lambda: len(first.owned) == len(second.owned) == 2)
    stop = True
    writing.join()

    kept = sorted(first.owned)
    (revoked,) = [partitions for what, partitions in first.events if what == "revoked"]
    assert sorted([*kept, *revoked]) == list(EVERYTHING)
    ends = first.reader.end_offsets(kept)
    for partition in kept:
        until("all of it", world, first, holds=lambda p=partition: len(first.offsets(p)) == ends[p])  # type: ignore[misc]
        assert first.offsets(partition) == list(range(ends[partition]))


@contextmanager
def program(world: KafkaReaderWorld) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own."""
    command = [sys.executable, *world.program()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], what: str) -> list[int]:
    """The partitions of the next line that begins with `what`."""
    assert process.stdout is not None
    for line in iter(process.stdout.readline, ""):
        if line.startswith(what):
            return [int(word) for word in line.split()[1:]]
    raise AssertionError(f"the worker ended before it said {what!r}")


def test_a_worker_frozen_past_its_session_loses_everything_and_claims_nothing_back(
    world: KafkaReaderWorld,
) -> None:
    # Given a worker in another process that owns everything
    with program(world) as process:
        while said(process, "assigned") != list(EVERYTHING):
            pass

        # When it stands still for longer than its session
        process.send_signal(signal.SIGSTOP)
        heir = alone(world)
        world.append(0, b"1")
        until("the record", world, heir, holds=lambda: heir.offsets(0) == [0])
        heir.commit_when_revoked = True
        process.send_signal(signal.SIGCONT)

        # Then it learns that it lost all, and gets back no more than its share, after the heir let it go
        with polling(heir):
            assert said(process, "lost") == list(EVERYTHING)
            given: list[int] = []
            while len(given) < 2:
                given += said(process, "assigned")
            until("two each", world, holds=lambda: gevent.sleep(0.05) is None and len(heir.owned) == 2)
        assert sorted([*given, *heir.owned]) == list(EVERYTHING)
        (revoked,) = [partitions for what, partitions in heir.events if what == "revoked"]
        assert list(revoked) == sorted(given)
        assert all(what != "lost" for what, _partitions in heir.events)


def test_a_worker_that_was_killed_is_replaced_within_its_session(world: KafkaReaderWorld) -> None:
    with program(world) as process:
        while said(process, "assigned") != list(EVERYTHING):
            pass
        heir = newcomer(world)
        with polling(heir):
            said(process, "revoked")
            process.kill()
            with gevent.Timeout(SESSION_S + 5.0, AssertionError("the partitions did not move")):
                until("all of it", world, holds=lambda: gevent.sleep(0.05) is None and owns_all(heir))
