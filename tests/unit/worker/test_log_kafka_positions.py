"""Where reading of a partition begins: the worked examples of the module, and what a user is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thorn_worker.log.contract import Consent
from thorn_worker.log.kafka_positions import (
    Committed,
    Extent,
    Position,
    TopicIds,
    changed,
    next_epoch,
    position_of,
)
from thorn_worker.offsets import Progress, Tracker, decode

TOPICS = TopicIds("thorn.deliveries", "D1", "thorn.state", "S1")
EXTENT = Extent(10, 100)
METADATA = Progress("D1", "S1", 0b1010, {2: 1}).encode()


def at(offset: int, metadata: str = METADATA) -> Committed:
    return Committed(offset, metadata)


def position(
    committed: Committed | None, consent: Consent | None = None, diverged: int | None = None
) -> Position:
    return position_of(3, committed, EXTENT, TOPICS, consent or Consent(), diverged)


def test_without_a_commit_reading_begins_at_the_first_record() -> None:
    assert position(None) == Position(10, "")


@pytest.mark.parametrize("offset", [10, 50, 100])
def test_reading_goes_on_where_it_was_committed(offset: int) -> None:
    assert position(at(offset)) == Position(offset, METADATA)


def test_what_retention_deleted_before_it_was_completed_is_counted() -> None:
    # Given offsets 5 and 7 complete above the watermark 4, and of 6 the first position
    # When everything below 10 is gone
    # Then 6 offsets are, and nothing of what was known reaches beyond
    assert position(at(4)) == Position(10, Progress("D1", "S1").encode(), gone=6)


def test_what_was_known_above_the_deleted_offsets_is_kept() -> None:
    moved = position(at(8))
    # bit 3 said that offset 11 is complete, partial 2 that the first position of 10 is
    assert moved == Position(10, Progress("D1", "S1", 0b10, {0: 1}).encode(), gone=2)


@given(st.sets(st.integers(0, 40)), st.integers(0, 40))
def test_a_moved_gap_map_tells_the_same_of_what_is_left(done: set[int], gone: int) -> None:
    complete = sum(1 << index for index in done)
    committed = Committed(100, Progress("D1", "S1", complete).encode())
    moved = position_of(0, committed, Extent(100 + gone, 200), TOPICS, Consent())
    tracker = Tracker(moved.offset, decode(moved.metadata))
    for offset in range(moved.offset, 160):
        assert tracker.read(offset, 1) == (1 if offset - 100 in done else 0)


def test_a_commit_beyond_the_end_stands_until_a_new_log_is_accepted() -> None:
    trouble = position(at(120)).trouble
    assert trouble is not None
    assert "offset 120" in trouble
    assert "ends at offset 100" in trouble
    assert "`thorn-worker run --accept-new-log`" in trouble
    assert position(at(120), Consent(new_log=True)) == Position(10, "")


def test_a_topic_made_anew_stands_until_a_new_log_is_accepted() -> None:
    committed = at(50, Progress("D0", "S1").encode())
    trouble = position(committed).trouble
    assert trouble is not None
    assert "D0" in trouble
    assert "D1" in trouble
    assert "`thorn-worker run --accept-new-log`" in trouble
    assert position(committed, Consent(lost_state=True)).trouble is not None
    assert position(committed, Consent(new_log=True)) == Position(10, "")


def test_a_state_topic_made_anew_stands_until_its_loss_is_accepted() -> None:
    committed = at(50, Progress("D1", "S0", 0b10).encode())
    trouble = position(committed).trouble
    assert trouble is not None
    assert "S0" in trouble
    assert "`thorn-worker run --accept-lost-state`" in trouble
    assert position(committed, Consent(new_log=True)).trouble is not None
    assert position(committed, Consent(lost_state=True)) == Position(50, committed.metadata)


def test_both_topics_made_anew_are_one_sentence_and_one_command() -> None:
    committed = at(50, Progress("D0", "S0").encode())
    trouble = position(committed).trouble
    assert trouble is not None
    assert "`thorn-worker run --accept-new-log --accept-lost-state`" in trouble
    assert position(committed, Consent(new_log=True, lost_state=True)) == Position(10, "")


def test_consent_changes_nothing_where_nothing_is_wrong() -> None:
    assert position(at(50), Consent(new_log=True, lost_state=True)) == Position(50, METADATA)


@pytest.mark.parametrize("metadata", ["", "set by an operator's tool"])
def test_a_commit_of_somebody_else_is_followed(metadata: str) -> None:
    assert position(at(50, metadata)) == Position(50, metadata)


def test_records_that_the_brokers_replaced_are_read() -> None:
    assert position(at(50), diverged=45) == Position(45, Progress("D1", "S1").encode(), replaced=5)
    assert position(at(50), diverged=50) == Position(50, METADATA)
    assert position(at(50), diverged=4) == Position(10, Progress("D1", "S1").encode(), replaced=46)


def test_an_epoch_grows_with_every_generation_and_with_every_assignment_within_one() -> None:
    first = next_epoch(7, 0)
    again = next_epoch(7, first)
    assert (first, again) == (7 * 65_536, 7 * 65_536 + 1)
    assert next_epoch(8, again) == 8 * 65_536
    assert next_epoch(1, again) == again + 1  # the brokers have forgotten the group


def test_topics_that_are_the_same_change_nothing() -> None:
    assert changed(TOPICS, {"thorn.deliveries": "D1", "thorn.state": "S1"}) is None


@pytest.mark.parametrize("name", ["thorn.deliveries", "thorn.state"])
def test_a_topic_that_is_gone_or_another_one_is_named(name: str) -> None:
    ids: dict[str, str | None] = {"thorn.deliveries": "D1", "thorn.state": "S1"}
    assert f"topic {name} is gone" in str(changed(TOPICS, {**ids, name: None}))
    assert f"topic {name} was made anew" in str(changed(TOPICS, {**ids, name: "X"}))
    assert changed(replace(TOPICS, deliveries_id="X", state_id="X"), {**ids, name: "X"}) is not None
