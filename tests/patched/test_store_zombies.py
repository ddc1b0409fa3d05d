"""Writers that are owners no more, on a real broker: what they write late, the owner's value stands."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import gevent
import pytest

from deploy.kafka import Cluster
from producer.log.kafka_options import KafkaOptions
from tests.contract.reader import PARTITIONS
from tests.support.deliveries import HOST
from tests.support.hub import wait_on_hub
from tests.support.kafka_reader_world import options_of
from tests.support.kafka_rows import records
from tests.support.kafka_store_world import Pen, Stranger, last_values, rows_in_topic
from thorn_worker.log.kafka_topics import create_topics
from thorn_worker.store import kafka_follower
from thorn_worker.store.contract import EndpointState
from thorn_worker.store.rows import (
    decode_endpoint,
    decode_pending,
    encode_endpoint,
    endpoint_key,
    pending_key,
)

pytestmark = pytest.mark.kafka

Pens = Callable[[], Pen]


@pytest.fixture
def options(broker: Cluster, prefix: str) -> KafkaOptions:
    options = options_of(broker.bootstrap, prefix)
    create_topics(options, PARTITIONS)
    return options


@pytest.fixture
def pens(options: KafkaOptions, tmp_path: Path) -> Iterator[Pens]:
    made: list[Pen] = []

    def pen() -> Pen:
        made.append(Pen(options, tmp_path / f"state{len(made)}"))
        return made[-1]

    yield pen
    for one in made:
        one.close()


@pytest.fixture
def zombie(options: KafkaOptions) -> Iterator[Stranger]:
    zombie = Stranger(options, epoch=1)
    yield zombie
    zombie.close()


@pytest.fixture
def newer(options: KafkaOptions) -> Iterator[Stranger]:
    newer = Stranger(options, epoch=9)
    yield newer
    newer.close()


@pytest.fixture
def owner(pens: Pens) -> Pen:
    """Holds partition 0 in epoch 5: row 1 is stored, row 2 was and is removed."""
    owner = pens()
    owner.hold(5)
    owner.put(owner.row(1), owner.row(2))
    owner.remove(2)
    owner.settled(3)
    return owner


def test_a_put_over_a_tombstone_is_undone(
    owner: Pen, zombie: Stranger, pens: Pens, options: KafkaOptions
) -> None:
    zombie.put(owner.row(2))
    wait_on_hub(lambda: rows_in_topic(options) == [1], what="the owner's tombstone")
    assert owner.stored() == [1]
    assert pens().hold(6).rows == 1


def test_a_tombstone_over_a_put_is_undone(
    owner: Pen, zombie: Stranger, pens: Pens, options: KafkaOptions
) -> None:
    zombie.remove(owner.life(1))
    wait_on_hub(lambda: rows_in_topic(options) == [1], what="the owner's row")
    heir = pens()
    assert heir.hold(6).lives == {(1, 0)}
    assert heir.store.due(0, HOST, 1e9, 10, ()).rows == [owner.row(1)]


def test_an_endpoints_state_is_put_back(owner: Pen, zombie: Stranger, options: KafkaOptions) -> None:
    mine, theirs = (EndpointState(sub="s", host=HOST, failures=failures) for failures in (1, 2))
    owner.store.save_endpoint(0, 5, mine, lambda: owner.told.append("saved"))
    owner.settled(4)
    zombie.write(endpoint_key("s"), encode_endpoint(theirs))
    zombie.write(endpoint_key("s"), None)

    def stands() -> EndpointState | None:
        value = last_values(options, options.state)[endpoint_key("s")]
        return None if value is None else decode_endpoint(value)

    wait_on_hub(lambda: stands() == mine, what="the owner's state")


def test_a_row_of_a_life_that_the_owner_knows_nothing_of_is_kept(
    owner: Pen, zombie: Stranger, pens: Pens, options: KafkaOptions
) -> None:
    """Its tombstone, sent by an owner that is a zombie itself by then, could hit a row that is owed."""
    zombie.put(owner.row(3))
    key = pending_key(owner.life(3))
    wait_on_hub(
        lambda: [message.key for message in records(options, options.state)[0]].count(key) == 2,
        what="the row, written again",
    )
    wait_on_hub(lambda: owner.stored() == [1, 3], what="the row")
    assert pens().hold(6).lives == {(1, 0), (3, 0)}


def test_what_the_owner_writes_meanwhile_stands(owner: Pen, zombie: Stranger, options: KafkaOptions) -> None:
    for round_number in range(20):
        zombie.put(owner.row(1, reason="zombie"))
        owner.put(owner.row(1, reason=f"owner {round_number}"))
    owner.settled(23)

    def value() -> str:
        stored = last_values(options, options.state)[pending_key(owner.life(1))]
        return decode_pending(stored).reason if stored is not None else ""

    wait_on_hub(lambda: value() == "owner 19", what="the owner's last row")
    assert [row.reason for row in owner.store.due(0, HOST, 1e9, 10, ()).rows] == ["owner 19"]


def test_a_newer_owner_is_never_overwritten_and_ends_our_epoch(
    owner: Pen, newer: Stranger, options: KafkaOptions, caplog: pytest.LogCaptureFixture
) -> None:
    newer.put(owner.row(2, reason="newer"))
    newer.remove(owner.life(1))
    wait_on_hub(lambda: "has a newer owner" in caplog.text, what="the notice")

    owner.put(owner.row(3))

    gevent.sleep(0.5)
    assert rows_in_topic(options) == [2]
    assert len(records(options, options.state)[0]) == 5
    assert len(owner.told) == 3
    # Should the partition come back, the cache has nothing of ours in it that the newer owner undid.
    assert owner.hold(10).lives == {(2, 0)}


def test_keys_that_nobody_here_can_have_written_are_left_alone(
    owner: Pen, zombie: Stranger, options: KafkaOptions
) -> None:
    foreign = (b"h/host", b"p/odd", b"new/kind")
    for key in foreign:
        zombie.write(key, b"?")
    zombie.put(owner.row(2))

    def values() -> Mapping[bytes, bytes | None]:
        return last_values(options, options.state)

    wait_on_hub(lambda: values()[pending_key(owner.life(2))] is None, what="the owner's tombstone")
    assert [values()[key] for key in foreign] == [b"?"] * 3
    assert len(records(options, options.state)[0]) == 8


def test_a_write_after_the_watch_shows_as_a_gap_and_is_undone(
    pens: Pens, zombie: Stranger, options: KafkaOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an owner that watches no more
    monkeypatch.setattr(kafka_follower, "WATCH_S", 0.0)
    owner = pens()
    owner.hold(5)
    owner.put(owner.row(1))
    owner.settled(1)
    gevent.sleep(1.0)
    read = owner.store.stats.restored_records

    # When a zombie writes, which nobody notices, and then the owner does
    zombie.remove(owner.life(1))
    gevent.sleep(0.5)
    assert owner.store.stats.restored_records == read
    owner.put(owner.row(2))

    # Then its own offsets have a gap, and what lies there is overwritten
    wait_on_hub(lambda: rows_in_topic(options) == [1, 2], what="the owner's row")
    owner.settled(2)
    # And the next restart has nothing to read
    assert owner.store.release(0, 5)
    wait_on_hub(lambda: owner.hold(6).rows == 2, what="the restore")


def test_our_own_late_writes_of_an_earlier_epoch_are_a_zombies(
    pens: Pens, broker: Cluster, options: KafkaOptions
) -> None:
    """A partition that is taken away and comes back: what was on its way then counts for nobody."""
    pen = pens()
    pen.hold(1)
    pen.put(pen.row(1))
    pen.settled(1)
    broker.freeze(1)
    pen.remove(1)
    gevent.sleep(0.2)
    assert not pen.store.release(0, 1)
    broker.thaw(1)
    wait_on_hub(lambda: pen.store.stats.outstanding == 0, 60.0, what="the late tombstone")
    assert pen.hold(2).rows == 0
    assert pen.stored() == rows_in_topic(options) == []
