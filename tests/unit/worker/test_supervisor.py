"""The parent of several workers, with small programs in the workers' place: lives, back-off, the end.

With real workers: `tests.e2e.test_processes`.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.system import ROOT, clean_environment
from tests.support.waiting import wait_for
from thorn_worker.supervisor import Plan, this_program

#: A parent that is quicker than the real one: pauses of 50 ms, doubled up to 200 ms.
PARENT = """
import json, sys
from thorn_worker import logs
from thorn_worker.supervisor import Plan, Supervisor, Timing

plan = json.loads(sys.argv[1])
logs.set_up("info", "text")
timing = Timing(first_s=0.05, longest_s=0.2, steady_s=float(sys.argv[2]), grace_s=0.5)
sys.exit(Supervisor(Plan(**{**plan, "admin": tuple(plan["admin"])}), timing).run())
"""

#: Lines that every child begins with: it writes down each of its starts.
CHILD = """
import os, signal, sys, time
def note(word):
    with open(sys.argv[1], "a") as lives:
        lives.write(f"{os.environ['THORN_ADMIN'][-1]} {os.getpid()} {word}\\n")
def drain(number, frame):
    note("drained")
    os._exit(0)
"""

#: A child that lives until it is told to drain.
OBEYS = CHILD + "signal.signal(signal.SIGTERM, drain)\nnote('up')\ntime.sleep(100)"


class Parent:
    """A running supervisor. lives: (child, pid, word) for each word that a child has noted."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self._folder = folder
        self.process = process

    @property
    def lives(self) -> list[tuple[int, int, str]]:
        file = self._folder / "lives"
        lines = file.read_text().splitlines() if file.exists() else []
        return [
            (int(child), int(pid), word) for child, pid, *words in map(str.split, lines) for word in words
        ]

    def said(self) -> str:
        return (self._folder / "said").read_text()

    def up(self, child: int) -> int:
        """The process id of that child once it is up (again)."""
        wait_for(lambda: self._last(child)[1] == "up", what=f"child {child} to be up")
        return self._last(child)[0]

    def _last(self, child: int) -> tuple[int, str]:
        return next(((pid, word) for one, pid, word in reversed(self.lives) if one == child), (0, ""))

    def wait(self, timeout_s: float = 20.0) -> int:
        return self.process.wait(timeout_s)


@contextmanager
def parent_of(
    folder: Path, program: str, processes: int = 1, steady_s: float = 60.0, **changes: object
) -> Iterator[Parent]:
    """A supervisor of so many children that run this program."""
    plan = {
        "processes": processes,
        "command": [sys.executable, "-c", program, str(folder / "lives")],
        "consent": [],
        "admin": ["127.0.0.1", 9460],
        "worker_id": None,
        "drain_timeout_s": 0.5,
        **changes,
    }
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, json.dumps(plan), str(steady_s)],
            cwd=ROOT,
            env=clean_environment({}),
            stderr=said,
        )
    parent = Parent(folder, process)
    try:
        yield parent
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        wait_for(lambda: not any(alive(pid) for _, pid, _ in parent.lives), what="all children to be gone")


def alive(pid: int) -> bool:
    """It runs: neither gone nor waiting to be buried."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def test_each_child_has_an_address_and_an_id_of_its_own() -> None:
    plan = Plan(3, ("worker",), (), ("127.0.0.1", 9464), "blue", 25.0)

    assert plan.environment(2) == {"THORN_ADMIN": "127.0.0.1:9466", "THORN_WORKER_ID": "blue-2"}


def test_without_an_id_there_is_none_and_port_0_stays_any_port() -> None:
    plan = Plan(3, ("worker",), (), ("::1", 0), None, 25.0)

    assert plan.environment(2) == {"THORN_ADMIN": "[::1]:0"}


def test_a_child_is_started_as_this_program_was() -> None:
    show = "from thorn_worker.supervisor import this_program; print(*this_program(), sep='|')"
    shown = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", show, "run", "--processes", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert shown.stdout.strip() == f"{sys.executable}|-X|utf8|-c|{show}"
    assert this_program()[0] == sys.executable


def test_a_child_that_dies_starts_again_with_longer_and_longer_pauses(tmp_path: Path) -> None:
    # Given a child that dies at once, each time
    with parent_of(tmp_path, CHILD + "note('up')\nsys.exit(70)") as parent:
        # Then it is started again, and each pause is twice the one before, up to a limit
        wait_for(lambda: len(parent.lives) >= 5, what="five lives")
        pauses = re.findall(r"it starts again in (\S+) s", parent.said())
        assert pauses[:4] == ["0.05", "0.1", "0.2", "0.2"]

        # And each death is one line that says who and how
        first = parent.said().splitlines()[1]
        assert re.search(
            r"process 0 \(pid \d+\) ended with exit code 70 after \d\.\d s; it starts again", first
        )


def test_after_a_long_life_the_pause_is_short_again(tmp_path: Path) -> None:
    with parent_of(tmp_path, CHILD + "note('up')\nsys.exit(1)", steady_s=0.0) as parent:
        wait_for(lambda: len(parent.lives) >= 4, what="four lives")

        assert set(re.findall(r"it starts again in (\S+) s", parent.said())) == {"0.05"}


def test_the_others_live_on_while_one_is_replaced(tmp_path: Path) -> None:
    with parent_of(tmp_path, OBEYS, processes=3) as parent:
        # Given three children
        before = [parent.up(child) for child in range(3)]

        # When one is killed
        os.kill(before[1], signal.SIGKILL)
        wait_for(lambda: parent.up(1) != before[1], what="another child 1")

        # Then only that one is another, and the line names the signal
        assert [parent.up(0), parent.up(2)] == [before[0], before[2]]
        assert f"process 1 (pid {before[1]}) was ended by SIGKILL" in parent.said()

        # And a child that somebody has told to drain is replaced too: so one restarts them one by one
        os.kill(before[2], signal.SIGTERM)
        wait_for(lambda: parent.up(2) != before[2], what="another child 2")
        assert "ended with exit code 0" in parent.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_all_drain_and_the_exit_code_is_0(tmp_path: Path, number: signal.Signals) -> None:
    with parent_of(tmp_path, OBEYS, processes=3) as parent:
        for child in range(3):
            parent.up(child)

        parent.process.send_signal(number)

        assert parent.wait() == 0
        assert sorted(child for child, _, word in parent.lives if word == "drained") == [0, 1, 2]
        assert f"draining 3 processes after {number.name}" in parent.said()


def test_a_child_that_was_told_before_it_could_listen_has_drained(tmp_path: Path) -> None:
    with parent_of(tmp_path, CHILD + "note('up')\ntime.sleep(100)") as parent:
        parent.up(0)
        parent.process.terminate()

        assert parent.wait() == 0


def test_a_child_that_waits_for_its_next_start_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with parent_of(tmp_path, CHILD + "note('up')\nsys.exit(0)") as parent:
        wait_for(lambda: len(parent.lives) >= 4, what="a few lives")
        parent.process.terminate()

        assert parent.wait(5) == 0


def test_a_child_that_does_not_drain_in_time_is_killed_and_that_is_a_failure(tmp_path: Path) -> None:
    deaf = CHILD + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nnote('up')\ntime.sleep(100)"
    with parent_of(tmp_path, deaf) as parent:
        parent.up(0)
        parent.process.terminate()

        assert parent.wait() == 1
        assert "was ended by SIGKILL after" in parent.said()
        assert "instead of draining" in parent.said()


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    slow = (
        CHILD
        + "signal.signal(signal.SIGTERM, lambda *_: note('told'))\nnote('up')\n"
        + "time.sleep(60)\n" * 2
    )
    with parent_of(tmp_path, slow, processes=2, drain_timeout_s=60.0) as parent:
        for child in range(2):
            parent.up(child)
        parent.process.terminate()
        wait_for(lambda: [word for *_, word in parent.lives].count("told") == 2, what="both to be told")

        parent.process.terminate()

        assert parent.wait(5) == 128 + signal.SIGTERM
        wait_for(lambda: not any(alive(pid) for _, pid, _ in parent.lives), what="both to be gone")


@pytest.mark.parametrize("code", [2, 3, 4])
def test_what_another_start_cannot_mend_ends_everything_with_that_code(tmp_path: Path, code: int) -> None:
    refused = (
        CHILD
        + f"""
if os.environ["THORN_ADMIN"].endswith("1"):
    sys.exit({code})
signal.signal(signal.SIGTERM, drain)
note("up")
time.sleep(100)
"""
    )
    with parent_of(tmp_path, refused, processes=3) as parent:
        assert parent.wait() == code
        (line,) = [line for line in parent.said().splitlines() if "can't mend" in line]
        assert "process 1 (pid " in line
        assert f"ended with exit code {code}" in line


def test_the_same_code_later_is_a_death_like_any_other(tmp_path: Path) -> None:
    # Given a child that is killed first, and finds its log gone when it starts again
    later = (
        CHILD
        + """
second = os.path.exists(sys.argv[1])
note("up")
sys.exit(4 if second else 70)
"""
    )
    with parent_of(tmp_path, later) as parent:
        wait_for(lambda: len(parent.lives) >= 4, what="four lives")

        assert parent.process.poll() is None
        assert parent.said().count("ended with exit code 4") >= 2


def test_consent_is_given_for_the_first_start_only(tmp_path: Path) -> None:
    with parent_of(
        tmp_path, CHILD + "note('-'.join(sys.argv[2:]) or 'none')", consent=["--accept"]
    ) as parent:
        wait_for(lambda: len(parent.lives) >= 3, what="three lives")

        assert [word for *_, word in parent.lives][:3] == ["--accept", "none", "none"]


def test_a_program_that_is_being_replaced_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    command = [str(program), str(tmp_path / "lives")]
    with parent_of(tmp_path, "", command=command, consent=["--accept"]) as parent:
        wait_for(lambda: "process 0 can't be started" in parent.said(), what="a start in vain")

        ready = tmp_path / "ready"
        obeys = OBEYS.replace("note('up')", "note('up' if '--accept' in sys.argv else 'unasked')")
        ready.write_text(f"#!{sys.executable}\n{obeys}\n")
        ready.chmod(0o755)
        ready.rename(program)

        parent.up(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_children_drain_when_their_parent_is_killed(tmp_path: Path) -> None:
    with parent_of(tmp_path, OBEYS, processes=2) as parent:
        for child in range(2):
            parent.up(child)

        parent.process.kill()
        parent.wait()

        wait_for(lambda: [word for *_, word in parent.lives].count("drained") == 2, what="both to drain")


def test_the_terminals_ctrl_c_does_not_reach_the_children_twice(tmp_path: Path) -> None:
    with parent_of(tmp_path, OBEYS) as parent:
        child = parent.up(0)

        assert os.getpgid(child) == child != os.getpgid(parent.process.pid)
