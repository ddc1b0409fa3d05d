"""One or three brokers as one object: from nothing to answering, and every fault that a test wants."""

import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.kafka.broker import Broker
from deploy.kafka.classpath import class_path, default_cache, find_java
from deploy.kafka.errors import ClusterError
from deploy.kafka.layout import HOST, Layout, is_free, new_layout, read_layout
from deploy.kafka.options import Options
from deploy.kafka.probe import listed_brokers
from deploy.kafka.properties import SCRAM, server_properties

_POLL_S: Final = 0.05

#: A clean stop takes 0.5 s; the last of three takes 5 s, since nobody is left to hand its partitions to.
_STOP_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """One broker as it is now. `state`: answers, starting (runs, but is silent), frozen, or stopped."""

    number: int
    state: str
    pid: int | None
    port: int
    log: Path


class Cluster:
    """Brokers 1 to `options.brokers` with their data, settings and logs in `folder`.

    They outlive this object and the process, on purpose; any later `Cluster(folder)` finds them again. As a
    context manager it starts them, and wipes everything at the end. Every method raises ClusterError: what to
    do, and the end of the broker's log where that explains it. For one thread at a time.
    """

    def __init__(self, folder: Path, options: Options | None = None, *, cache: Path | None = None) -> None:
        """options: None takes those of the cluster that `folder` holds, else the defaults."""
        self.folder = folder.resolve()
        self._cache = cache or default_cache()
        self._layout = read_layout(self.folder)
        if self._layout is None:
            self.options = options or Options()
        else:
            self.options = options or self._layout.options
            _check_same(self.folder, self._layout, self.options)
        self._brokers = {i: Broker(self.folder, i) for i in range(1, self.options.brokers + 1)}
        # A wiped cluster comes back on the same ports, as a broker does that has lost its disk.
        self._port = self._layout.port if self._layout is not None else self.options.port

    def __repr__(self) -> str:
        running = [i for i, broker in self._brokers.items() if broker.pid is not None]
        return f"<Cluster in {self.folder}, brokers {running} of {list(self._brokers)} running>"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.wipe()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    @property
    def bootstrap(self) -> str:
        """Host and port of every broker, with commas, for clients: secured as the options say."""
        layout = self._known_layout()
        return ",".join(f"{HOST}:{layout.client_port(i)}" for i in layout.ids)

    @property
    def internal_bootstrap(self) -> str:
        """The same for the plaintext listener that the brokers use among themselves: for tools of a test."""
        layout = self._known_layout()
        return ",".join(f"{HOST}:{layout.internal_port(i)}" for i in layout.ids)

    @property
    def cluster_id(self) -> str:
        """Kafka's name of this cluster; another one after a wipe."""
        return self._known_layout().cluster_id

    def log_url(self, prefix: str = "thorn") -> str:
        """The value of THORN_LOG: `kafka://127.0.0.1:9092/thorn`."""
        return f"kafka://{self.bootstrap}/{prefix}"

    def start(self) -> None:
        """Format and start what isn't yet, and return when all brokers answer and know each other."""
        java = self._java()
        self.folder.mkdir(parents=True, exist_ok=True)
        layout = self._layout or new_layout(self.options, self._port)
        layout = replace(layout, options=self.options)
        stopped = [broker for broker in self._brokers.values() if broker.pid is None]
        for broker in stopped:
            _check_free(layout.ports(broker.number))
        self._write_settings(layout)
        self._layout, self._port = layout, layout.port
        self._format([broker for broker in stopped if not broker.is_formatted], layout, java)
        for broker in stopped:
            broker.spawn(java)
        self._wait_until_answering(layout.ids)

    def stop(self) -> None:
        """End all brokers cleanly, frozen ones too. The data stays."""
        for broker in self._brokers.values():
            broker.send_if_running(signal.SIGTERM)
        for broker in self._brokers.values():
            broker.end(signal.SIGTERM, _STOP_TIMEOUT_S)

    def wipe(self) -> None:
        """Kill all brokers and remove what this class has made in the folder; other files in it stay."""
        if self._layout is None:
            return
        for broker in self._brokers.values():
            broker.end(signal.SIGKILL)
            shutil.rmtree(broker.folder, ignore_errors=True)
        self._layout.remove(self.folder)
        self._layout = None
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def kill(self, *numbers: int) -> None:
        """SIGKILL, as a crash or the kernel's memory killer does it."""
        self._end(numbers, signal.SIGKILL)

    def term(self, *numbers: int) -> None:
        """SIGTERM: a broker hands over its partitions before it ends."""
        self._end(numbers, signal.SIGTERM)

    def freeze(self, *numbers: int) -> None:
        """SIGSTOP: connections stay open and nothing answers, as with a stalled disk or machine."""
        for number in numbers:
            self._broker(number).freeze()

    def thaw(self, *numbers: int) -> None:
        """SIGCONT."""
        for number in numbers:
            self._broker(number).thaw()

    def up(self, *numbers: int) -> None:
        """Start brokers that ended, on their data, and return when they answer. A majority must be running
        then: after the loss of two of three, start both in one call.
        """
        java = self._java()
        brokers = [self._broker(number) for number in numbers]
        for broker in brokers:
            if not broker.is_formatted:
                raise ClusterError(f"broker {broker.number} was never started in {self.folder}: use start")
            if broker.pid is None:
                _check_free(self._known_layout().ports(broker.number))
                broker.spawn(java)
        self._wait_until_answering(numbers)

    def heal(self) -> None:
        """Undo every fault: thaw what is frozen, start what has ended, return when all answer. For tests."""
        for broker in self._brokers.values():
            if broker.is_frozen:
                broker.thaw()
        self.up(*self._brokers)

    def status(self) -> list[BrokerStatus]:
        """Every broker as it is now. One that runs and doesn't answer takes a second."""
        return [self._status_of(broker) for broker in self._brokers.values()]

    def _status_of(self, broker: Broker) -> BrokerStatus:
        layout = self._known_layout()
        pid = broker.pid
        if pid is None:
            state = "stopped"
        elif broker.is_frozen:
            state = "frozen"
        else:
            state = "answers" if listed_brokers(HOST, layout.internal_port(broker.number)) else "starting"
        return BrokerStatus(broker.number, state, pid, layout.client_port(broker.number), broker.log)

    def _known_layout(self) -> Layout:
        if self._layout is None:
            raise ClusterError(f"there is no cluster in {self.folder}: start one")
        return self._layout

    def _broker(self, number: int) -> Broker:
        self._known_layout()
        if number not in self._brokers:
            raise ClusterError(f"there is no broker {number}: they are {', '.join(map(str, self._brokers))}")
        return self._brokers[number]

    def _end(self, numbers: Iterable[int], how: signal.Signals) -> None:
        brokers = [self._broker(number) for number in numbers]
        for broker in brokers:
            broker.send(how)
        for broker in brokers:
            broker.end(how, _STOP_TIMEOUT_S)

    def _java(self) -> list[str]:
        return [find_java(), *self.options.java_options, "-cp", class_path(self._cache)]

    def _write_settings(self, layout: Layout) -> None:
        if self.options.tls is not None:
            self.options.tls.check()
        for broker in self._brokers.values():
            broker.folder.mkdir(exist_ok=True)
            broker.settings.write_text(server_properties(layout, broker.number, broker.data))
        layout.write(self.folder)

    def _format(self, brokers: list[Broker], layout: Layout, java: list[str]) -> None:
        """All at once: each is a start of Java, and three in a row would take longer than the brokers."""
        arguments = ["-t", layout.cluster_id]
        if self.options.security.has_sasl:
            for name, password in self.options.users.items():
                for mechanism in SCRAM:
                    arguments += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        running = [(broker, broker.start_format(java, arguments)) for broker in brokers]
        ends = [broker.end_format(process, self.options.start_timeout_s) for broker, process in running]
        for failure in filter(None, ends):
            raise failure

    def _wait_until_answering(self, numbers: Iterable[int]) -> None:
        """Until each of these answers, and knows all of these to serve."""
        layout = self._known_layout()
        wanted = frozenset(numbers)
        give_up_at = time.monotonic() + self.options.start_timeout_s
        for broker in (self._broker(number) for number in sorted(wanted)):
            while not wanted <= listed_brokers(HOST, layout.internal_port(broker.number)):
                self._check_alive(wanted)
                if time.monotonic() >= give_up_at:
                    raise ClusterError(
                        f"broker {broker.number} runs, but did not join its cluster in"
                        f" {self.options.start_timeout_s:g} s{broker.why()}"
                    )
                time.sleep(_POLL_S)

    def _check_alive(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            broker = self._brokers[number]
            if broker.pid is None:
                raise ClusterError(f"broker {number} ended while it started{broker.why()}")


def _check_free(ports: Iterable[int]) -> None:
    for port in ports:
        if not is_free(port):
            raise ClusterError(
                f"port {port} of {HOST} is taken: end what listens there, or choose other ports with --port"
            )


def _check_same(folder: Path, layout: Layout, options: Options) -> None:
    """A folder keeps the shape that it was formatted with."""
    held = (layout.options.brokers, layout.options.security, layout.port)
    wanted = (options.brokers, options.security, options.port or layout.port)
    if held != wanted:
        raise ClusterError(
            f"{folder} holds a cluster of {held[0]} with security {held[1]} from port {held[2]}, not of"
            f" {wanted[0]} with {wanted[1]} from {wanted[2]}: wipe it first, or choose another --dir"
        )
