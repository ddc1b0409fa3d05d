"""The admin server over real sockets, and the loop monitor."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import gevent
import pytest
from gevent import socket

from producer.errors import ConfigurationError
from thorn_worker import __version__, metrics
from thorn_worker.admin import AdminServer, LoopMonitor, PartitionRow, Readiness, Sources, Status
from thorn_worker.counters import Counters

READY = Readiness(True)


@dataclass
class Worker:
    """What the server shows: a worker that says what the test tells it to."""

    counters: Counters = field(default_factory=Counters)
    readiness: Readiness = READY
    place: str = "/var/lib/thorn.db"

    def status(self) -> Status:
        return Status(
            place=self.place,
            started_at=0.0,
            partitions=(
                PartitionRow(
                    partition=7,
                    owner="this worker",
                    state="ours",
                    committed=9,
                    lag=41,
                    in_flight=3,
                    paused=True,
                ),
            ),
            lanes=12,
            in_flight=3,
            max_in_flight=2000,
            pending=99,
        )

    def sources(self) -> Sources:
        return Sources(self.counters, lambda: self.readiness, self.status, LoopMonitor(self.counters))


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def server(worker: Worker) -> Iterator[AdminServer]:
    server = AdminServer(("127.0.0.1", 0), worker.sources())
    server.start()
    yield server
    server.stop()


def ask(server: AdminServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    """(status, head, body) of one request."""
    with socket.create_connection(server.address, timeout=5) as sock:
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := sock.recv(65536):
            answer += data
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def test_metrics_are_served_in_prometheus_text(server: AdminServer, worker: Worker) -> None:
    worker.counters.inc(metrics.RECORDS_READ, by=5)
    status, head, body = ask(server, "/metrics")
    assert status == 200
    assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert "thorn_records_read_total 5.0\n" in body


def test_the_size_of_a_scrape_does_not_depend_on_the_number_of_hosts(
    server: AdminServer, worker: Worker
) -> None:
    # Given one lane, then 10,000 of them
    worker.counters.register(metrics.LANES, lambda: 1)
    few = ask(server, "/metrics")[2]
    worker.counters.register(metrics.LANES, lambda: 10_000)
    many = ask(server, "/metrics")[2]

    # Then not one series is added
    assert many.count("\nthorn_") == few.count("\nthorn_")
    assert "thorn_lanes 10000.0" in many


def test_a_turning_loop_is_healthy(server: AdminServer) -> None:
    assert ask(server, "/healthz")[::2] == (200, "alive\n")


def test_readiness_is_green_or_red_with_its_causes(server: AdminServer, worker: Worker) -> None:
    assert ask(server, "/readyz")[::2] == (200, "ready\n")

    worker.readiness = Readiness(False, ("partition 3 is being restored", "the worker is draining"))

    status, _, body = ask(server, "/readyz")
    assert (status, body) == (503, "not ready\npartition 3 is being restored\nthe worker is draining\n")


def test_the_status_page_shows_what_an_operator_asks_first(server: AdminServer, worker: Worker) -> None:
    worker.counters.inc(metrics.DEAD_LETTERS, "gone", by=4)
    status, head, body = ask(server, "/")
    assert status == 200
    assert "Content-Type: text/html; charset=utf-8" in head
    for shown in (
        __version__,
        "/var/lib/thorn.db",
        "<td>41</td>",
        "3 of 2000",
        "99",
        "4 gone",
        "<td>yes</td>",
    ):
        assert shown in body, shown


def test_the_status_page_loads_nothing_and_trusts_no_text(server: AdminServer, worker: Worker) -> None:
    worker.place = "<script>alert(1)</script>"
    worker.readiness = Readiness(False, ("<b>cause</b>",))
    _, head, body = ask(server, "/")
    assert "<script" not in body
    assert "<b>" not in body
    assert "default-src 'none'" in head
    assert "src=" not in body
    assert "http://" not in body


def test_other_paths_are_not_found(server: AdminServer) -> None:
    status, _, body = ask(server, "/nothing")
    assert status == 404
    assert "/readyz" in body


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz"])
def test_other_methods_are_refused(server: AdminServer, path: str) -> None:
    status, head, _ = ask(server, path, "POST")
    assert status == 405
    assert "Allow: GET, HEAD" in head


def test_head_has_no_body(server: AdminServer) -> None:
    status, head, body = ask(server, "/healthz", "HEAD")
    assert (status, body) == (200, "")
    assert "Content-Length: 6" in head


def test_a_port_in_use_is_a_sentence_with_the_address_and_what_to_do(
    server: AdminServer, worker: Worker
) -> None:
    # Given a server on some port, when a second one wants the same
    second = AdminServer(server.address, worker.sources())

    # Then it says so
    with pytest.raises(
        ConfigurationError, match=r"127\.0\.0\.1:\d+ is in use.*set THORN_ADMIN to a free address"
    ):
        second.start()


def test_an_address_of_another_machine_is_refused(worker: Worker) -> None:
    elsewhere = AdminServer(("192.0.2.1", 0), worker.sources())
    with pytest.raises(ConfigurationError, match=r"cannot be used.*THORN_ADMIN"):
        elsewhere.start()


def test_lag_is_what_a_sleep_took_too_long() -> None:
    counters = Counters()
    monitor = LoopMonitor(counters)
    monitor.observe(0.13)
    monitor.observe(0.1)
    assert monitor.worst_s == pytest.approx(0.03)
    assert sum(counters.histogram(metrics.LOOP_LAG).counts) == 2


def test_a_loop_that_was_held_shows_in_the_lag() -> None:
    # Given a running monitor
    monitor = LoopMonitor(Counters())
    monitor.start()
    gevent.sleep(0)

    # When something holds the loop well beyond the monitor's sleep
    until = time.monotonic() + 0.25
    while time.monotonic() < until:
        pass
    gevent.sleep(0.01)
    monitor.stop()

    # Then the lag is seen
    assert monitor.worst_s >= 0.1
