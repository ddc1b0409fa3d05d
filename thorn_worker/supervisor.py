"""``run --processes N``: a parent that starts N workers, and starts again the ones that die.

The parent is a process without patches and without a log: it waits for signals and for children, nothing
else. It comes to be by `become`: the command line, which has read and checked the settings by then, replaces
itself with ``thorn-worker supervise …`` under the same process id.

Child i gets the same arguments, the admin port + i, and, where an id is set, the worker id ``<id>-<i>``. It
stands in a process group of its own, so that Ctrl-C reaches it once, through the parent. On Linux it drains
when the parent dies, whatever that died of.
"""

import argparse
import ctypes
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from thorn_worker import logs

#: First argument of the program that makes it this parent; no command for users.
SUPERVISE: Final = "supervise"

#: Exit codes that another start can't mend: usage, configuration, log. At the first start of a child they end
#: everything: see `thorn_worker.cli.app`.
HOPELESS: Final = frozenset({2, 3, 4})
#: Exit code when a child did not end well although it was told to.
FAILED: Final = 1

_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>

_logger = logging.getLogger("thorn_worker.supervisor")


@dataclass(frozen=True, slots=True)
class Timing:
    """first_s, longest_s: pause before a child that died starts again, doubled each time. steady_s: one that
    lived so long starts with the first pause again. grace_s: what a drain may take beyond its own timeout.
    """

    first_s: float = 1.0
    longest_s: float = 30.0
    steady_s: float = 60.0
    grace_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. command: of a child, program included. consent: options that a child gets at its first
    start only: what an operator accepts today is not accepted when a child dies in a month. admin: of child
    0; port 0 stays 0 for each.
    """

    processes: int
    command: tuple[str, ...]
    consent: tuple[str, ...]
    admin: tuple[str, int]
    worker_id: str | None
    drain_timeout_s: float

    def environment(self, index: int) -> dict[str, str]:
        """What child `index` finds beside the parent's environment.

        Admin ``127.0.0.1:9464`` and id ``blue`` give child 2 ``127.0.0.1:9466`` and ``blue-2``.
        """
        host, port = self.admin
        found = {"THORN_ADMIN": _address((host, port and port + index))}
        if self.worker_id is not None:
            found["THORN_WORKER_ID"] = f"{self.worker_id}-{index}"
        return found


class _Child:
    """One of the N, over all of its starts. due_at: when it starts (again); inf while it runs or is done."""

    __slots__ = ("due_at", "index", "pause_s", "process", "started_at", "starts")

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.started_at = 0.0
        self.pause_s = 0.0
        self.due_at = 0.0


class Supervisor:
    """Runs a `Plan` until it is told to stop. `run` returns the exit code.

    Signals arrive as bytes of a pipe, so that nothing of ours runs inside of a handler.
    """

    def __init__(self, plan: Plan, timing: Timing = Timing()) -> None:
        self._plan = plan
        self._timing = timing
        self._children = [_Child(index) for index in range(plan.processes)]
        self._stopping = False
        self._give_up_at = float("inf")
        self._exit_code = 0

    def run(self) -> int:
        """Start all; return when none is left. Call on the main thread of a process that is ours alone."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(wanted, _noted)
        plan = self._plan
        _logger.info("supervising %d processes, the first at admin %s", plan.processes, _address(plan.admin))
        while True:
            self._start_due()
            if self._stopping and not self._running():
                return self._exit_code
            for number in self._wait(reading):
                if number != signal.SIGCHLD:
                    self._signalled(number)
            self._bury()
            if time.monotonic() >= self._give_up_at:
                self._kill()

    def _wait(self, reading: int) -> bytes:
        """The signals since the last call; waits for one, or until something is due."""
        until = min([self._give_up_at, *(child.due_at for child in self._children)])
        timeout_s = None if until == float("inf") else max(0.0, until - time.monotonic())
        ready, _, _ = select.select([reading], [], [], timeout_s)
        return os.read(reading, 4096) if ready else b""

    def _running(self) -> int:
        return sum(child.process is not None for child in self._children)

    # -- lives -------------------------------------------------------------------------------------

    def _start_due(self) -> None:
        for child in self._children:
            if child.due_at > time.monotonic():
                continue
            child.due_at = float("inf")
            child.started_at = time.monotonic()
            command = (*self._plan.command, *(() if child.starts else self._plan.consent))
            try:
                child.process = _start(command, self._plan.environment(child.index))
            except OSError as error:  # short of memory or processes, or the program is being replaced
                self._again(child, f"process {child.index} can't be started ({error})", steady=False)
            else:
                child.starts += 1

    def _bury(self) -> None:
        for child in self._children:
            if child.process is not None and (code := child.process.poll()) is not None:
                pid, child.process = child.process.pid, None
                self._ended(child, pid, code)

    def _ended(self, child: _Child, pid: int, code: int) -> None:
        lived_s = time.monotonic() - child.started_at
        how = f"process {child.index} (pid {pid}) {_told_how(code)} after {lived_s:.1f} s"
        steady = lived_s >= self._timing.steady_s
        if self._stopping:
            # By SIGTERM itself: its handler did not stand yet, so that nothing was under way. With the code
            # for which all end: it met what the first one met.
            if code not in (0, -signal.SIGTERM, self._exit_code):
                _logger.error("%s instead of draining", how)
                self._exit_code = self._exit_code or FAILED
        elif code in HOPELESS and child.starts == 1 and not steady:
            _logger.critical("%s, which another start can't mend: all processes end", how)
            self._exit_code = code
            self._stop()
        else:
            self._again(child, how, steady=steady)

    def _again(self, child: _Child, how: str, *, steady: bool) -> None:
        timing = self._timing
        doubled_s = min(child.pause_s * 2, timing.longest_s)
        child.pause_s = timing.first_s if steady or not child.pause_s else doubled_s
        child.due_at = time.monotonic() + child.pause_s
        _logger.warning("%s; it starts again in %g s", how, child.pause_s)

    # -- the end -----------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if self._stopping:
            self._kill()
            os._exit(128 + number)  # the operator is done waiting; everything acknowledged is durable
        _logger.info(
            "draining %d processes after %s: a second signal ends them at once",
            self._running(),
            signal.Signals(number).name,
        )
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._give_up_at = time.monotonic() + self._plan.drain_timeout_s + self._timing.grace_s
        for child in self._children:
            child.due_at = float("inf")
            if child.process is not None:
                child.process.terminate()

    def _kill(self) -> None:
        self._give_up_at = float("inf")
        for child in self._children:
            if child.process is not None:
                child.process.kill()

    def __repr__(self) -> str:
        return f"Supervisor({self._plan!r}, {self._running()} running)"


def _address(admin: tuple[str, int]) -> str:
    host, port = admin
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _noted(number: int, frame: object) -> None:
    """The byte in the pipe says it all."""


def _told_how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _start(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - this very program
        command,
        stdin=subprocess.DEVNULL,  # in a group of its own it may not read a terminal
        env={**os.environ, **environment},
        process_group=0,
        preexec_fn=_drain_when_orphaned(os.getpid()),
    )


def _drain_when_orphaned(parent: int) -> Callable[[], None] | None:
    """Runs between fork and exec: this process is told to drain when `parent` dies, SIGKILL included."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: a fork must not load libraries

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before it was asked
            os._exit(FAILED)

    return ask


def become(plan: Plan, log_level: str, log_format: str) -> NoReturn:
    """Replace this process, which is a command line with patches, by the parent of these children."""
    host, port = plan.admin
    options = [
        *("--processes", str(plan.processes), "--admin", host, str(port)),
        *("--drain-timeout", str(plan.drain_timeout_s), "--log", log_level, log_format),
        *(f"--consent={option}" for option in plan.consent),
        *(() if plan.worker_id is None else (f"--worker-id={plan.worker_id}",)),
    ]
    program = this_program()
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [*program, SUPERVISE, *options, "--", *plan.command]
    os.execv(program[0], arguments)  # noqa: S606 - this very program


def this_program() -> tuple[str, ...]:
    """How this process was started, without its arguments: interpreter, its options, script or ``-m``.

    A child then finds the same modules, whichever way the program was installed.
    """
    return (sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1])


def main(arguments: Sequence[str]) -> int:
    """Be the parent that `become` asked for; the exit code."""
    parser = argparse.ArgumentParser(prog=f"thorn-worker {SUPERVISE}")
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--admin", nargs=2, required=True)
    parser.add_argument("--drain-timeout", type=float, required=True)
    parser.add_argument("--log", nargs=2, required=True)
    parser.add_argument("--consent", action="append", default=[])
    parser.add_argument("--worker-id")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    logs.set_up(*given.log)
    host, port = given.admin
    plan = Plan(
        processes=given.processes,
        command=tuple(given.command),
        consent=tuple(given.consent),
        admin=(host, int(port)),
        worker_id=given.worker_id,
        drain_timeout_s=given.drain_timeout,
    )
    return Supervisor(plan).run()
