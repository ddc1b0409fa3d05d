"""The view of a Kafka log from outside: rows, letters, endpoints, offsets, owners, and what is forgotten."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from deploy.kafka import Cluster
from producer.errors import LogUnusable
from producer.model import Life
from tests.support.deliveries import HOST, delivery, letter, pending
from tests.support.kafka_rows import KafkaRows, configure, records
from tests.support.waiting import wait_for
from thorn_worker.inspector import RowFilter
from thorn_worker.log.kafka_inspector import KafkaInspector
from thorn_worker.outcome import Death
from thorn_worker.store.contract import DeadLetter, EndpointState
from thorn_worker.store.rows import encode_letter, letter_key

pytestmark = pytest.mark.kafka

EVERY = RowFilter()
OTHER = "https://b.example:443"


@pytest.fixture
def log(broker: Cluster, prefix: str) -> KafkaRows:
    return KafkaRows(broker.bootstrap, prefix, 2)


@pytest.fixture
def inspector(log: KafkaRows) -> Iterator[KafkaInspector]:
    with closing(KafkaInspector(log.options)) as inspector:
        yield inspector


def raw_letter(life: Life) -> DeadLetter:
    return letter(life, delivery=None, reason=Death.MALFORMED, raw=b"?", raw_bytes=1, raw_sha256="ab")


def test_rows_come_by_partition_and_life_whatever_the_order_of_their_writing(
    log: KafkaRows, inspector: KafkaInspector
) -> None:
    rows = [pending(log.topic_id, p, n, i) for p in (0, 1) for n in (2, 9, 10) for i in (0, 1)]
    with log:
        for row in reversed(rows):
            log.put(row)
    assert list(inspector.pendings(EVERY)) == rows


def test_the_last_value_of_a_row_counts_and_a_tombstone_removes_it(
    log: KafkaRows, inspector: KafkaInspector
) -> None:
    stays, goes, returns = (pending(log.topic_id, 1, n) for n in range(3))
    later = replace(stays, due_at=900.0, reason="throttled")
    with log:
        for row in (stays, goes, later, returns):
            log.put(row)
        log.remove(goes)
        log.remove(returns)
        log.put(returns)
    assert list(inspector.pendings(EVERY)) == [later, returns]


def test_every_filter_means_what_it_means_on_sqlite(log: KafkaRows, inspector: KafkaInspector) -> None:
    with log:
        for n in range(20):
            log.put(pending(log.topic_id, 0, n, host=HOST if n % 2 else OTHER))

    def offsets(wanted: RowFilter) -> list[int]:
        return [row.life.offset for row in inspector.pendings(wanted)]

    assert offsets(RowFilter(ids=["d3.0", "d7.0"])) == [3, 7]
    assert len(offsets(RowFilter(hosts=[HOST]))) == 10
    assert offsets(RowFilter(since_at=60.0, until_at=61.0)) == [10, 11]
    assert offsets(RowFilter(reasons=["throttled"])) == []
    assert offsets(RowFilter(subs=["s1"], ids=["d3.0"])) == [3]
    assert offsets(RowFilter(subs=["s2"])) == []


def test_letters_are_filtered_by_their_death_and_raw_ones_by_the_id_that_lists_show(
    log: KafkaRows, inspector: KafkaInspector
) -> None:
    old = letter(Life(log.topic_id, 0, 4, 1))
    raw = replace(raw_letter(Life(log.topic_id, 1, 4, 0)), died_at=300.0)
    with log:
        log.bury(raw)
        log.bury(old)
    assert list(inspector.letters(EVERY)) == [old, raw]
    assert list(inspector.letters(RowFilter(ids=["raw/1.4"]))) == [raw]
    assert list(inspector.letters(RowFilter(since_at=250.0))) == [raw]
    assert list(inspector.letters(RowFilter(reasons=[Death.EXHAUSTED]))) == [old]
    assert list(inspector.letters(RowFilter(subs=["s1"]))) == [old]


def test_endpoints_lie_between_the_rows(log: KafkaRows, inspector: KafkaInspector) -> None:
    one, two = EndpointState(sub="s1", host=HOST, failures=3), EndpointState(sub="s2", host=HOST)
    with log:
        log.put(pending(log.topic_id, 0, 0))
        log.save(1, replace(one, failures=1))
        log.save(0, two)
        log.save(0, one)
        log.write(log.options.state, 0, b"h/" + HOST.encode(), b"a host's state, of a later release")
    assert list(inspector.endpoints()) == [(0, one), (0, two), (1, replace(one, failures=1))]
    assert list(inspector.endpoints(["s2"])) == [(0, two)]


def test_empty_topics_are_empty_lists(inspector: KafkaInspector) -> None:
    assert list(inspector.pendings(EVERY)) == []
    assert list(inspector.letters(EVERY)) == []
    assert list(inspector.endpoints()) == []


def test_a_topic_is_read_once_so_a_list_does_not_meet_what_happens_while_it_is_used(
    log: KafkaRows, inspector: KafkaInspector
) -> None:
    first = letter(Life(log.topic_id, 0, 1, 0))
    with log:
        log.bury(first)
    assert list(inspector.letters(EVERY)) == [first]
    with log:
        log.bury(letter(Life(log.topic_id, 0, 2, 0)))
    assert list(inspector.letters(EVERY)) == [first]


def test_lives_of_a_topic_that_was_made_anew_do_not_hide_each_other(
    log: KafkaRows, inspector: KafkaInspector
) -> None:
    now, before = pending(log.topic_id, 0, 7), pending("gone", 0, 7)
    with log:
        log.put(before)
        log.put(now)
    assert sorted(inspector.pendings(EVERY), key=lambda row: row.life) == sorted(
        [now, before], key=lambda row: row.life
    )


@pytest.mark.parametrize(
    "key, value",
    [
        (b"p/t/1/0", b"\xc1"),
        (b"p/t/1/0", b""),
        (b"p/?", b"\x80"),
        (b"p/t/99999999999999999999/0", b"\x80"),
        (b"p/\xff/1/0", b"\x80"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_said(
    log: KafkaRows, inspector: KafkaInspector, key: bytes, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good = pending(log.topic_id, 0, 5)
    with log:
        log.write(log.options.state, 0, key, value)
        log.put(good)
    assert list(inspector.pendings(EVERY)) == [good]
    assert f"1 row of {log.options.state} can't be read and is left out" in caplog.text


def test_a_letter_that_lies_under_another_key_is_left_out_since_no_tombstone_would_reach_it(
    log: KafkaRows, inspector: KafkaInspector, caplog: pytest.LogCaptureFixture
) -> None:
    one = letter(Life(log.topic_id, 0, 1, 0))
    with log:
        log.write(log.options.dead, 1, letter_key(one), encode_letter(one))
        log.write(log.options.dead, 0, b"elsewhere/0.1.0", encode_letter(one))
        log.write(log.options.dead, 0, b"nonsense", encode_letter(one))
    assert list(inspector.letters(EVERY)) == []
    assert f"3 rows of {log.options.dead} can't be read and are left out" in caplog.text


def test_rule_9_holes_of_control_records_do_not_stop_a_read(
    log: KafkaRows, inspector: KafkaInspector
) -> None:
    # Given a topic whose last offset, and one in the middle, hold the markers of transactions
    rows = [pending(log.topic_id, 0, n) for n in range(2)]
    writer = KafkaProducer(**log.options.connection(), transactional_id=f"test-{uuid4()}")
    writer.init_transactions()
    for row in rows:
        writer.begin_transaction()
        writer.send(log.options.state, b"", b"h/x", partition=0)
        writer.commit_transaction()
        with log:
            log.put(row)
    writer.begin_transaction()
    writer.send(log.options.state, b"", b"h/x", partition=0)
    writer.commit_transaction()
    writer.close()
    assert [record.offset for record in records(log.options, log.options.state)[0]] == [0, 2, 3, 5, 6]

    # Then it is read to its end, at once
    began = time.monotonic()
    assert list(inspector.pendings(EVERY)) == rows
    assert time.monotonic() - began < 5.0


def test_rule_9_holes_of_compaction_do_not_stop_a_read(log: KafkaRows, inspector: KafkaInspector) -> None:
    # Given a topic that was compacted: most of its offsets, and all of some segments, are gone
    settings = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000"}
    configure(log.options, log.options.state, settings)
    row = pending(log.topic_id, 0, 3)

    def compacted() -> bool:
        with log:
            for n in range(50):
                log.put(replace(row, due_at=float(n)))
        offsets = [record.offset for record in records(log.options, log.options.state)[0]]
        return len(offsets) + 60 < int(offsets[-1])

    wait_for(compacted, 60.0, what="the broker to compact the topic", poll_s=1.0)

    # Then what is left is read, and the last value counts
    assert list(inspector.pendings(EVERY)) == [replace(row, due_at=49.0)]


def test_rule_5_a_batch_that_cannot_be_unpacked_is_passed_and_said(
    log: KafkaRows, inspector: KafkaInspector, caplog: pytest.LogCaptureFixture
) -> None:
    # Given batches in a compression for which this process has no library, between batches that it can read
    rows = [pending(log.topic_id, 0, n) for n in range(60)]
    broken = range(20, 45)
    with log:
        for number, row in enumerate(rows):
            if number in (broken.start, 30, broken.stop):
                log.flush()
                how = "zstd" if number in broken else "producer"
                configure(log.options, log.options.state, {"compression.type": how})
            log.put(row)

    # Then the others are listed
    found = [row.life.offset for row in inspector.pendings(EVERY)]
    assert found == [number for number in range(60) if number not in broken]
    assert f"25 offsets of {log.options.state} can't be unpacked and are left out" in caplog.text


def test_partitions_before_any_worker_ever_ran(log: KafkaRows, inspector: KafkaInspector) -> None:
    with log:
        log.write(log.options.deliveries, 1, b"key", b"value")
    statuses = [(one.partition, one.committed, one.end, one.owner) for one in inspector.partitions()]
    assert statuses == [(0, 0, 0, None), (1, 0, 1, None)]


def test_partitions_show_what_the_group_committed_and_who_owns_what(
    log: KafkaRows, inspector: KafkaInspector
) -> None:
    # Given a member of the workers' group that owns one partition and has committed in it
    with log:
        for _ in range(5):
            log.write(log.options.deliveries, 1, b"key", b"value")
    place = TopicPartition(log.options.deliveries, 1)
    member = KafkaConsumer(
        **{**log.options.connection(), "client_id": "thorn-4711"},
        group_id=log.options.group,
        enable_auto_commit=False,
    )
    try:
        member.partitions_for_topic(log.options.deliveries)  # else it may join before it knows any
        member.subscribe([log.options.deliveries])

        def joined() -> bool:
            member.poll(timeout_ms=200)
            return place in member.assignment()

        wait_for(joined, 30.0, what="the member to own the partition")
        member.commit({place: OffsetAndMetadata(3, "", -1)})

        # Then that is told, and the other one's start
        zero, one = inspector.partitions()
        assert (zero.committed, zero.end) == (0, 0)
        assert (one.committed, one.end, one.owner) == (3, 5, "thorn-4711 at 127.0.0.1")
    finally:
        member.close()

    # And when it has left, the commit stands
    one = inspector.partitions()[1]
    assert (one.committed, one.owner) == (3, None)


def test_asking_again_for_the_partitions_costs_little(inspector: KafkaInspector) -> None:
    inspector.partitions()
    began = time.monotonic()
    for _ in range(10):
        inspector.partitions()
    assert (time.monotonic() - began) / 10 < 0.1


def test_forgotten_letters_are_gone_twice_too_and_no_other(log: KafkaRows, inspector: KafkaInspector) -> None:
    letters = [letter(Life(log.topic_id, p, 4, 1)) for p in (0, 1)]
    raw, stays = raw_letter(Life(log.topic_id, 0, 5, 0)), letter(Life(log.topic_id, 0, 6, 0))
    with log:
        for one in (*letters, raw, stays):
            log.bury(one)
    found = [one for one in inspector.letters(EVERY) if one != stays]
    assert found == [letters[0], raw, letters[1]]

    for _ in range(2):
        inspector.forget(found)
    inspector.forget([])
    with closing(KafkaInspector(log.options)) as later:
        assert list(later.letters(EVERY)) == [stays]
    assert [len(some) for some in records(log.options, log.options.dead).values()] == [3 + 4, 1 + 2]


def test_a_large_letter_is_listed(log: KafkaRows, inspector: KafkaInspector) -> None:
    life = Life(log.topic_id, 0, 0, 0)
    large = letter(life, delivery=delivery("d0.0", body=b"x" * 900_000))
    writer = KafkaProducer(**log.options.connection(), max_request_size=3_000_000)
    writer.send(log.options.dead, encode_letter(large), letter_key(large), partition=0).get(30)
    writer.close()
    assert list(inspector.letters(EVERY)) == [large]


def test_a_missing_topic_is_named_with_what_to_do(broker: Cluster, log: KafkaRows, prefix: str) -> None:
    nowhere = replace(log.options, prefix=f"{prefix}-other")
    with closing(KafkaInspector(nowhere)) as inspector:
        for look in (
            lambda: list(inspector.pendings(EVERY)),
            lambda: list(inspector.letters(EVERY)),
            inspector.partitions,
        ):
            with pytest.raises(
                LogUnusable, match=rf"topic {prefix}-other\.\w+ does not exist: .*topics create"
            ):
                look()
