"""``thorn-worker demo``, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_for
from thorn_worker.demo.cast import cast, planned

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "thorn_worker", "demo")

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("demo")]


@dataclass(frozen=True)
class Played:
    """A small demo that was kept."""

    code: int
    ledger: dict[str, Any]
    story: str

    @property
    def folder(self) -> Path:
        return Path(self.ledger["folder"])


def environment(tmp: Path) -> dict[str, str]:
    """Settings of the user's own must not reach the demo."""
    return os.environ | {
        "TMPDIR": str(tmp),
        "THORN_LOG": "sqlite:////nowhere/own.db",
        "THORN_CHUNKSIZE": "many",
    }


def recount(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "--recount", str(folder), *options], cwd=ROOT, capture_output=True, text=True, timeout=30
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    run = subprocess.run(
        [*COMMAND, "--events", "300", "--json", "--keep"],
        cwd=ROOT,
        env=environment(tmp_path_factory.mktemp("demo")),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.stdout, run.stderr
    return Played(run.returncode, json.loads(run.stdout), run.stderr)


def test_nothing_is_lost_although_the_worker_was_killed(played: Played) -> None:
    ledger = played.ledger
    assert played.code == 0, played.story
    assert ledger["lost"] == []
    assert ledger["events_sent"] == ledger["events_acknowledged"] == 300
    assert ledger["owed"] == planned(cast(), 300)
    assert ledger["owed"] == ledger["delivered"] + sum(ledger["dead"].values())
    assert ledger["pending"] == ledger["cancelled"] == ledger["invalid_signatures"] == 0
    assert "SIGKILL" in played.story


def test_receivers_got_what_they_deserve(played: Played) -> None:
    lines = {line["kind"]: line for line in played.ledger["lines"]}
    # One 410, then nothing is sent there any more.
    assert lines["gone"]["dead"]["gone"] >= 1
    assert lines["gone"]["dead"].keys() <= {"gone", "disabled"}
    for kind in ("hanging", "refusing"):
        assert lines[kind]["dead"] == {"exhausted": lines[kind]["owed"]}
    for kind in ("fast", "slow"):
        assert lines[kind]["delivered"] == lines[kind]["owed"]
    assert lines["flaky"]["retried"] > 0


def test_the_crash_repeated_no_more_than_was_not_committed(played: Played) -> None:
    # A third of all is more than two seconds of the worker's pace, which commits every second.
    assert played.ledger["repeated"] < played.ledger["owed"] / 3


def test_a_delivery_that_is_nowhere_to_be_found_fails(played: Played, tmp_path: Path) -> None:
    # Given the folder of a demo, of which the receivers never saw one delivery
    folder = tmp_path / "doctored"
    folder.mkdir()
    for file in played.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    requests = (folder / "requests.tsv").read_text().splitlines(keepends=True)
    missing = next(line.split("\t")[1] for line in requests if line.split("\t")[3] == "200")
    (folder / "requests.tsv").write_text("".join(line for line in requests if missing not in line))

    # When the ledger is made
    as_json, as_table = recount(folder, "--json"), recount(folder)

    # Then exactly that one is lost, and the exit code says so
    assert as_json.returncode == as_table.returncode == 1
    assert json.loads(as_json.stdout)["lost"] == [missing]
    assert "LOST: 1 of " in as_table.stdout
    assert missing in as_table.stdout
    assert str(folder) in as_table.stdout
    assert recount(played.folder).returncode == 0


@pytest.fixture
def running(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A demo in the middle of its first act with a worker."""
    command = [*COMMAND, "--events", "300"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "services send" in line:
                break
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing_behind(
    running: "subprocess.Popen[str]", number: signal.Signals, tmp_path: Path
) -> None:
    # Given a demo with receivers, a worker and services
    wait_for(lambda: len(children(running.pid)) >= 4, what="four processes of the demo")
    started = children(running.pid)

    # When it is interrupted
    running.send_signal(number)
    running.communicate(timeout=10)

    # Then it ends as shells expect, and neither a process nor a file is left
    assert running.returncode == 130
    assert [pid for pid in started if alive(pid)] == []
    assert list(tmp_path.glob("thorn-demo-*")) == []


def test_a_process_that_fails_ends_the_demo(running: "subprocess.Popen[str]", tmp_path: Path) -> None:
    # Given a demo, one of whose processes dies by itself
    wait_for(lambda: len(children(running.pid)) >= 4, what="four processes of the demo")
    started = children(running.pid)
    receivers = min(started)
    os.kill(receivers, signal.SIGKILL)

    # Then it names the process and the file with its words, keeps the files, and ends the others
    said, _ = running.communicate(timeout=10)
    assert running.returncode == 1
    assert "receivers ended with code -9" in said
    assert len(list(tmp_path.glob("thorn-demo-*/receivers.log"))) == 1
    assert [pid for pid in started if alive(pid)] == []


def children(parent: int) -> list[int]:
    """Process ids, from /proc where there is one: slim images have no ps."""
    if Path("/proc/self/stat").exists():
        return [pid for pid, ppid in proc_parents() if ppid == parent]
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True, timeout=10
    ).stdout.splitlines()
    return [int(pid) for pid, ppid in map(str.split, listed) if int(ppid) == parent]


def proc_parents() -> Iterator[tuple[int, int]]:
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = file.read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        yield int(file.parent.name), int(text.rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
