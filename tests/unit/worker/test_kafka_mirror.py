"""The temporary copy of a topic, and the line that shows how far its reading is."""

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from producer.errors import LogUnusable
from thorn_worker.log import kafka_scan
from thorn_worker.log.kafka_mirror import Mirror, Stored
from thorn_worker.log.kafka_scan import Progress


def by_number(key: bytes) -> tuple[int, int] | None:
    return (int(key[1:]), 0) if key.startswith(b"r") else None


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with closing(Mirror(by_number)) as mirror:
        yield mirror


def test_the_last_value_of_a_key_stands_within_a_partition(mirror: Mirror) -> None:
    mirror.take(1, [(b"r10", b"a"), (b"r9", b"b"), (b"r10", b"c"), (b"r8", b"d"), (b"r8", None)])
    mirror.take(0, [(b"r9", b"e")])
    mirror.take(1, [(b"r9", None), (b"r7", None), (b"r11", b""), (None, b"x"), (b"other", b"y")])
    assert list(mirror.rows()) == [Stored(0, b"r9", b"e"), Stored(1, b"r10", b"c"), Stored(1, b"r11", b"")]


def test_a_large_copy_lies_in_a_file_that_has_no_name(mirror: Mirror) -> None:
    mirror.take(0, [(b"r%d" % number, bytes(100_000)) for number in range(100)])
    files = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    (file,) = [file for file in files if "etilqs" in file]  # what SQLite calls its temporary files
    assert file.endswith("(deleted)")


def test_no_room_on_disk_is_one_sentence(mirror: Mirror) -> None:
    mirror._connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(LogUnusable, match=r"can't be kept on disk \(database or disk is full\): free some"):
        mirror.take(0, [(b"r%d" % number, bytes(10_000)) for number in range(100)])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_read_shows_how_far_it_is_and_leaves_an_empty_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(kafka_scan, "QUIET_S", 0.0)
    progress = Progress("thorn.dead", 200)
    progress.advance(90)
    progress.finish()
    assert terminal.getvalue() == "\rreading thorn.dead: 45 %\r\x1b[K"


@pytest.mark.parametrize("terminal, quiet_s", [(io.StringIO(), 0.0), (Terminal(), 60.0), (None, 0.0)])
def test_nothing_is_shown_of_a_short_read_or_where_nobody_looks(
    terminal: io.StringIO | None, quiet_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(kafka_scan, "QUIET_S", quiet_s)
    progress = Progress("thorn.dead", 200)
    progress.advance(90)
    progress.finish()
    assert terminal is None or terminal.getvalue() == ""
