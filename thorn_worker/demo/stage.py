"""The processes of a demo: started, watched, and ended whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import gevent

from producer.errors import ThornError

#: Files are looked at and the picture is drawn this often.
_TICK_S: Final = 0.1
#: What of a process's own words an error repeats.
_LAST_WORDS: Final = 600


class DemoFailed(ThornError):
    """The demo could not be played to its end. The message says where the files are."""


class Interrupted(Exception):
    """Ctrl-C, or the terminal is gone."""


@dataclass(slots=True)
class Actor:
    """A process. words: the file with what it says. may_end: the exit codes with which it may end by now."""

    name: str
    process: "subprocess.Popen[bytes]"
    words: Path
    may_end: frozenset[int] = field(default=frozenset())

    @property
    def gone(self) -> bool:
        """It has ended."""
        return self.process.poll() is not None

    def end(self, number: signal.Signals, code: int) -> None:
        """Send a signal, upon which it shall end with this exit code."""
        self.may_end = frozenset({code})
        self.process.send_signal(number)


class Stage:
    """A context manager: leaving it ends every process that `start` made. each_tick: called in every wait.

    Each process leads a group of its own, so that Ctrl-C on the terminal reaches only us, and not them too.
    """

    def __init__(self, folder: Path, each_tick: Callable[[], None]) -> None:
        self.folder = folder
        self._each_tick = each_tick
        self._actors: list[Actor] = []
        self._watchers: list[Any] = []
        self._interrupted = False

    def __enter__(self) -> "Stage":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._watchers.append(gevent.signal_handler(number, self._interrupt))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is to be saved any more: what still runs is killed."""
        for actor in self._actors:
            if not actor.gone:
                actor.process.kill()
        for actor in self._actors:
            actor.process.wait()
            if actor.process.stdin is not None:
                actor.process.stdin.close()
        for watcher in self._watchers:
            watcher.cancel()

    def start(self, name: str, module: str, *arguments: str) -> Actor:
        """Start ``python -m module arguments``; what it says goes into ``name.log``."""
        words = self.folder / f"{name}.log"
        with words.open("wb") as log:
            process = _spawn([sys.executable, "-m", module, *arguments], log)
        actor = Actor(name, process, words)
        self._actors.append(actor)
        return actor

    def until(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Wait. Raises `DemoFailed` when time is up or a process has failed, and `Interrupted`."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            if self._interrupted:
                raise Interrupted
            self._check()
            self._each_tick()
            if condition():
                return
            if time.monotonic() >= give_up_at:
                raise DemoFailed(f"waited {timeout_s:g} s in vain for {what}: see the files in {self.folder}")
            gevent.sleep(_TICK_S)

    def _check(self) -> None:
        for actor in self._actors:
            code = actor.process.poll()
            if code is not None and code not in actor.may_end:
                last = actor.words.read_text(errors="replace")[-_LAST_WORDS:]
                raise DemoFailed(f"{actor.name} ended with code {code}; {actor.words} ends with\n{last}")

    def _interrupt(self) -> None:
        self._interrupted = True


def _spawn(command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Its standard input stays open as long as we live. Settings of the user's shell must not reach it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THORN_")}
    return subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        process_group=0,
    )
