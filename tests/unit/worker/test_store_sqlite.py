"""The SQLite store: the store contract, and the inspector that looks at the same rows."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from producer.errors import LogUnusable
from producer.model import Life
from tests.contract.reader import ReaderWorld
from tests.contract.store import Held, StoreContract
from tests.support.deliveries import HOST, letter
from tests.support.sqlite_world import SqliteReaderWorld
from thorn_worker.inspector import RowFilter
from thorn_worker.log.sqlite_inspector import SqliteInspector
from thorn_worker.outcome import Death
from thorn_worker.store.contract import DeadLetter, EndpointState

#: What the lives of the letters lie in: the inspector shows no letter of a record that came after it.
RECORDS = [b"x"] * 10


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[SqliteReaderWorld]:
        world = SqliteReaderWorld(tmp_path / "log.db")
        yield world
        world.close()

    def letters(self, world: ReaderWorld) -> list[DeadLetter]:
        assert isinstance(world, SqliteReaderWorld)
        world.append(0, *RECORDS)
        with closing(SqliteInspector(str(world.path))) as inspector:
            return list(inspector.letters(RowFilter()))

    def test_the_inspector_lists_rows_by_life_and_filters_them(
        self, world: SqliteReaderWorld, held: Held
    ) -> None:
        held.put(*[held.row(n, host=HOST if n % 2 else "https://b.example:443") for n in range(600)])
        with closing(SqliteInspector(str(world.path))) as inspector:
            every = list(inspector.pendings(RowFilter()))
            assert [row.life.offset for row in every] == list(range(600))

            def offsets(wanted: RowFilter) -> list[int]:
                return [row.life.offset for row in inspector.pendings(wanted)]

            assert offsets(RowFilter(ids=["d3.0", "d7.0"])) == [3, 7]
            assert len(offsets(RowFilter(hosts=[HOST]))) == 300
            assert offsets(RowFilter(since_at=60.0, until_at=61.0)) == [10, 11]
            assert offsets(RowFilter(reasons=["throttled"])) == []
            assert offsets(RowFilter(subs=["s1"], ids=["d3.0"])) == [3]

    def test_the_inspector_forgets_replayed_letters_and_no_other(
        self, world: SqliteReaderWorld, held: Held
    ) -> None:
        raw = letter(
            held.row(2).life,
            delivery=None,
            reason=Death.MALFORMED,
            raw=b"?",
            raw_bytes=1,
            raw_sha256="ab",
            died_at=300.0,
        )
        for dead in (letter(held.row(1).life), raw):
            held.durable(lambda done, dead=dead: held.store.bury(held.epoch, dead, done))  # type: ignore[misc]
        world.append(0, *RECORDS)

        with closing(SqliteInspector(str(world.path))) as inspector:
            assert list(inspector.letters(RowFilter(ids=["raw/0.2"]))) == [raw]
            assert list(inspector.letters(RowFilter(since_at=250.0))) == [raw]
            inspector.forget([letter(held.row(1).life), letter(Life("another log", 0, 2, 0))])
            assert list(inspector.letters(RowFilter())) == [raw]

    def test_the_inspector_meets_no_letter_of_what_was_replayed_since(
        self, world: SqliteReaderWorld, held: Held
    ) -> None:
        old, new = letter(held.row(0).life), letter(held.row(1).life)
        world.append(0, b"x")
        with closing(SqliteInspector(str(world.path))) as inspector:
            world.append(0, b"a new life")
            for dead in (old, new):
                held.durable(lambda done, dead=dead: held.store.bury(held.epoch, dead, done))  # type: ignore[misc]
            assert list(inspector.letters(RowFilter())) == [old]

    def test_the_inspector_leaves_out_what_it_cannot_read_and_says_so(
        self, world: SqliteReaderWorld, held: Held, caplog: pytest.LogCaptureFixture
    ) -> None:
        held.put(held.row(0), held.row(1))
        with closing(sqlite3.connect(world.path)) as connection, connection:
            connection.execute("UPDATE pendings SET value = x'c1' WHERE offset = 0")
        with closing(SqliteInspector(str(world.path))) as inspector:
            assert list(inspector.pendings(RowFilter())) == [held.row(1)]
        assert f"1 row of {world.path} can't be read and is left out" in caplog.text

    def test_the_inspector_shows_endpoints_and_partitions(self, world: SqliteReaderWorld, held: Held) -> None:
        state = EndpointState(sub="s1", host=HOST, failures=3)
        held.durable(lambda done: held.store.save_endpoint(0, held.epoch, state, done))
        world.append(1, b"x")
        with closing(SqliteInspector(str(world.path))) as inspector:
            assert list(inspector.endpoints()) == [(0, state)]
            assert list(inspector.endpoints(["s2"])) == []
            status = inspector.partitions()[1]
        assert (status.partition, status.committed, status.end) == (1, 0, 1)
        assert status.owner is not None
        assert status.owner.startswith("member0/")

    def test_the_inspector_makes_no_log(self, tmp_path: Path) -> None:
        with pytest.raises(LogUnusable, match="does not exist"):
            SqliteInspector(str(tmp_path / "none.db"))
        assert list(tmp_path.iterdir()) == []
