"""The local cache of the Kafka store, without a broker: its folder, its file, messages as changes of it."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from producer.errors import LogUnusable
from producer.log.kafka_options import KafkaOptions
from producer.model import Life
from tests.support.deliveries import HOST, delivery, pending
from tests.support.hub import wait_on_hub
from thorn_worker.store import kafka_cache, queries
from thorn_worker.store.contract import EndpointState, Restored, Selection
from thorn_worker.store.kafka_cache import CHECKPOINT_AGE_S, Cache, Checkpoint
from thorn_worker.store.kafka_changes import NEVER, Changes, Mark, stored_value
from thorn_worker.store.kafka_folder import Folder
from thorn_worker.store.rows import encode_endpoint, encode_pending, endpoint_key, host_key, pending_key

OPTIONS = KafkaOptions(servers=("k1:9092", "k2:9092"), prefix="thorn")


class Caches:
    """Opens the cache of one folder again and again, as processes do that follow each other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: list[Cache] = []

    def open(self, state_id: str = "state", topic_id: str = "now") -> Cache:
        self.close()
        self._opened.append(Cache(self._folder, state_id, topic_id))
        self._opened[-1].open()
        return self._opened[-1]

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close(5.0)


@pytest.fixture
def caches(tmp_path: Path) -> Iterator[Caches]:
    caches = Caches(tmp_path)
    yield caches
    caches.close()


def write(cache: Cache, changes: Changes, offset: int = 1, at: float | None = None) -> None:
    settled: list[bool] = []
    cache.write(changes.write, changes.partition, offset, time.time() if at is None else at, settled.append)
    wait_on_hub(lambda: settled == [True], what="the transaction")


def filled(cache: Cache, partition: int = 0, offset: int = 1, at: float | None = None) -> None:
    changes = Changes(partition, "now")
    row = pending("now", partition, 7)
    changes.put(row, encode_pending(row))
    write(cache, changes, offset, at)


def restored(cache: Cache, partition: int = 0, committed: int = 0) -> Restored:
    return cache.read(partial(queries.restore, partition=partition, committed=committed))


# -- the folder ------------------------------------------------------------------------------------


def test_processes_share_no_folder_and_the_next_one_finds_the_first_again(tmp_path: Path) -> None:
    first, second = Folder(OPTIONS, str(tmp_path)), Folder(OPTIONS, str(tmp_path))
    assert (first.path.name, second.path.name) == ("0", "1")
    first.close()
    heir = Folder(OPTIONS, str(tmp_path))
    assert heir.path == first.path
    second.close()
    heir.close()


def test_logs_share_no_folder(tmp_path: Path) -> None:
    others = (replace(OPTIONS, prefix="other"), replace(OPTIONS, servers=("elsewhere:9092",)))
    folders = [Folder(options, str(tmp_path)) for options in (OPTIONS, *others)]
    assert len({folder.parent for folder in folders}) == 3
    same = Folder(replace(OPTIONS, servers=("k2:9092", "k1:9092")), str(tmp_path))
    assert same.parent == folders[0].parent
    for folder in (*folders, same):
        folder.close()


def test_without_a_setting_it_lies_among_the_users_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with closing(Folder(OPTIONS, None)) as folder:
        assert folder.parent.parent == tmp_path / ".cache" / "thorn-worker"
        assert folder.path.stat().st_mode & 0o77 == 0  # bodies of deliveries are nobody else's business
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    with closing(Folder(OPTIONS, None)) as folder:
        assert folder.parent.parent == tmp_path / "elsewhere" / "thorn-worker"


def test_a_folder_that_can_not_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogUnusable, match="THORN_STATE_DIR"):
        Folder(OPTIONS, str(tmp_path / "file"))


# -- the file --------------------------------------------------------------------------------------


def test_rows_and_checkpoint_are_found_again(caches: Caches) -> None:
    at = time.time()
    filled(caches.open(), offset=12, at=at)
    cache = caches.open()
    assert cache.checkpoint(0) == Checkpoint("state", "now", 12, at)
    assert restored(cache).lives == {(7, 0)}
    assert cache.checkpoint(1) is None


@pytest.mark.parametrize(
    "age_s, state_id, topic_id",
    [
        (CHECKPOINT_AGE_S + 1, "state", "now"),
        (-60.0, "state", "now"),
        (0.0, "another", "now"),
        (0.0, "state", "another"),
    ],
    ids=["too old", "from the future", "another state topic", "another deliveries topic"],
)
def test_what_is_of_no_use_is_dropped_at_the_start(
    caches: Caches, age_s: float, state_id: str, topic_id: str
) -> None:
    cache = caches.open()
    filled(cache, 0)
    filled(cache, 1, at=time.time() - age_s)
    if (state_id, topic_id) != ("state", "now"):
        assert restored(caches.open(state_id, topic_id), 0).rows == 0
        return
    cache = caches.open()
    assert (restored(cache, 0).rows, restored(cache, 1).rows) == (1, 0)
    assert cache.checkpoint(1) is None


def test_a_damaged_file_is_dropped_at_the_start(caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    path = Path((cache := caches.open()).path)
    filled(cache)
    caches.close()
    path.write_bytes(b"no database" * 1000)

    cache = caches.open()

    assert cache.checkpoint(0) is None
    filled(cache)
    assert "damaged" in caplog.text


def test_a_file_that_is_damaged_in_use_ends_the_worker_and_is_not_found_by_the_next(caches: Caches) -> None:
    cache = caches.open()
    for partition in range(40):
        filled(cache, partition)
    with closing(sqlite3.connect(cache.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = os.path.getsize(cache.path)
    with open(cache.path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    with pytest.raises(LogUnusable):
        restored(cache)
    with pytest.raises(LogUnusable, match="restart the worker"):
        restored(cache)

    assert not os.path.exists(cache.path)
    assert caches.open().checkpoint(0) is None


def test_a_file_of_another_release_is_dropped(caches: Caches) -> None:
    cache = caches.open()
    filled(cache)
    caches.close()
    with closing(sqlite3.connect(cache.path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert restored(caches.open()).rows == 0


def test_a_partition_is_dropped_whole_and_no_other(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_cache, "DROP_ROWS", 100)
    cache = caches.open()
    changes = Changes(0, "now")
    for offset in range(250):
        row = pending("now", 0, offset)
        changes.put(row, b"")
    changes.take(endpoint_key("s1"), encode_endpoint(EndpointState(sub="s1", host=HOST)), 0.0)
    write(cache, changes)
    filled(cache, 1)

    cache.drop(0)

    assert (restored(cache, 0).rows, restored(cache, 0).endpoints) == (0, {})
    assert cache.checkpoint(0) is None
    assert restored(cache, 1).rows == 1


# -- messages --------------------------------------------------------------------------------------


def test_the_last_message_of_a_key_counts(caches: Caches) -> None:
    cache = caches.open()
    row, state = pending("now", 0, 7), EndpointState(sub="s1", host=HOST)
    changes = Changes(0, "now")
    for value in (encode_pending(row), None, encode_pending(replace(row, reason="throttled"))):
        changes.take(pending_key(row.life), value, 0.0)
    for endpoint in (encode_endpoint(state), encode_endpoint(replace(state, failures=2))):
        changes.take(endpoint_key("s1"), endpoint, 0.0)
    write(cache, changes)

    found = restored(cache)
    assert (found.rows, found.endpoints) == (1, {"s1": replace(state, failures=2)})
    key = pending_key(row.life)
    value = cache.read(lambda connection: stored_value(connection, 0, key, "now"))
    assert value == encode_pending(replace(row, reason="throttled"))

    gone = Changes(0, "now")
    gone.take(pending_key(row.life), None, 0.0)
    gone.take(endpoint_key("s1"), None, 0.0)
    write(cache, gone)
    assert restored(cache) == Restored(0, frozenset(), {}, frozenset(), {})


def test_rows_of_an_earlier_deliveries_topic_are_kept_apart_and_count_as_older(caches: Caches) -> None:
    cache = caches.open()
    changes = Changes(0, "now")
    for topic_id in ("now", "before", "long before"):
        row = pending(topic_id, 0, 7, delivery=delivery("d", sub=topic_id))
        changes.put(row, encode_pending(row))
    write(cache, changes)

    assert restored(cache).rows == 3
    assert restored(cache).lives == {(7, 0)}  # of the present topic alone
    every = Selection(hosts=[HOST], below_offset=8)
    chosen = cache.read(partial(queries.select, partition=0, selection=every, limit=10, after=None))
    assert [row.life.topic_id for row in chosen][2] == "now"
    assert {row.life.topic_id for row in chosen} == {"now", "before", "long before"}

    gone = Changes(0, "now")
    gone.take(pending_key(Life("before", 0, 7, 0)), None, 0.0)
    write(cache, gone)
    assert restored(cache).rows == 2


def test_what_can_not_be_read_is_kept_counts_as_stored_and_is_never_due(
    caches: Caches, caplog: pytest.LogCaptureFixture
) -> None:
    cache = caches.open()
    not_a_number = encode_pending(pending("now", 0, 3, appended_at=float("nan")))
    changes = Changes(0, "now")
    for offset, value in enumerate(
        (b"\xc1", encode_pending(pending("now", 0, 1))[:-3], b"\x80", not_a_number)
    ):
        changes.take(pending_key(Life("now", 0, offset, 0)), value, 50.0)
    for key in (
        b"",
        b"p/now/x/0",
        b"p/now/1/0/9",
        b"p/now/1",
        b"p/now/ 1/0",
        b"p/now/-1/0",
        b"?",
        host_key("h"),
    ):
        changes.take(key, b"value", 50.0)
    changes.take(b"p/now/%d/0" % 2**63, b"value", 50.0)
    changes.take(b"e/\xff", b"value", 50.0)
    write(cache, changes)

    found = restored(cache)
    assert found.lives == {(0, 0), (1, 0), (2, 0), (3, 0)}
    assert found.hosts == {"": NEVER}
    assert found.endpoints == {}
    assert "can't be read and is left alone" in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("writer", None)],
        [("writer", b"a/b/c")],
        [("writer", b"a/1")],
        [("other", b"a/1/2")],
        [("writer", b"\xff")],
    ],
)
def test_a_message_without_our_mark_is_nobodys(headers: list[tuple[str, bytes | None]]) -> None:
    assert Mark.of(headers) == Mark("", -1, -1)


def test_a_mark_is_read_as_it_was_written() -> None:
    assert Mark.of([("x", b""), Mark("me", 7, 12).header()]) == Mark("me", 7, 12)
