"""The journal under what should never happen: a change that can't be made, a row that can't be read."""

import sqlite3
from pathlib import Path

import pytest

from tests.support.deliveries import delivery
from tests.support.hub import wait_on_hub
from tests.support.inside import Inside
from thorn_worker.log.journal import Journal
from thorn_worker.log.ops import Op


def test_a_change_that_can_never_be_made_does_not_stop_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a journal with a defective change between two good ones
    journal = Journal(str(tmp_path / "thorn.db"), 4, "me")
    journal.open()
    told: list[str] = []

    def note(text: str) -> Op:
        def change(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE partitions SET metadata = metadata || ? WHERE partition = 0", (text,))

        return Op(None, change, lambda done: told.append(f"{text} {done}"))

    def defect(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE partitions SET committed = ? WHERE partition = 0", (2**64,))

    # When all three are written in one group
    for op in (note("a"), Op(None, defect, lambda done: told.append(f"defect {done}")), note("b")):
        journal.submit(op)
    wait_on_hub(lambda: len(told) == 2, what="the good changes")

    # Then they are durable, each once, and the defect was told to nobody but the log
    found = journal.read(lambda connection: connection.execute("SELECT metadata FROM partitions").fetchone())
    assert told == ["a True", "b True"]
    assert found == ("ab",)
    assert journal.errors == 1
    assert any("a defect" in record.getMessage() for record in caplog.records)
    journal.close(5.0)


def test_a_damaged_row_is_left_alone_and_the_others_go_on(tmp_path: Path) -> None:
    with Inside(tmp_path) as inside:
        # Given three deliveries in the store, the first of them damaged
        names = ["d0", "d1", "d2"]
        inside.append(*(delivery(name, not_before=inside.clock.now() + 60) for name in names))
        inside.settled()
        connection = sqlite3.connect(inside.journal.path)
        connection.execute("UPDATE pendings SET value = x'c1' WHERE delivery_id = 'd0'")
        connection.commit()
        connection.close()

        # When they are due
        inside.hands.wait(61)

        # Then the others are tried, and what can't be read is still there
        inside.wait(lambda: len(inside.driver.in_flight) == 2, what="the readable ones")
        assert inside.driver.in_flight == ["d1", "d2"]
        for name in ("d1", "d2"):
            inside.driver.answer(name, 200)
        connection = sqlite3.connect(inside.journal.path)
        inside.wait(
            lambda: connection.execute("SELECT delivery_id FROM pendings").fetchall() == [("d0",)],
            what="only the damaged row to be left",
        )
        connection.close()
