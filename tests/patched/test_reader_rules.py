"""What a worker must do because of how kafka-python and Kafka behave: tests by the number of the rule. Rules
1, 9 and 10 are those of writers and the store."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import gevent
import pytest
from gevent import monkey

from deploy.kafka import Cluster
from producer.errors import ConfigurationError, LogUnavailable, LogUnusable
from tests.contract.reader import PARTITIONS, Worker, owns_all, until
from tests.support.kafka_reader_world import SESSION_S, KafkaReaderWorld
from tests.support.kafka_workers import alone, kafka_of, newcomer, polling, request
from thorn_worker.log.contract import Assignment, CommitRequest, Consent
from thorn_worker.log.kafka import Membership
from thorn_worker.offsets import Progress, decode

pytestmark = pytest.mark.kafka

EVERYTHING = tuple(range(PARTITIONS))


@pytest.fixture
def world(broker: Cluster, prefix: str, tmp_path: Path) -> Iterator[KafkaReaderWorld]:
    world = KafkaReaderWorld(broker.bootstrap, prefix, tmp_path)
    yield world
    world.close()


# -- rule 2: commits ---------------------------------------------------------------------------------


def test_rule_2_a_commit_that_is_not_answered_is_not_known_and_none_overtakes_it(
    broker: Cluster, world: KafkaReaderWorld
) -> None:
    # Given a worker whose broker stands still
    worker = alone(world)
    world.append(0, b"1", b"2")
    until("2 records", world, worker, holds=lambda: len(worker.records) == 2)
    broker.freeze(1)
    errors = worker.reader.errors

    # When two commits are made, then nobody can tell of either within a bound, and only the first was sent
    began = time.monotonic()
    first = gevent.spawn(worker.reader.commit, [request(worker, 0, 1, "first")])
    second = gevent.spawn(worker.reader.commit, [request(worker, 0, 2, "second")])
    assert first.get() == {0: False}
    assert second.get() == {0: False}
    assert time.monotonic() - began < 15.0
    assert worker.reader.errors > errors

    # When the broker goes on, then the next commit is stored
    broker.thaw(1)
    stored: dict[int, bool] = {}
    until(
        "a commit",
        world,
        worker,
        holds=lambda: (
            0 in worker.owned
            and stored.update(worker.reader.commit([request(worker, 0, 2, "third")])) is None
            and stored[0]
        ),
    )
    worker.reader.close()
    heir = alone(world)
    assert (heir.owned[0].committed, heir.owned[0].metadata) == (2, "third")


def test_rule_2_metadata_that_the_broker_finds_too_large_is_cut_and_the_offset_stored(
    world: KafkaReaderWorld,
) -> None:
    worker = alone(world)
    topics = kafka_of(worker).topics
    # Given more partly done records than fit
    partials = ",".join(f"{index}.1" for index in range(2, 1000))
    metadata = f"1 {topics.deliveries_id} {topics.state_id} Cg {partials}"
    assert len(metadata) > 4096

    # When it is committed beside another partition's
    stored = worker.reader.commit([request(worker, 0, 0, metadata), request(worker, 1, 0, "short")])

    # Then both offsets are stored, without what is too much
    assert stored == {0: True, 1: True}
    worker.reader.close()
    heir = alone(world)
    assert decode(heir.owned[0].metadata) == Progress(topics.deliveries_id, topics.state_id, 0b1010)


def test_rule_2_a_second_process_with_the_same_worker_id_ends_the_first_with_a_sentence(
    world: KafkaReaderWorld,
) -> None:
    first = alone(world, "pod-1")
    second = alone(world, "pod-1")
    with pytest.raises(LogUnusable, match="THORN_WORKER_ID"):
        until("the end of the first", world, first, holds=lambda: False)
    # and again, in no time: a loop that tries again would spin
    with pytest.raises(LogUnusable, match="THORN_WORKER_ID"):
        first.reader.poll(1.0)
    first.reader.close()
    assert owns_all(second)
    world.append(0, b"1")
    until("the record", world, second, holds=lambda: second.offsets(0) == [0])


# -- rules 3 and 4: revokes --------------------------------------------------------------------------


def test_rule_3_a_partition_is_never_committed_after_its_revoke(world: KafkaReaderWorld) -> None:
    # Given two workers, and a partition that went from the first to the second
    first = alone(world)
    world.append(0, *[b"x"] * 4)
    until("4 records", world, first, holds=lambda: len(first.records) == 4)
    before = dict(first.owned)
    first.commit_when_revoked = True
    second = newcomer(world)
    until("two each", world, first, second, holds=lambda: len(first.owned) == len(second.owned) == 2)
    moved = next(iter(second.owned))
    assert second.reader.commit([request(second, moved, 4, "of the second")]) == {moved: True}

    # When work of the first is done late, then it is told that this does not count
    late = CommitRequest(moved, before[moved].epoch, 1, "of the first")
    assert first.reader.commit([late]) == {moved: False}

    # and what the second has committed stands
    first.reader.close()
    second.reader.close()
    heir = alone(world)
    assert (heir.owned[moved].committed, heir.owned[moved].metadata) == (4, "of the second")


class Patient(Worker):
    """Takes longer to let go than its session lasts."""

    def revoked(self, assignments: Sequence[Assignment]) -> None:
        gevent.sleep(SESSION_S + 1.0)
        super().revoked(assignments)


def test_rule_4_a_revoke_may_take_longer_than_the_session_and_commit(world: KafkaReaderWorld) -> None:
    patient = Patient(*world.member()).start()
    patient.commit_when_revoked = True
    until("all partitions", world, patient, holds=lambda: owns_all(patient))
    for partition in EVERYTHING:
        world.append(partition, b"x")
    until("4 records", world, patient, holds=lambda: len(patient.records) == 4)

    # When somebody else joins, and the worker takes its time
    second = newcomer(world)
    with polling(second):
        until("two each", world, patient, holds=lambda: len(patient.owned) == len(second.owned) == 2)

    # Then it was not evicted, and what it committed in there counts
    assert all(what != "lost" for what, _partitions in patient.events)
    assert {assignment.committed for assignment in second.owned.values()} == {1}
    assert second.records == []


def test_rule_4_an_error_in_a_revoke_surfaces_where_records_are_read(world: KafkaReaderWorld) -> None:
    class Clumsy(Worker):
        def revoked(self, assignments: Sequence[Assignment]) -> None:
            if not self.dropped:
                self.dropped = True
                raise ZeroDivisionError("dropped")
            super().revoked(assignments)

        dropped = False

    clumsy = Clumsy(*world.member()).start()
    until("all partitions", world, clumsy, holds=lambda: owns_all(clumsy))
    second = newcomer(world)
    with polling(second), pytest.raises(ZeroDivisionError, match="dropped"):
        until("the error", world, clumsy, holds=lambda: False)


# -- rule 5: a poll that raised ----------------------------------------------------------------------


def test_rule_5_a_damaged_batch_becomes_one_record_and_the_rest_is_read(
    broker: Cluster, world: KafkaReaderWorld
) -> None:
    # Given a batch whose bytes were changed on the broker's disk
    world.append(0, b"before")
    world.append(0, b"damage me")
    world.append(0, b"after")
    broker.term(1)
    (segment,) = broker.folder.rglob(f"{world.options.deliveries}-0/*.log")
    data = bytearray(segment.read_bytes())
    second = 12 + int.from_bytes(data[8:12], "big")
    third = second + 12 + int.from_bytes(data[second + 8 : second + 12], "big")
    data[third - 1] ^= 0xFF
    segment.write_bytes(data)
    broker.up(1)

    # When the partition is read
    worker = alone(world)
    until("3 records", world, worker, holds=lambda: len(worker.records) == 3)

    # Then the batch stands as one record that says so, and the others are there
    values = [record.value for record in worker.records]
    assert (values[0], values[2]) == (b"before", b"after")
    assert (values[1] or b"").startswith(b"unreadable up to offset 1: CorruptRecordError")
    assert worker.offsets(0) == [0, 1, 2]
    assert kafka_of(worker).stats.unreadable_batches == 1


def test_rule_5_a_client_that_ended_is_replaced_and_nothing_is_lost_or_read_twice(
    world: KafkaReaderWorld,
) -> None:
    worker = alone(world)
    worker.commit_when_revoked = True
    world.append(0, b"1")
    until("the record", world, worker, holds=lambda: worker.offsets(0) == [0])
    assert worker.commit()[0]

    # When its network greenlet is gone
    link = kafka_of(worker)._link
    assert link is not None
    assert link.member is not None
    link.member._consumer._client.close()
    world.append(0, b"2")

    # Then the worker is told that it lost what it had, and gets it again
    until("the next record", world, worker, holds=lambda: worker.offsets(0) == [0, 1])
    assert [what for what, _partitions in worker.events][:2] == ["assigned", "revoked"]
    assert owns_all(worker)
    assert kafka_of(worker).stats.clients_replaced == 1


def test_rule_5_a_join_that_polls_had_no_time_to_finish_is_finished(world: KafkaReaderWorld) -> None:
    # Given a worker that polls for too short a time to join in, and works between its polls
    worker = newcomer(world)
    with gevent.Timeout(world.patience_s, AssertionError("it never joined")):
        while not owns_all(worker):
            worker.poll(0.001)
            gevent.sleep(0.03)
    # Then it has joined, and stays
    for _ in range(int(SESSION_S / 0.1) + 5):
        worker.poll(0.001)
        gevent.sleep(0.1)
    assert owns_all(worker)
    assert worker.reader.confirmed()
    assert worker.events == [("assigned", EVERYTHING)]


# -- rules 6 to 8 ------------------------------------------------------------------------------------


def test_rule_6_nothing_is_confirmed_after_the_process_stood_still_until_it_was_asked(
    world: KafkaReaderWorld,
) -> None:
    worker = alone(world)
    assert worker.reader.confirmed()
    monkey.get_original("time", "sleep")(SESSION_S + 0.5)
    assert not worker.reader.confirmed()
    until("a new confirmation", world, worker, holds=lambda: owns_all(worker) and worker.reader.confirmed())


def test_rule_6_heartbeats_alone_confirm_nothing(world: KafkaReaderWorld) -> None:
    worker = alone(world)
    gevent.sleep(SESSION_S + 0.5)  # its heartbeats go on meanwhile
    assert not worker.reader.confirmed()
    worker.poll()
    assert worker.reader.confirmed()
    assert worker.events == [("assigned", EVERYTHING)]


def test_rule_7_a_static_member_that_comes_back_within_its_session_moves_nothing(
    world: KafkaReaderWorld,
) -> None:
    first, second = newcomer(world, "pod-1"), newcomer(world, "pod-2")
    until("two each", world, first, second, holds=lambda: len(first.owned) == len(second.owned) == 2)
    owned, events = set(second.owned), list(first.events)

    second.reader.close()
    again = newcomer(world, "pod-2")
    until("its partitions", world, first, again, holds=lambda: set(again.owned) == owned)

    assert first.events == events
    assert first.reader.confirmed()


def test_rule_7_a_static_member_that_stays_away_is_replaced_after_its_session(
    world: KafkaReaderWorld,
) -> None:
    first, second = newcomer(world, "pod-1"), newcomer(world, "pod-2")
    until("two each", world, first, second, holds=lambda: len(first.owned) == len(second.owned) == 2)
    second.reader.close()
    until("all partitions", world, first, holds=lambda: owns_all(first))


def test_rule_7_a_worker_id_that_kafka_does_not_take_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="THORN_WORKER_ID is 'pod 1'"):
        Membership("pod 1", PARTITIONS)


def test_rule_8_a_broker_that_is_away_is_said_to_be_and_waited_for(
    broker: Cluster, world: KafkaReaderWorld
) -> None:
    worker = newcomer(world)
    broker.kill(1)
    reader = world.reader()
    with pytest.raises(LogUnavailable, match="can't be reached"):
        reader.open()

    until("the sentence", world, worker, holds=lambda: worker.reader.trouble is not None)
    assert "can't be reached" in str(worker.reader.trouble)

    broker.up(1)
    until("all partitions", world, worker, holds=lambda: owns_all(worker))
    assert worker.reader.trouble is None
    assert reader.open().topic_id == worker.info.topic_id


def test_topics_are_made_only_if_that_is_wanted(broker: Cluster, prefix: str, tmp_path: Path) -> None:
    other = KafkaReaderWorld(broker.bootstrap, prefix, tmp_path, make_topics=False)
    with pytest.raises(LogUnusable, match="topics create"):
        other.reader().open()
    info = other.reader(consent=Consent(create_topics=True)).open()
    assert info.partitions == PARTITIONS
    assert other.reader().open() == info
