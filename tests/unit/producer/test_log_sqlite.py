"""The SQLite log's writing half: the writer contract, and what only a file can do wrong."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from producer.errors import LogError, LogUnavailable, LogUnusable
from producer.log import sqlite_schema
from producer.log.buffer import BufferLimits
from producer.log.contract import LogWriter, NewRecord
from producer.log.sqlite import SqliteOptions, SqliteWriter
from tests.contract.writer import Outcomes, Stored, WriterContract, WriterWorld, record


def stored_in(path: Path) -> list[Stored]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, key, value FROM records ORDER BY id").fetchall()
    return [(number >> 40, number & (1 << 40) - 1, key, value) for number, key, value in rows]


class SqliteWorld(WriterWorld):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.writers: list[SqliteWriter] = []
        self.max_log_bytes = 10**9

    def writer(self, limits: BufferLimits) -> LogWriter:
        options = SqliteOptions(path=str(self.path), partitions=4, max_log_bytes=self.max_log_bytes)
        self.writers.append(SqliteWriter(options, limits))
        return self.writers[-1]

    def stored(self) -> list[Stored]:
        return stored_in(self.path)

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=20.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def full(self) -> Iterator[None]:
        limits = [writer._options for writer in self.writers]
        for writer in self.writers:
            writer._options = SqliteOptions(path=str(self.path), partitions=4, max_log_bytes=4096)
        yield
        for writer, options in zip(self.writers, limits, strict=True):
            writer._options = options

    def close(self) -> None:
        for writer in self.writers:
            writer.close(5.0)


class TestSqliteWriter(WriterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[SqliteWorld]:
        world = SqliteWorld(tmp_path / "log.db")
        yield world
        world.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def append_one(path: Path, **options: int) -> LogError | None:
    writer, done = SqliteWriter(SqliteOptions(path=str(path), **options), BufferLimits()), Outcomes()
    try:
        writer.append([record(b"value")], done)
        return done.wait()[0]
    finally:
        writer.close(5.0)


APPENDER = """
import sys
from producer.log.buffer import BufferLimits
from producer.log.contract import NewRecord
from producer.log.sqlite import SqliteOptions, SqliteWriter

name = sys.argv[2]
writer = SqliteWriter(SqliteOptions(path=sys.argv[1], partitions=3), BufferLimits(max_block_s=30.0))
failures = []
for number in range(500):
    record = NewRecord(f"h{number % 11}", f"{name}/{number}".encode())
    writer.append([record], lambda error: error and failures.append(error))
    if number % 25 == 0:
        writer.flush(30.0)  # many small transactions, so that the processes really meet
ok = writer.flush(60.0) and not failures
writer.close(10.0)
sys.exit(0 if ok else 1)
"""


def test_four_processes_append_at_once_and_every_offset_is_given_out_once(path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", APPENDER, str(path), str(n)]) for n in range(4)]
    assert [process.wait(100) for process in processes] == [0, 0, 0, 0]

    stored = stored_in(path)
    assert len(stored) == len({value for *_rest, value in stored}) == 2000
    for partition in range(3):
        offsets = [offset for wanted, offset, *_rest in stored if wanted == partition]
        assert offsets == list(range(len(offsets)))


def test_a_partition_pruned_empty_goes_on_where_it_was(path: Path) -> None:
    assert append_one(path, partitions=1) is None
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM records")
        connection.execute("VACUUM")
    assert append_one(path, partitions=1) is None
    assert [(partition, offset) for partition, offset, *_rest in stored_in(path)] == [(0, 1)]


def test_appended_at_is_the_wall_clock_of_the_append(path: Path) -> None:
    before = time.time()
    append_one(path)
    with closing(sqlite3.connect(path)) as connection:
        ((appended_at,),) = connection.execute("SELECT appended_at FROM records")
    assert before <= appended_at <= time.time()


def test_a_log_keeps_its_number_of_partitions_and_says_so(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append_one(path, partitions=3)
    with closing_writer(path, partitions=8) as writer:
        assert writer.partitions() == 3
    assert "made with 3 partitions" in caplog.text


@contextmanager
def closing_writer(path: Path, **options: int) -> Iterator[SqliteWriter]:
    writer = SqliteWriter(SqliteOptions(path=str(path), **options), BufferLimits())
    yield writer
    writer.close(5.0)


def test_a_partition_that_does_not_exist_is_refused_and_harms_no_other_record(path: Path) -> None:
    with closing_writer(path, partitions=3) as writer:
        with pytest.raises(ValueError, match=r"partition 3 does not exist: .* has 0 to 2"):
            writer.append([NewRecord("k", b"1", partition=3)], Outcomes())
        done = Outcomes()
        writer.append([NewRecord("k", b"2", partition=2)], done)
        assert done.wait() == [None]


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    with closing_writer(tmp_path / "no" / "log.db") as writer:
        with pytest.raises(LogUnusable, match=r"folder .*no does not exist"):
            writer.append([record(b"1")], Outcomes())
        with pytest.raises(LogUnusable):  # the old answer, without touching the disk again
            writer.append([record(b"1")], Outcomes())
    assert not (tmp_path / "no").exists()


def test_a_folder_is_no_log(tmp_path: Path) -> None:
    with closing_writer(tmp_path) as writer, pytest.raises(LogUnusable, match="it is a folder"):
        writer.partitions()


def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_text("my precious notes " * 100)
    with closing_writer(path) as writer, pytest.raises(LogUnusable, match="not an SQLite database"):
        writer.append([record(b"1")], Outcomes())
    assert path.read_text() == "my precious notes " * 100


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
    before = path.read_bytes()
    with closing_writer(path) as writer, pytest.raises(LogUnusable, match="another program's"):
        writer.append([record(b"1")], Outcomes())
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_with_both_numbers(path: Path) -> None:
    append_one(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 9")
    with closing_writer(path) as writer, pytest.raises(LogUnusable, match=r"schema 9 .* up to 1"):
        writer.append([record(b"1")], Outcomes())
    assert len(stored_in(path)) == 1


def test_a_damaged_log_is_refused(path: Path) -> None:
    append_one(path)
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xee" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    with closing_writer(path) as writer, pytest.raises(LogUnusable, match=r"damaged|can't be used"):
        writer.append([record(b"1")], Outcomes())


def test_a_log_that_is_deleted_in_use_fails_instead_of_swallowing(path: Path) -> None:
    with closing_writer(path) as writer:
        done = Outcomes()
        writer.append([record(b"1")], done)
        assert done.wait() == [None]
        os.remove(path)

        writer.append([record(b"2")], done)

        assert isinstance(done.wait(2)[1], LogUnusable)


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder in which an unprivileged user stands, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="thorn-test-"))
    folder.chmod(0o755)
    root = os.geteuid() == 0
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o700)
    shutil.rmtree(folder)


def become_unprivileged() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_a_read_only_file_is_refused(folder_of_nobody: Path) -> None:
    path = folder_of_nobody / "log.db"
    append_one(path)
    path.chmod(0o444)
    folder_of_nobody.chmod(0o777)
    become_unprivileged()
    with closing_writer(path) as writer, pytest.raises(LogUnusable, match="write access"):
        writer.append([record(b"1")], Outcomes())


def test_a_read_only_folder_is_refused(folder_of_nobody: Path) -> None:
    folder_of_nobody.chmod(0o555)
    become_unprivileged()
    with (
        closing_writer(folder_of_nobody / "log.db") as writer,
        pytest.raises(LogUnusable, match="write access"),
    ):
        writer.append([record(b"1")], Outcomes())


def test_a_full_disk_is_told_apart_from_a_full_log(path: Path) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert "disk that holds" in str(sqlite_schema.explain(error, str(path)))
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    assert isinstance(sqlite_schema.explain(error, str(path)), LogUnavailable)


def test_a_file_that_can_not_grow_refuses_records_and_recovers(path: Path) -> None:
    with closing_writer(path) as writer:
        done = Outcomes()
        writer.append([record(b"1")], done)
        assert done.wait() == [None]
        connection = writer._connection
        assert connection is not None
        connection.execute("PRAGMA max_page_count = 1")  # the engine's own full disk: no page more than now

        writer.append([record(b"x" * 100_000)], done)
        assert "is full" in str(done.wait(2)[1])

        connection.execute("PRAGMA max_page_count = 1000000")
        writer._state.refusal = None
        writer.append([record(b"2")], done)
        assert done.wait(3)[2] is None
    assert [value for *_rest, value in stored_in(path)] == [b"1", b"2"]


OLD: tuple[tuple[str, ...], ...] = sqlite_schema.STEPS
NEW = (*OLD, ("ALTER TABLE log ADD COLUMN note TEXT", "UPDATE log SET note = 'migrated'"))


def test_an_older_schema_is_migrated_and_keeps_its_data(path: Path) -> None:
    append_one(path)
    connection, identity = sqlite_schema.open_log(str(path), 12, steps=NEW)
    with closing(connection):
        assert connection.execute("SELECT id, note FROM log").fetchall() == [(identity.log_id, "migrated")]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(NEW),)
    assert len(stored_in(path)) == 1


def test_a_migration_that_fails_half_way_changes_nothing(path: Path) -> None:
    append_one(path)
    broken = (*OLD, ("ALTER TABLE log ADD COLUMN note TEXT", "UPDATE nowhere SET x = 1"))
    with pytest.raises(LogUnusable, match="nowhere"):
        sqlite_schema.open_log(str(path), 12, steps=broken)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(OLD),)
        assert "note" not in {row[1] for row in connection.execute("PRAGMA table_info(log)")}
    assert append_one(path) is None


def test_the_worked_example_of_a_record_id() -> None:
    assert sqlite_schema.record_id(3, 7) == 3298534883335


def test_under_gevent_the_hub_turns_while_the_disk_works(path: Path) -> None:
    program = """
from gevent import monkey; monkey.patch_all()
import sqlite3, sys, threading, gevent, gevent.event
from producer.log import sqlite_schema
from producer.log.buffer import BufferLimits
from producer.log.contract import NewRecord
from producer.log.sqlite import SqliteOptions, SqliteWriter

native = monkey.get_original("threading", "get_ident")
hub, seen = native(), set()
connect = sqlite_schema._connect
def watched(*args):
    connection = connect(*args)
    connection.set_trace_callback(lambda sql: seen.add(native()))
    return connection
sqlite_schema._connect = watched

ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1
gevent.spawn(tick)

writer = SqliteWriter(SqliteOptions(path=sys.argv[1]), BufferLimits())
writer.partitions()
holder = sqlite3.connect(sys.argv[1], isolation_level=None)
holder.execute("BEGIN IMMEDIATE")
done = gevent.event.AsyncResult()
writer.append([NewRecord("k", b"v")], done.set)
assert not writer.flush(0.5)
assert ticks > 30, ticks
holder.execute("ROLLBACK")
assert done.get(timeout=20) is None
writer.close(5)
holder.close()
assert seen and hub not in seen
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)


def test_importing_the_writer_does_not_load_sqlite3() -> None:
    program = "import sys, producer.log.sqlite; sys.exit('sqlite3' in sys.modules or 'gevent' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
