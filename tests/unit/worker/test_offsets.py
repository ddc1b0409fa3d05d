"""The tracker against a set-based oracle, and the commit metadata through every size."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thorn_worker.offsets import MAX_METADATA_CHARACTERS, WINDOW_OFFSETS, Progress, Tracker, decode

GOLDEN = Path(__file__).parents[2] / "golden"


def test_the_watermark_is_the_lowest_incomplete_offset() -> None:
    tracker = Tracker(5)
    for offset in (5, 6, 7, 8):
        tracker.read(offset, 1)

    for offset in (5, 6, 8):
        tracker.complete(offset, 0)
    assert tracker.watermark == 7

    tracker.complete(7, 0)
    assert tracker.watermark == 9


def test_a_record_is_complete_when_each_of_its_positions_is() -> None:
    tracker = Tracker(0)
    tracker.read(0, 3)

    assert [tracker.complete(0, position) for position in (1, 1, 0, 2)] == [False, False, False, True]
    assert tracker.watermark == 1


def test_an_empty_record_is_complete_when_read() -> None:
    tracker = Tracker(0)
    tracker.read(0, 0)

    assert tracker.watermark == 1
    assert tracker.incomplete == 0


def test_holes_in_the_log_count_as_complete() -> None:
    tracker = Tracker(10)
    tracker.read(12, 1)
    tracker.read(20, 1)
    tracker.complete(12, 0)

    assert tracker.watermark == 20
    assert tracker.window == 1


def test_offsets_that_go_backwards_are_a_broken_reader() -> None:
    tracker = Tracker(10)
    tracker.read(10, 1)

    with pytest.raises(ValueError, match="offset 10 was read after 10"):
        tracker.read(10, 1)


def test_bytes_count_until_the_record_is_complete() -> None:
    tracker = Tracker(0)
    tracker.read(0, 2, size_bytes=700)
    tracker.complete(0, 0)
    assert tracker.size_bytes == 700

    tracker.complete(0, 1)
    assert tracker.size_bytes == 0


def test_the_worked_example_of_the_metadata() -> None:
    tracker = Tracker(7)
    tracker.read(7, 1)
    tracker.read(8, 1)
    tracker.read(9, 3)
    tracker.read(10, 1)
    tracker.complete(8, 0)
    tracker.complete(9, 0)
    tracker.complete(10, 0)

    progress = tracker.progress("topic", "state")

    assert progress == Progress("topic", "state", complete=0b1010, partial={2: 0b001})
    assert progress.encode() == "1 topic state Cg 2.1"


def test_the_golden_metadata_never_changes() -> None:
    line = (GOLDEN / "commit_metadata_v1.txt").read_text().rstrip("\n")

    assert decode(line) == Progress(
        "GqvQpYJ5TF2kXo9pQ1r7sA", "c0FfEe0-_5TF2kXo9pQ1r7sA", 0b1011_0110, {0: 5, 3: 255}
    )
    assert decode(line).encode() == line


@pytest.mark.parametrize(
    "text", ["", "hello", "2 a b Cg 2.1", "1 a b", "1 a b !! 2.1", "1 a b Cg x.1", "1 a b Cg 2.zz"]
)
def test_metadata_that_cannot_be_read_means_nothing_is_done(text: str) -> None:
    progress = decode(text)

    assert progress.complete == 0
    assert not progress.partial


def test_the_fullest_gap_map_fits_into_the_metadata() -> None:
    tracker = Tracker(0)
    for offset in range(WINDOW_OFFSETS):
        tracker.read(offset, 10)
    for offset in range(1, WINDOW_OFFSETS, 2):
        for position in range(10):
            tracker.complete(offset, position)
        tracker.complete(offset - 1, 3)

    line = tracker.progress("x" * 22, "y" * 22).encode()

    assert len(line) <= MAX_METADATA_CHARACTERS
    back = decode(line)
    assert back.complete.bit_count() == WINDOW_OFFSETS // 2
    assert 0 < len(back.partial) < WINDOW_OFFSETS // 2  # as many as fit


def test_what_an_earlier_owner_completed_is_not_done_again() -> None:
    before = Tracker(100)
    for offset in range(100, 110):
        before.read(offset, 2)
    for offset in (101, 103, 108):
        before.complete(offset, 0)
        before.complete(offset, 1)
    before.complete(104, 1)

    after = Tracker(before.watermark, decode(before.progress().encode()))

    assert [after.read(offset, 2) for offset in range(100, 110)] == [0, 3, 0, 3, 0b10, 0, 0, 0, 3, 0]


def test_a_restored_map_survives_a_commit_before_everything_was_read_again() -> None:
    tracker = Tracker(100, Progress(complete=0b10_0000_1000, partial={5: 0b1}))
    tracker.read(100, 1)
    tracker.complete(100, 0)

    progress = tracker.progress()

    assert tracker.watermark == 101
    assert progress.complete == 0b1_0000_0100
    assert progress.partial == {4: 0b1}


@given(st.data())
def test_the_tracker_agrees_with_an_oracle(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, 1000))
    tracker, highest = Tracker(start), start - 1
    left: dict[int, set[int]] = {}
    for _ in range(data.draw(st.integers(1, 40))):
        completing: bool = data.draw(st.booleans())
        if left and completing:
            offset = data.draw(st.sampled_from(sorted(left)))
            position = data.draw(st.sampled_from(sorted(left[offset])))
            left[offset].discard(position)
            assert tracker.complete(offset, position) is (not left[offset])
            if not left[offset]:
                del left[offset]
        else:
            highest += data.draw(st.integers(1, 3))
            positions = data.draw(st.integers(0, 4))
            tracker.read(highest, positions)
            if positions:
                left[highest] = set(range(positions))
        assert tracker.watermark == min(left, default=highest + 1)
        assert tracker.incomplete == len(left)

    again = Tracker(tracker.watermark, decode(tracker.progress().encode()))
    for offset in range(tracker.watermark, highest + 1):
        done = again.read(offset, 4)
        assert {position for position in range(4) if not done >> position & 1} >= left.get(offset, set())
        assert (done == 0b1111) is (offset not in left)


def test_a_million_offsets_cost_no_memory_once_complete() -> None:
    tracker = Tracker(0)
    for offset in range(1_000_000):
        tracker.read(offset, 1)
        if offset >= 100:
            tracker.complete(offset - 100, 0)
            assert offset % 100_000 or tracker.watermark == offset - 99

    assert tracker.incomplete == 100
    assert len(tracker._order) <= 200_000
