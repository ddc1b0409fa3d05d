"""The SQLite log's file: its tables, how it is opened, and what its errors mean. Shared by producer and
worker.

Record ``id`` is ``partition * 2**40 + offset``: a partition's records lie together in offset order, so
reading and pruning touch one stretch of the file. Example: partition 3, offset 7 is 3298534883335.
"""

import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from producer.errors import LogError, LogFull, LogUnavailable, LogUnusable

#: Stamped into the file's header, so that nobody's other database is taken for a log.
APPLICATION_ID: Final = int.from_bytes(b"Thrn", "big")
#: Bits of a record's id that hold the offset: 10**12 records per partition.
OFFSET_BITS: Final = 40
#: A write-ahead log larger than this is cut when it is next reset.
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
#: How long one statement waits for another process's transaction before it counts as busy.
BUSY_TIMEOUT_S: Final = 5.0

#: Tables of the rows that wait and of the endpoints; the cache of a Kafka log has them too.
ROWS: Final[tuple[str, ...]] = (
    """CREATE TABLE pendings (
        id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, idx INTEGER NOT NULL,
        host TEXT NOT NULL, sub TEXT NOT NULL, delivery_id TEXT NOT NULL, due_at REAL,
        appended_at REAL NOT NULL, expires_at REAL, reason TEXT NOT NULL, value BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX pendings_life ON pendings (partition, offset, idx)",
    "CREATE INDEX pendings_due ON pendings (partition, host, due_at)",
    "CREATE INDEX pendings_sub ON pendings (partition, sub, offset, idx)",
    "CREATE INDEX pendings_delivery ON pendings (partition, delivery_id)",
    "CREATE INDEX pendings_age ON pendings (partition, appended_at)",
    """CREATE INDEX pendings_expiry ON pendings (partition, expires_at)
        WHERE due_at IS NULL AND expires_at IS NOT NULL""",
    """CREATE INDEX pendings_unresolved ON pendings (partition, sub, offset, idx)
        WHERE reason = 'unresolved'""",
    """CREATE TABLE endpoints (
        partition INTEGER NOT NULL, sub TEXT NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (partition, sub)) WITHOUT ROWID""",
)

#: What each schema version adds: version n is reached by the first n steps, and version 0 is an empty file.
#: A step that a release has shipped never changes; a new version is a new step.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE log (
            only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
            id TEXT NOT NULL, partitions INTEGER NOT NULL, created_at REAL NOT NULL)""",
        """CREATE TABLE partitions (
            partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL DEFAULT 0,
            committed INTEGER NOT NULL DEFAULT 0, metadata TEXT NOT NULL DEFAULT '',
            owner TEXT, epoch INTEGER NOT NULL DEFAULT 0)""",
        """CREATE TABLE members (
            id TEXT PRIMARY KEY, boot_id TEXT NOT NULL, beat_at REAL NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE records (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL, appended_at REAL NOT NULL, value BLOB NOT NULL)""",
        *ROWS,
        """CREATE TABLE dead (
            id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, idx INTEGER NOT NULL,
            host TEXT NOT NULL, sub TEXT NOT NULL, delivery_id TEXT NOT NULL, died_at REAL NOT NULL,
            reason TEXT NOT NULL, value BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX dead_life ON dead (partition, offset, idx)",
    ),
)


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """What a log is from its creation on: a random id, which names lives, and its number of partitions."""

    log_id: str
    partitions: int


def record_id(partition: int, offset: int) -> int:
    """Primary key of a record.

    >>> record_id(3, 7)
    3298534883335
    """
    return partition << OFFSET_BITS | offset


def open_log(
    path: str,
    partitions: int,
    *,
    create: bool = True,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    steps: Sequence[Sequence[str]] = STEPS,
) -> tuple[sqlite3.Connection, LogIdentity]:
    """A connection to the log at `path`, made or migrated first if need be.

    partitions: for a new log only; an existing one keeps its own number. The connection is in autocommit mode
    and may be used from one thread at a time. Raises `LogUnusable`, or `LogUnavailable` while others hold the
    file.
    """
    _check_place(path, create)
    mode = "rwc" if create else "rw"
    with explained(path):
        connection = _connect(path, mode, busy_timeout_s)
        try:
            return connection, _prepare(connection, path, partitions, steps)
        except BaseException:
            connection.close()
            raise


def open_read_only(path: str) -> tuple[sqlite3.Connection, LogIdentity]:
    """A connection that can't write and that creates or migrates nothing. Raises `LogError`."""
    _check_place(path, create=False)
    with explained(path):
        connection = _connect(path, "ro", BUSY_TIMEOUT_S)
        try:
            version = _version_of_ours(connection, path, len(STEPS))
            if version != len(STEPS):
                raise LogUnusable(
                    f"{path} has schema {version or 'none'} and this release reads {len(STEPS)}: "
                    "start a worker once, which brings the file up to date"
                )
            return connection, _identity(connection)
        except BaseException:
            connection.close()
            raise


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction.

    The write lock is taken at once, so that nothing inside can fail for being late.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn SQLite's errors into ours, one sentence each."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path) from error


def explain(error: sqlite3.Error, path: str) -> LogError:
    """What an SQLite error means for whoever uses the log."""
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LogUnavailable(f"{path} is locked by another process's transaction; it is tried again")
    if primary == sqlite3.SQLITE_FULL:
        return LogFull(f"the disk that holds {path} is full: free some space there")
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
        return LogUnavailable(f"{path} could not be read or written ({error}): check its disk")
    if primary == sqlite3.SQLITE_NOTADB:
        return LogUnusable(f"{path} is not an SQLite database: name another file; this one was left as it is")
    if primary == sqlite3.SQLITE_CORRUPT:
        return LogUnusable(
            f"{path} is damaged ({error}): stop its users and restore it or recover it with sqlite3"
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return LogUnusable(
            f"{path} can't be opened for writing ({error}): "
            "this process needs write access to the file and to its folder"
        )
    return LogUnusable(f"{path} can't be used as a log: {error}")


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the pages in use; pages freed by pruning are reused and don't count."""
    return (_number(connection, "page_count") - _number(connection, "freelist_count")) * _number(
        connection, "page_size"
    )


def same_file(path: str, opened: os.stat_result) -> bool:
    """False once the file behind an open connection was deleted or replaced: what it takes then is lost."""
    try:
        now = os.stat(path)
    except OSError:
        return False
    return (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino)


def _check_place(path: str, create: bool) -> None:
    place = Path(path)
    if not place.parent.is_dir():
        raise LogUnusable(
            f"the log {path} can't be opened: its folder {place.parent} does not exist, make it first"
        )
    if place.is_dir():
        raise LogUnusable(f"the log {path} can't be opened: it is a folder, name a file")
    if not create and not place.exists():
        raise LogUnusable(
            f"the log {path} does not exist: check the setting `log`, or start a worker, which makes it"
        )


def _connect(path: str, mode: str, busy_timeout_s: float) -> sqlite3.Connection:
    place = f"file:{quote(os.path.abspath(path))}?mode={mode}"
    return sqlite3.connect(
        place, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )


def _prepare(
    connection: sqlite3.Connection, path: str, partitions: int, steps: Sequence[Sequence[str]]
) -> LogIdentity:
    if not _version_of_ours(connection, path, len(steps)):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts only while the file is empty
    use_wal(connection, path)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    with transaction(connection):
        version = _version_of_ours(connection, path, len(steps))
        if (
            version
        ):  # writes nothing, but asks for the right to: a read-only file is refused now and not at a send
            connection.execute("DELETE FROM log WHERE only_row <> 1")
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement)
        if version < len(steps):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(steps)}")
        if connection.execute("SELECT 1 FROM log").fetchone() is None:
            identity = (uuid.uuid4().hex, partitions, time.time())
            connection.execute("INSERT INTO log VALUES (1, ?, ?, ?)", identity)
            connection.executemany(
                "INSERT INTO partitions (partition) VALUES (?)", ((number,) for number in range(partitions))
            )
        return _identity(connection)


def _version_of_ours(connection: sqlite3.Connection, path: str, known: int) -> int:
    """Schema version of the file; 0 if it is still empty.

    Raises `LogUnusable` if it is not for us to touch.
    """
    version = _number(connection, "user_version")
    if _number(connection, "application_id") != APPLICATION_ID:
        if version or connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None:
            raise LogUnusable(
                f"{path} is another program's SQLite database: name another file; this one was left as it is"
            )
        return 0
    if version > known:
        raise LogUnusable(
            f"{path} has schema {version} and this release knows up to {known}: "
            "run the newer release that wrote it"
        )
    return version


def use_wal(connection: sqlite3.Connection, path: str) -> None:
    """Switch to write-ahead logging. SQLite's own busy timeout does not cover the switch, and every process
    that finds a new file tries it at the same time."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise LogUnusable(f"{path} lies on a file system without shared memory: put it on a local disk")
        return


def _identity(connection: sqlite3.Connection) -> LogIdentity:
    log_id, partitions = connection.execute("SELECT id, partitions FROM log").fetchone()
    return LogIdentity(log_id, partitions)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)
