"""What a worker refuses at its start: one sentence, the right exit code, no traceback, nothing touched."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.limits import few_files, permissions_count
from tests.support.sink import RecordingSink
from tests.support.system import System, WorkerProcess
from tests.support.waiting import wait_for

REFUSED = 3
NO_LOG = 4

pytestmark = pytest.mark.e2e


def refused(worker: WorkerProcess, code: int) -> str:
    """Start it; it must end with `code` and one sentence, which is returned."""
    worker.launch()
    assert worker.wait(20) == code, worker.said()
    said = worker.said()
    assert "Traceback" not in said
    sentences = [line for line in said.splitlines() if line.startswith("thorn-worker: ")]
    assert len(sentences) == 1, said
    assert [line for line in said.splitlines() if line not in sentences and " WARNING " not in line] == []
    return sentences[0]


def log_file(system: System) -> Path:
    return system.folder / "thorn.db"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def system(tmp_path: Path, sink: RecordingSink) -> System:
    """A log with one record in it, and no worker."""
    folder = tmp_path / "logs"
    folder.mkdir()
    system = System(folder, sink, subscribers={"order.*": sink.url()})
    with system:
        system.send(1)
    return system


def test_no_log_is_configured(system: System) -> None:
    del system.settings["log"]
    assert "set THORN_LOG" in refused(system.new_worker(), REFUSED)


def test_a_misspelt_setting_is_named_with_the_right_one(system: System) -> None:
    said = refused(system.new_worker(retry_shedule="1s"), REFUSED)
    assert "THORN_RETRY_SHEDULE" in said
    assert "THORN_RETRY_SCHEDULE" in said


def test_a_bad_value_is_named_with_its_rule(system: System) -> None:
    said = refused(system.new_worker(event_timeout="61s"), REFUSED)
    assert "61s" in said
    assert "60 s" in said


def test_an_unknown_name_of_the_platform_is_only_warned_of(system: System) -> None:
    with system:
        worker = system.worker(worker_port_9464_tcp="tcp://10.0.0.1:9464")
        assert "THORN_WORKER_PORT_9464_TCP" in worker.said()
        assert worker.stop() == 0


def test_an_admin_port_in_use(system: System) -> None:
    with system:
        first = system.worker()
        address = first.admin.removeprefix("http://").rstrip("/")
        assert f"{address} is in use" in refused(system.new_worker(admin=address), REFUSED)


@pytest.mark.parametrize("limit", [300, 2255])
def test_too_few_open_files_are_refused_with_both_numbers(system: System, limit: int) -> None:
    said = refused(system.new_worker(few_files(limit)), REFUSED)
    assert "2256" in said
    assert str(limit) in said
    assert "THORN_MAX_IN_FLIGHT" in said


def test_just_enough_open_files_are_enough(system: System) -> None:
    with system:
        worker = system.new_worker(few_files(300), max_in_flight=44).start()
        assert worker.stop() == 0


def test_a_log_without_its_folder(system: System) -> None:
    missing = system.folder / "nowhere" / "thorn.db"
    said = refused(system.new_worker(log=f"sqlite:///{missing}"), NO_LOG)
    assert str(missing.parent) in said
    assert not missing.parent.exists()


def test_a_corrupt_log(system: System) -> None:
    # Given a log whose first page is overwritten
    with log_file(system).open("r+b") as file:
        file.write(b"this is no database at all" * 40)
    before = digest(log_file(system))
    assert str(log_file(system)) in refused(system.new_worker(), NO_LOG)
    assert digest(log_file(system)) == before


def test_a_file_of_somebody_else(system: System) -> None:
    other = system.folder / "accounts.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE accounts (id INTEGER)")
        connection.execute("INSERT INTO accounts VALUES (7)")
        connection.commit()
    before = digest(other)
    assert "another program" in refused(system.new_worker(log=f"sqlite:///{other}"), NO_LOG)
    assert digest(other) == before


def test_a_newer_schema(system: System) -> None:
    with closing(sqlite3.connect(log_file(system))) as connection:
        connection.execute("PRAGMA user_version = 999")
    said = refused(system.new_worker(), NO_LOG)
    assert "999" in said
    assert "newer release" in said
    with closing(sqlite3.connect(log_file(system))) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (1,)


def test_a_read_only_log(system: System) -> None:
    log_file(system).chmod(0o400)
    before = digest(log_file(system))
    assert "write access" in refused(system.new_worker(permissions_count()), NO_LOG)
    assert digest(log_file(system)) == before


def test_a_log_that_is_deleted_under_a_worker_is_said_and_nothing_is_made_up(system: System) -> None:
    with system:
        # Given a running worker
        worker = system.worker()
        sink = system.sink
        wait_for(lambda: len(sink.delivered()) == 1, what="the first delivery")

        # When its log is deleted, then it says so, makes no new file, and still ends when told
        for path in system.folder.glob("thorn.db*"):
            path.unlink()
        wait_for(lambda: "was deleted or replaced" in worker.said(), 15, what="the worker to notice")
        assert not log_file(system).exists()
        assert worker.stop(25) == 0
        assert "Traceback" not in worker.said()
