"""``run --processes N``: one command, several workers, and a parent that keeps them going."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.sink import RecordingSink, Rule
from tests.support.system import ROOT, START_S, Ran, System, WorkerProcess, clean_environment
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

_BANNER = re.compile(r"admin http://127\.0\.0\.1:(\d+)/")


class Processes(WorkerProcess):
    """``thorn-worker run --processes N``; what it says is what all of its processes say."""

    def __init__(self, system: System, count: int, first_port: int, *options: str) -> None:
        super().__init__(
            {**system.settings, "admin": f"127.0.0.1:{first_port}"}, system.folder / "processes.log"
        )
        self.arguments = ("-m", "thorn_worker", "run", "--processes", str(count), *options)
        self.ports = range(first_port, first_port + count)
        system.workers.append(self)

    def children(self) -> list[int]:
        """Process ids of the workers."""
        with suppress(OSError):
            return sorted(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))
        return []

    def all_ready(self) -> bool:
        """Every worker answers so on its own port."""
        for port in self.ports:
            self.admin = f"http://127.0.0.1:{port}/"
            with suppress(OSError):
                if self.get("readyz")[0] == 200:
                    continue
            return False
        return True

    def wait_all_ready(self) -> None:
        wait_for(self.all_ready, START_S, what=f"workers on the ports {list(self.ports)}", poll_s=0.05)

    def owned_each(self) -> list[int]:
        """How many partitions each worker owns."""
        found = []
        for port in self.ports:
            self.admin = f"http://127.0.0.1:{port}/"
            found.append(self.owned())
        return found


@pytest.fixture
def system(tmp_path: Path, sink: RecordingSink) -> Iterator[System]:
    with System(tmp_path, sink, subscribers={"order.*": [sink.url(n) for n in range(4)]}) as system:
        yield system


@pytest.fixture
def first_port() -> int:
    """The first of three free ports in a row."""
    for port in range(20_000, 30_000, 3):
        with suppress(OSError), listening(port), listening(port + 1), listening(port + 2):
            return port
    raise AssertionError("there are no three free ports in a row between 20000 and 30000")


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Somebody else has this port."""
    with closing(socket.create_server(("127.0.0.1", port))):
        yield


def run(system: System, *options: str, **settings: object) -> Ran:
    """``thorn-worker run`` that is refused."""
    done = subprocess.run(
        [sys.executable, "-m", "thorn_worker", "run", *options],
        cwd=ROOT,
        env=clean_environment({**system.settings, **settings}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_processes_share_the_work_and_one_that_is_killed_is_replaced(system: System, first_port: int) -> None:
    # Given three workers under one command
    workers = Processes(system, 3, first_port).launch()
    workers.wait_all_ready()
    wait_for(lambda: sorted(workers.owned_each()) == [4, 4, 4], 15, what="equal shares")
    before = workers.children()
    assert len(before) == 3

    # Then their parent has neither the log nor gevent
    opened = [str(file.resolve()) for file in Path(f"/proc/{workers.pid}/fd").iterdir()]
    assert not [name for name in opened if "thorn.db" in name]
    assert "greenlet" not in Path(f"/proc/{workers.pid}/maps").read_text()

    # When one is killed in the middle of its work
    producer = system.producer(300)
    wait_for(lambda: len(system.sink.delivered()) > 100, what="the first deliveries")
    subprocess.run(["kill", "-KILL", str(before[1])], check=True)
    producer.finish()

    # Then another takes its place, and nothing is lost
    account = system.settle()
    assert account.lost == []
    wait_for(lambda: len(workers.children()) == 3, what="a third worker again")
    after = workers.children()
    assert len(set(before) & set(after)) == 2
    assert f"(pid {before[1]}) was ended by SIGKILL" in workers.said()
    workers.wait_all_ready()

    # When the parent is told to stop, then all drain
    assert workers.stop() == 0
    said = workers.said()
    assert said.count("thorn_worker.worker stopped") == 3
    assert "Traceback" not in said
    assert len(_BANNER.findall(said)) == 4


def test_ctrl_c_finishes_what_is_in_flight_and_nothing_is_repeated(system: System, first_port: int) -> None:
    # Given two workers with attempts under way
    workers = Processes(system, 2, first_port).launch()
    workers.wait_all_ready()
    system.sink.set_rules([Rule(delay_s=1.0)])
    system.send(20)
    wait_for(lambda: len(system.sink.requests()) >= 20, what="attempts under way")

    # When Ctrl-C is pressed
    workers._signal(signal.SIGINT)

    # Then both finish theirs, and the next worker repeats none
    assert workers.wait() == 0
    system.sink.set_rules([])
    system.worker()
    account = system.settle()
    assert account.lost == []
    assert account.repeats == 0


def test_workers_whose_parent_is_killed_do_not_go_on_alone(system: System, first_port: int) -> None:
    workers = Processes(system, 2, first_port).launch()
    workers.wait_all_ready()
    children = workers.children()

    workers.kill()

    wait_for(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], 20, what="their end")
    assert workers.said().count("draining after SIGTERM") == 2
    assert workers.said().count("thorn_worker.worker stopped") == 2


def test_one_process_is_the_plain_worker(system: System, first_port: int) -> None:
    worker = Processes(system, 1, first_port).launch()
    worker.wait_all_ready()

    assert worker.children() == []
    assert worker.stop() == 0


def test_a_port_in_use_is_told_once_and_nothing_is_started(system: System, first_port: int) -> None:
    with listening(first_port + 1):
        refused = run(system, "--processes", "3", admin=f"127.0.0.1:{first_port}")

    assert refused.code == 3
    assert refused.err == (
        f"thorn-worker: --processes 3 needs the admin ports {first_port} to {first_port + 2} of 127.0.0.1, "
        f"but {first_port + 1} can't be had (it is in use by another process): free it, or set THORN_ADMIN "
        "to another port\n"
    )
    assert not list(system.folder.glob("*.db"))


def test_more_ports_than_there_are(system: System) -> None:
    refused = run(system, "--processes", "3", admin="127.0.0.1:65534")

    assert refused.code == 3
    assert "needs the admin ports 65534 to 65536 of 127.0.0.1, but 65535 is the last one" in refused.err


@pytest.mark.parametrize("count", ["0", "-1", "two"])
def test_a_number_that_is_none(system: System, count: str) -> None:
    refused = run(system, "--processes", count)

    assert refused.code == 2
    assert "--processes" in refused.err


def test_a_setting_that_is_refused_is_told_once(system: System) -> None:
    refused = run(system, "--processes", "3", event_timeout="61s")

    assert refused.code == 3
    assert refused.err.count("\n") == 1


def test_a_log_that_cannot_be_used_ends_everything(system: System, first_port: int) -> None:
    nowhere = system.folder / "nowhere" / "thorn.db"
    refused = run(
        system, "--processes", "3", "--log", f"sqlite:///{nowhere}", admin=f"127.0.0.1:{first_port}"
    )

    assert refused.code == 4
    assert str(nowhere.parent) in refused.err
    assert refused.err.count("which another start can't mend: all processes end") == 1
    assert "starts again" not in refused.err
