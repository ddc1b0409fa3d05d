"""The Kafka store on a real broker, beyond its contract: restores, writes that meet faults, large rows."""

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from kafka import KafkaProducer

from deploy.kafka import Cluster
from producer.errors import LogError, LogUnavailable, LogUnusable
from producer.log.kafka_options import KafkaOptions
from producer.model import Life
from tests.contract.reader import PARTITIONS
from tests.support.deliveries import HOST, delivery, letter
from tests.support.hub import wait_on_hub
from tests.support.kafka_reader_world import options_of
from tests.support.kafka_rows import configure, records
from tests.support.kafka_store_world import Pen, Stranger, last_values, make_anew, rows_in_topic
from thorn_worker.log.kafka_topics import create_topics
from thorn_worker.outcome import Attempt, Death, Outcome, Phase
from thorn_worker.store import kafka_follower, kafka_tail
from thorn_worker.store.contract import EndpointState
from thorn_worker.store.kafka_outbox import OUTSTANDING_BYTES
from thorn_worker.store.rows import decode_letter, endpoint_key, pending_key

pytestmark = pytest.mark.kafka

Pens = Callable[..., Pen]


@pytest.fixture
def options(broker: Cluster, prefix: str) -> KafkaOptions:
    options = options_of(broker.bootstrap, prefix)
    create_topics(options, PARTITIONS)
    return options


@pytest.fixture
def pens(options: KafkaOptions, tmp_path: Path) -> Iterator[Pens]:
    """Makes stores; each has a state folder of its own unless told which."""
    made: list[Pen] = []

    def pen(folder: str | None = None) -> Pen:
        made.append(Pen(options, tmp_path / (folder or f"state{len(made)}")))
        return made[-1]

    yield pen
    for one in made:
        one.close()


@pytest.fixture
def stranger(options: KafkaOptions) -> Iterator[Stranger]:
    stranger = Stranger(options, epoch=1)
    yield stranger
    stranger.close()


# -- restores --------------------------------------------------------------------------------------


def test_a_life_that_was_stored_but_not_committed_is_known_to_the_next_owner(pens: Pens) -> None:
    first = pens()
    first.hold(1)
    first.put(first.row(3), first.row(5), first.row(6, 2))
    first.settled(3)
    first.close()  # a crash: nothing was released, nothing committed beyond 5

    restored = pens().hold(2, committed=5)

    assert restored.rows == 3
    assert restored.lives == {(5, 0), (6, 2)}


def test_an_empty_topic_restores_at_once(pens: Pens) -> None:
    pen = pens()
    assert pen.hold(1).rows == 0
    assert pen.store.stats.restored_records == 0
    assert pen.store.stats.restore_s is not None


def test_a_restart_reads_only_what_lies_behind_its_checkpoint(pens: Pens, stranger: Stranger) -> None:
    first = pens("state")
    first.hold(1)
    first.put(*map(first.row, range(300)))
    first.remove(*range(100))
    first.settled(400)
    assert first.store.release(0, 1)
    first.close()
    for offset in (300, 301):
        stranger.put(first.row(offset))
    stranger.remove(first.life(100))

    again = pens("state")
    assert again.hold(2).rows == 201
    assert again.store.stats.restored_records == 3
    assert again.stored() == list(range(101, 302))


def test_a_restart_after_a_release_is_no_reason_to_write_anything(pens: Pens, options: KafkaOptions) -> None:
    pen = pens()
    for epoch in (1, 2, 3):
        pen.hold(epoch)
        pen.put(pen.row(epoch))
        pen.settled(epoch)
        assert pen.store.release(0, epoch)
    assert len(records(options, options.state)[0]) == 3


@pytest.mark.parametrize("why", ["too old", "beyond the end", "damaged"])
def test_a_checkpoint_that_can_not_be_trusted_is_not_used(
    why: str, pens: Pens, options: KafkaOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a cache with its checkpoint at 20
    first = pens("state")
    first.hold(1)
    first.put(*map(first.row, range(20)))
    first.settled(20)
    first.close()
    cache = next(first.state.rglob("cache.db"))

    # When it is too old, or not of this topic's past, or can't be read
    if why == "too old":
        monkeypatch.setattr("thorn_worker.store.kafka_cache.CHECKPOINT_AGE_S", 0.0)
    elif why == "damaged":
        cache.write_bytes(b"?" * 10_000)
    else:
        with closing(sqlite3.connect(cache, isolation_level=None)) as connection:
            connection.execute("UPDATE checkpoints SET offset = 1000")

    # Then everything is read, and nothing of the cache is left over
    again = pens("state")
    assert again.hold(2).rows == 20
    assert again.store.stats.restored_records == 20


def test_a_state_topic_made_anew_is_not_mistaken_for_the_old_one(pens: Pens, options: KafkaOptions) -> None:
    first = pens("state")
    first.hold(1)
    first.put(*map(first.row, range(5)))
    first.settled(5)
    first.close()

    make_anew(options, [options.state])
    stranger = Stranger(options, epoch=1)
    for offset in range(10, 20):
        stranger.put(first.row(offset))
    stranger.close()

    again = pens("state")
    assert again.hold(2).rows == 10
    assert again.stored() == list(range(10, 20))


def test_rows_of_a_deliveries_topic_that_was_made_anew_are_still_owed(
    pens: Pens, options: KafkaOptions
) -> None:
    first = pens("state")
    first.hold(1)
    first.put(first.row(0), first.row(1))
    first.settled(2)
    first.close()
    make_anew(options, [options.deliveries])

    again = pens("state")
    restored = again.hold(2)
    again.put(again.row(1))
    again.settled(1)

    assert restored.rows == 2
    assert restored.lives == frozenset()  # records of the new topic owe nothing to the old one's rows
    due = again.store.due(0, HOST, 1e9, 10, [Life(first.owner.topics.deliveries_id, 0, 1, 0)])
    assert [row.life for row in due.rows] == [first.life(0), again.life(1)]
    again.store.remove(2, first.life(0), lambda: again.told.append("removed"))
    again.settled(2)
    assert first.life(0) not in {row.life for row in again.store.due(0, HOST, 1e9, 10, ()).rows}


def test_rule_9_a_restore_goes_by_position_over_holes_and_markers(
    pens: Pens, options: KafkaOptions, stranger: Stranger
) -> None:
    # Given a partition with a hole in it, and at its end an aborted transaction and its marker: no record is
    # at the last offset
    row = pens().row
    stranger.put(row(1))
    producer = KafkaProducer(**options.connection(), transactional_id=options.prefix)
    producer.init_transactions()
    producer.begin_transaction()
    key, value = endpoint_key("s"), b"?"
    producer.send(options.state, value, key=key, partition=0).get(20)
    producer.abort_transaction()
    producer.close(timeout=5)

    # When it is restored, then it ends
    pen = pens()
    with gevent.Timeout(30, AssertionError("the restore does not end")):
        assert pen.hold(2).rows == 1
    # And our own writes behind the marker move the checkpoint on
    pen.put(pen.row(2))
    pen.settled(1)
    pen.close()
    again = Pen(options, pen.state)
    assert again.hold(3).rows == 2
    assert again.store.stats.restored_records == 0
    again.close()


@pytest.mark.timeout(180)
def test_rule_9_a_compacted_partition_restores_to_what_was_written_last(
    pens: Pens, options: KafkaOptions
) -> None:
    # Given small segments, compacted soon, and many values per key
    small = {
        "segment.ms": "1000",
        "segment.bytes": "1048576",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "1000",
        "delete.retention.ms": "1000",
    }
    configure(options, options.state, small)
    first = pens()
    first.hold(1)
    for reason in ("failed", "throttled", "unreachable"):
        first.put(*(first.row(offset, reason=reason) for offset in range(1000)))
    first.remove(*range(0, 1000, 2))
    first.settled(3500)

    def few() -> bool:
        first.put(first.row(5000))  # only a write begins a new segment, and only closed ones are compacted
        gevent.sleep(1.0)
        return len(records(options, options.state)[0]) < 2500

    wait_on_hub(few, 120.0, what="the compaction")

    # Then a new owner sees the last values, and no row that was removed
    pen = pens()
    assert pen.hold(2).rows == 501
    rows = pen.store.due(0, HOST, 1e9, 1000, ()).rows
    assert {row.reason for row in rows if row.life.offset < 1000} == {"unreachable"}
    assert pen.stored() == [*range(1, 1000, 2), 5000]


def test_partitions_restore_side_by_side(pens: Pens) -> None:
    pen = pens()
    restores = [gevent.spawn(pen.hold, 1, 0, partition) for partition in range(PARTITIONS)]
    gevent.joinall(restores, raise_error=True)
    assert [restore.value.rows for restore in restores] == [0] * PARTITIONS
    assert len(list(pen.state.rglob("lock"))) == 1


def test_a_restore_that_gets_nowhere_fails_and_the_next_one_succeeds(
    pens: Pens, broker: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_follower, "STALL_S", 1.0)
    monkeypatch.setattr(kafka_tail, "OFFSETS_S", 1.0)
    pen = pens()
    pen.hold(1)
    pen.put(pen.row(1))
    pen.settled(1)
    pen.store.release(0, 1)

    broker.freeze(1)
    with pytest.raises(LogUnavailable):
        pen.hold(2)
    broker.thaw(1)

    def restored() -> bool:
        try:
            return pen.hold(3).rows == 1
        except LogUnavailable:
            return False

    wait_on_hub(restored, 60.0, what="the restore")


def test_a_partition_released_while_it_is_restored_is_not_restored(pens: Pens, broker: Cluster) -> None:
    pen = pens()
    pen.store.open()
    broker.freeze(1)
    restore = gevent.spawn(pen.hold, 1)
    gevent.sleep(0.1)
    assert pen.store.release(0, 1)
    broker.thaw(1)
    with pytest.raises(LogError):
        restore.get(timeout=60)
    with pytest.raises(LogError, match="over"):
        pen.store.restore(0, 0, 0)


def test_what_can_not_be_read_stays_in_the_topic_and_counts_as_stored(
    pens: Pens, options: KafkaOptions, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    pen = pens()
    damaged = pending_key(pen.life(4))
    stranger.write(damaged, b"\xc1")
    stranger.write(b"x/of a later release", b"?")
    stranger.put(pen.row(5))

    restored = pen.hold(2)

    assert restored.rows == 2
    assert restored.lives == {(4, 0), (5, 0)}
    assert restored.hosts == {HOST: 100.0}
    assert pen.stored() == [5]
    assert last_values(options, options.state)[damaged] == b"\xc1"
    assert "left alone" in caplog.text


# -- writes ----------------------------------------------------------------------------------------


def test_while_the_broker_is_away_nothing_is_called_back_and_then_all_in_order(
    pens: Pens, broker: Cluster, options: KafkaOptions
) -> None:
    pen = pens()
    pen.hold(1)
    broker.freeze(1)
    pen.put(*map(pen.row, range(100)))
    pen.remove(*range(50))
    gevent.sleep(1.0)
    assert pen.told == []
    assert pen.store.stats.oldest_s is not None

    broker.thaw(1)

    pen.settled(150, 60.0)
    assert pen.told == [f"put {n}" for n in range(100)] + [f"remove {n}" for n in range(50)]
    assert pen.stored() == rows_in_topic(options) == list(range(50, 100))


def test_no_more_than_the_bound_is_ever_outstanding(pens: Pens, broker: Cluster) -> None:
    pen = pens()
    pen.hold(1)
    broker.freeze(1)
    large = delivery(body=b"x" * 500_000)
    for offset in range(60):
        pen.put(pen.row(offset, delivery=large))
    most = 0
    for _ in range(20):
        gevent.sleep(0.05)
        most = max(most, pen.store.stats.outstanding_bytes)
    assert OUTSTANDING_BYTES / 2 < most <= OUTSTANDING_BYTES
    assert pen.store.stats.waiting > 30

    broker.thaw(1)

    pen.settled(60, 60.0)
    assert pen.store.stats.waiting == 0


def test_late_acknowledgements_of_a_partition_that_was_lost_change_nothing(
    pens: Pens, broker: Cluster
) -> None:
    pen = pens()
    pen.hold(1)
    pen.put(pen.row(1))
    pen.settled(1)
    broker.freeze(1)
    pen.put(pen.row(2))
    gevent.sleep(0.2)
    assert not pen.store.release(0, 1)
    pen.put(pen.row(3))
    broker.thaw(1)

    wait_on_hub(lambda: pen.store.stats.outstanding == 0, 60.0, what="the late acknowledgement")
    gevent.sleep(0.2)
    assert pen.told == ["put 1"]
    # What it wrote is in the topic, for whoever owns the partition next; what was not sent is nowhere.
    assert pen.hold(2).rows == 2
    assert pen.stored() == [1, 2]


def test_nothing_is_sent_while_it_is_uncertain_whether_the_partition_is_ours(
    pens: Pens, options: KafkaOptions
) -> None:
    pen = pens()
    pen.hold(1)
    pen.owner.sure = False
    pen.put(pen.row(1))
    gevent.sleep(0.5)
    assert pen.told == []
    assert records(options, options.state)[0] == []

    pen.owner.sure = True

    pen.settled(1)


def test_what_was_called_back_survives_a_killed_process(
    pens: Pens, broker: Cluster, prefix: str, options: KafkaOptions, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.support.kafka_pen",
        broker.bootstrap,
        prefix,
        str(tmp_path / "state"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        told = [int(next(lines).split()[1]) for _ in range(2000)]
        process.send_signal(signal.SIGKILL)
        told += [int(line.split()[1]) for line in lines if line.endswith("\n")]

    for folder in ("state", "another"):
        pen = pens(folder)
        restored = pen.hold(2 + len(folder))
        stored = pen.stored()
        assert set(told) <= set(stored)
        assert stored == rows_in_topic(options)
        assert restored.rows == len(stored)
        pen.close()


def test_a_burial_without_a_row_writes_no_tombstone_and_one_with_a_row_does(
    pens: Pens, options: KafkaOptions
) -> None:
    pen = pens()
    pen.hold(1)
    pen.put(pen.row(1))
    for offset in (1, 2):
        dead = letter(pen.life(offset))
        pen.store.bury(1, dead, lambda name=f"bury {offset}": pen.told.append(name))  # type: ignore[misc]
    pen.put(pen.row(3))
    pen.settled(4)

    assert pen.told == ["put 1", "bury 1", "bury 2", "put 3"]
    keys = [record.key for record in records(options, options.state)[0]]
    assert sorted(keys) == sorted(pending_key(pen.life(offset)) for offset in (1, 3, 1))
    assert len(last_values(options, options.dead)) == 2


def test_a_row_put_behind_a_burial_of_its_life_stays(pens: Pens, options: KafkaOptions) -> None:
    pen = pens()
    pen.hold(1)
    pen.put(pen.row(1))
    pen.store.bury(1, letter(pen.life(1)), lambda: pen.told.append("bury"))
    pen.put(pen.row(1, reason="throttled"))
    pen.settled(3)
    assert pen.told == ["put 1", "bury", "put 1"]
    assert [row.reason for row in pen.store.due(0, HOST, 1e9, 10, ()).rows] == ["throttled"]
    assert rows_in_topic(options) == [1]


def test_a_row_stays_until_its_dead_letter_is_acknowledged(pens: Pens, options: KafkaOptions) -> None:
    configure(options, options.dead, {"max.message.bytes": "10"})  # which refuses every letter
    pen = pens()
    pen.hold(1)
    pen.put(pen.row(1))
    pen.store.bury(1, letter(pen.life(1)), lambda: pen.told.append("bury"))
    pen.put(pen.row(2))
    pen.settled(2, 60.0)
    wait_on_hub(lambda: pen.store.stats.refused == 1, 60.0, what="the refusal")

    assert pen.told == ["put 1", "put 2"]
    assert pen.stored() == rows_in_topic(options) == [1, 2]

    configure(options, options.dead, {"max.message.bytes": "2097152"})
    pen.store.bury(1, letter(pen.life(1)), lambda: pen.told.append("bury"))
    pen.settled(3, 60.0)
    assert pen.stored() == rows_in_topic(options) == [2]


def test_a_letter_that_is_too_large_is_cut_and_a_row_leaves_its_history(
    pens: Pens, options: KafkaOptions
) -> None:
    pen = pens()
    pen.hold(1)
    for offset, size in enumerate((2 * 1024 * 1024 - 1000, 3 * 1024 * 1024)):
        whole: dict[str, Any] = {"raw": b"?" * size, "raw_bytes": size, "raw_sha256": "ab"}
        raw = letter(pen.life(offset), delivery=None, reason=Death.MALFORMED, **whole)
        pen.store.bury(1, raw, lambda: pen.told.append("bury"))
    attempt = Attempt(
        number=1,
        started_at=1.0,
        duration_s=1.0,
        outcome=Outcome.FAILED,
        phase=Phase.BODY,
        status=500,
        error="e" * 300_000,
        retry_after_s=None,
        excerpt=b"",
    )
    row = pen.row(7, delivery=delivery(body=b"x" * 900_000), history=(attempt,) * 10)
    pen.put(row)
    pen.settled(3)

    letters = [
        decode_letter(value) for value in last_values(options, options.dead).values() if value is not None
    ]
    assert [(len(one.raw or b""), one.raw_bytes) for one in letters] == [
        (512 * 1024, 2 * 1024 * 1024 - 1000),
        (512 * 1024, 3 * 1024 * 1024),
    ]
    assert pen.store.due(0, HOST, 1e9, 10, ()).rows == [replace(row, history=())]


def test_a_write_that_is_refused_for_good_is_said_and_holds_nobody_up(
    pens: Pens, options: KafkaOptions, caplog: pytest.LogCaptureFixture
) -> None:
    configure(options, options.state, {"max.message.bytes": "100000"})
    pen = pens()
    pen.hold(1)
    noise = random.Random(1).randbytes(900_000)  # which no compression makes small
    pen.put(pen.row(1), pen.row(2, delivery=delivery(body=noise)), pen.row(3))
    pen.settled(2, 60.0)

    pen.put(pen.row(4))
    pen.settled(3, 60.0)
    assert pen.told == ["put 1", "put 3", "put 4"]
    assert pen.stored() == rows_in_topic(options) == [1, 3, 4]
    assert pen.store.stats.refused == 1
    assert "refused for good" in caplog.text
    assert pen.store.release(0, 1)


def test_an_error_of_our_own_ends_the_worker_instead_of_standing_still(
    pens: Pens, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen = pens()
    pen.hold(1)
    monkeypatch.setattr("thorn_worker.store.kafka_changes.Changes.put", None)
    pen.put(pen.row(1))

    def ended() -> bool:
        try:
            pen.stored()
        except LogUnusable as error:
            return "restart the worker" in str(error)
        return False

    wait_on_hub(ended, what="the end")
    assert pen.told == []


def test_the_figures(pens: Pens) -> None:
    pen = pens()
    assert pen.store.stats.acknowledged == 0
    pen.hold(1)
    pen.put(pen.row(1))
    pen.store.save_endpoint(0, 1, EndpointState(sub="s", host=HOST), lambda: pen.told.append("endpoint"))
    pen.settled(2)
    stats = pen.store.stats
    assert (stats.acknowledged, stats.outstanding, stats.waiting, stats.refused) == (2, 0, 0, 0)
    assert stats.last_ack_age_s is not None
    assert stats.last_ack_age_s < 20
    assert (stats.oldest_s, stats.restoring) == (None, 0)
    assert pen.store.trouble is None
