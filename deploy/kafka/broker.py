"""One broker: its folder, its process, and what may be done to it, whichever process has started it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.kafka.errors import ClusterError, tail

_LOGGING: Final = Path(__file__).with_name("log4j2.xml")

#: Where Linux tells of processes; elsewhere ps is asked.
_PROC: Final = Path("/proc")

_POLL_S: Final = 0.02

#: A process that was killed is gone after milliseconds, even one with 400 MiB to give back.
_KILL_TIMEOUT_S: Final = 10.0


#: $1 is the log, the rest is the command.
_DETACHED: Final = 'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!'


@dataclass(frozen=True, slots=True)
class _Seen:
    """`state`: one letter, as in ps. `is_ending`: its memory is gone, its ports may not be."""

    state: str
    command: str
    is_ending: bool = False


class Broker:
    """Broker `number` of a cluster: settings, `data/`, `broker.log` and `pid` in a folder of its own."""

    def __init__(self, cluster_folder: Path, number: int) -> None:
        self.number = number
        self.folder = cluster_folder / f"broker-{number}"
        self.settings = self.folder / "server.properties"
        self.data = self.folder / "data"
        self.log = self.folder / "broker.log"
        self._pid_file = self.folder / "pid"
        self._formatted = self.folder / "formatted"
        self._log_start = 0

    def __repr__(self) -> str:
        return f"<Broker {self.number} pid={self.pid} in {self.folder}>"

    @property
    def pid(self) -> int | None:
        """The process that serves `settings` now; None when there is none, also when the number that was
        written down belongs to some other program by now.
        """
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        seen = _look(pid)
        serves = seen.state not in ("", "Z", "X") and str(self.settings) in seen.command
        return pid if serves or seen.is_ending else None

    @property
    def is_frozen(self) -> bool:
        pid = self.pid
        return pid is not None and _look(pid).state == "T"

    @property
    def is_formatted(self) -> bool:
        return self._formatted.exists()

    def start_format(self, java: list[str], arguments: list[str]) -> "subprocess.Popen[bytes]":
        """Begin to write the data folder. What a format that was cut short has left is removed first."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        command = self._command(java, ["kafka.tools.StorageTool", "format", "-c", str(self.settings)])
        with self.log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - no shell
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end_format(self, process: "subprocess.Popen[bytes]", timeout_s: float) -> ClusterError | None:
        """Wait for it; return what went wrong."""
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0:
            return ClusterError(
                f"the data folder {self.data} could not be formatted (exit {code}){self.why()}"
            )
        self._formatted.touch()
        return None

    def spawn(self, java: list[str]) -> None:
        """Start the process; it does not answer yet."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        command = self._command(java, ["kafka.Kafka", str(self.settings)])
        # The shell goes at once and leaves the broker to the system: nobody's child outlives every caller and
        # leaves no zombie. Descriptors above 2 are closed, or it would hold a caller's sockets and locks as
        # long as it lives; and a session of its own keeps Ctrl-C at a terminal away from it.
        shell = subprocess.run(  # noqa: S603 - the script is a constant
            ["/bin/sh", "-c", _DETACHED, "sh", str(self.log), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            close_fds=True,
            start_new_session=True,
        )
        self._pid_file.write_bytes(shell.stdout)

    def send(self, number: signal.Signals) -> None:
        """Send a signal. Raises ClusterError when the broker isn't running."""
        pid = self.pid
        if pid is None:
            raise ClusterError(f"broker {self.number} is not running: start it with up {self.number}")
        os.kill(pid, number)

    def freeze(self) -> None:
        """SIGSTOP, and wait until it has come into force: a signal is only asked for when `kill` returns."""
        self.send(signal.SIGSTOP)
        self._wait(lambda: self.is_frozen or self.pid is None, _KILL_TIMEOUT_S)

    def thaw(self) -> None:
        """SIGCONT, and wait until it has come into force."""
        self.send(signal.SIGCONT)
        self._wait(lambda: not self.is_frozen, _KILL_TIMEOUT_S)

    def end(self, number: signal.Signals, timeout_s: float = _KILL_TIMEOUT_S) -> None:
        """End the process, if there is one, and wait until it has; SIGKILL after `timeout_s`."""
        if self.pid is None:
            return
        self.send_if_running(number)
        # A frozen process gets its signals, all but SIGKILL, only once it may run again.
        self.send_if_running(signal.SIGCONT)
        if not self.wait_for_end(timeout_s):
            self.send_if_running(signal.SIGKILL)
            if not self.wait_for_end(_KILL_TIMEOUT_S):
                raise ClusterError(
                    f"broker {self.number} (process {self.pid}) does not end, not even by SIGKILL"
                )

    def send_if_running(self, number: signal.Signals) -> None:
        """Send a signal to a process that may be ending just now."""
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return

    def wait_for_end(self, timeout_s: float) -> bool:
        """Whether the process ended in time."""
        return self._wait(lambda: self.pid is None, timeout_s)

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        give_up_at = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(_POLL_S)
        return True

    def why(self) -> str:
        """The end of an error's text: the cause if it's a known one, and the last lines of the log."""
        lines = tail(self.log, self._log_start)
        too_old = "UnsupportedClassVersionError" in lines
        hint = ": java is too old, Kafka needs Java 17 or newer" if too_old else ""
        return f"{hint}; the end of {self.log}:\n{lines}"

    def _command(self, java: list[str], rest: list[str]) -> list[str]:
        """A command of Java that leaves nothing outside of the folder, even when killed: no hsperfdata, no
        unpacked libraries in /tmp.
        """
        scratch = self.folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        logging = [f"-Dlog4j2.configurationFile={_LOGGING}", f"-Dkafka.logs.dir={self.folder}"]
        return [*java, *logging, f"-Djava.io.tmpdir={scratch}", "-XX:-UsePerfData", *rest]


def _look(pid: int) -> _Seen:
    """What the system says of a process; an empty state if there is none."""
    if (_PROC / "self" / "stat").exists():
        return _look_into_proc(_PROC / str(pid))
    command = ["/bin/ps", "-ww", "-o", "state=,command=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout  # noqa: S603 - no shell
    state, _, line = shown.strip().partition(" ")
    return _Seen(state[:1], line)


def _look_into_proc(folder: Path) -> _Seen:
    try:
        # The name before the state is in brackets and may hold anything, brackets too.
        state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        threads = sum(1 for _ in (folder / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return _Seen("", "")
    # A process loses its command line first, then its ports, and becomes a zombie last, once per thread.
    return _Seen(state, command, is_ending=not command and (state != "Z" or threads > 1))
