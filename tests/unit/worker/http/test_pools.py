"""Keep-alive connections: bounded, aged, pinned."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from producer.errors import ConfigurationError
from producer.hosts import parse
from tests.support import rude
from tests.support.rude import OK, RudeServer
from tests.support.waiting import wait_for
from tests.unit.worker.http.sending import LOOPBACK, Names, Sender
from thorn_worker.http import Guard, PoolLimits, Pools, Resolver
from thorn_worker.http.errors import LocalFailure, NotConnected
from thorn_worker.outcome import LocalTrouble, Outcome, Phase

ROOT = Path(__file__).parents[4]


@pytest.fixture
def server() -> Iterator[RudeServer]:
    with RudeServer(rude.answer(OK)) as server:
        yield server


@pytest.fixture
def other() -> Iterator[RudeServer]:
    with RudeServer(rude.answer(OK), address="127.0.0.2") as server:
        yield server


def _accepted_one(receiver: RudeServer) -> bool:
    return receiver.open_connections == 1


def soon() -> float:
    return time.monotonic() + 5.0


def test_a_connection_belongs_to_one_caller_at_a_time(server: RudeServer) -> None:
    with Sender() as sender:
        first = sender.pools.acquire(parse(server.url()), soon())
        second = sender.pools.acquire(parse(server.url()), soon())

        assert first is not second
        sender.pools.release(first, True)
        assert sender.pools.acquire(parse(server.url("/other")), soon()) is first
        sender.pools.release(first, False)
        sender.pools.release(second, False)
        assert (sender.pools.opened, sender.pools.reused) == (2, 1)
        assert sender.pools.hosts == 0


def test_beyond_the_limit_the_least_recently_used_connection_goes(
    server: RudeServer, other: RudeServer
) -> None:
    with Sender(limits=PoolLimits(max_connections=2)) as sender:
        sender.attempt(server.url())
        sender.attempt(other.url())
        busy = sender.pools.acquire(parse(server.url()), soon(), fresh=True)

        wait_for(lambda: server.open_connections == 1, what="the oldest idle connection to be closed")
        assert (sender.pools.connections, sender.pools.idle) == (2, 1)
        assert other.open_connections == 1
        sender.pools.release(busy, True)


def test_with_all_connections_in_use_one_more_is_our_own_trouble(server: RudeServer) -> None:
    with Sender(limits=PoolLimits(max_connections=1)) as sender:
        busy = sender.pools.acquire(parse(server.url()), soon())

        assert isinstance(sender.report(server.url()), LocalTrouble)
        sender.pools.release(busy, True)
        assert sender.attempt(server.url()).outcome is Outcome.DELIVERED


def test_sweeping_closes_what_has_been_idle_too_long(server: RudeServer, other: RudeServer) -> None:
    clock = [1000.0]
    pools = Pools(
        Guard((), LOOPBACK), Resolver(), limits=PoolLimits(idle_timeout_s=60), clock=lambda: clock[0]
    )
    for receiver, released_at in ((server, 1000.0), (other, 1030.0)):
        connection = pools.acquire(parse(receiver.url()), soon())
        wait_for(partial(_accepted_one, receiver), what="the receiver to accept")
        clock[0] = released_at
        pools.release(connection, True)

    pools.sweep(1059.9)
    assert pools.idle == 2
    pools.sweep(1060.0)
    assert pools.idle == 1
    wait_for(lambda: server.open_connections == 0, what="the first to be closed")
    assert other.open_connections == 1
    pools.close()
    wait_for(lambda: other.open_connections == 0, what="the other to be closed")


def test_a_connection_older_than_five_minutes_is_not_used_again(server: RudeServer) -> None:
    offset = [0.0]
    pools = Pools(Guard((), LOOPBACK), Resolver(), clock=lambda: time.monotonic() + offset[0])
    first = pools.acquire(parse(server.url()), soon())
    pools.release(first, True)

    offset[0] = 301.0
    second = pools.acquire(parse(server.url()), soon())
    assert second is not first
    offset[0] = 700.0
    pools.release(second, True)
    assert pools.connections == 0


def test_a_closed_pool_gives_out_nothing_and_takes_back_what_is_out(server: RudeServer) -> None:
    with Sender() as sender:
        busy = sender.pools.acquire(parse(server.url()), soon())
        sender.pools.close()

        with pytest.raises(LocalFailure):
            sender.pools.acquire(parse(server.url()), soon())
        sender.pools.release(busy, True)
        assert sender.pools.connections == 0


def test_each_address_of_a_name_is_tried_in_turn(server: RudeServer) -> None:
    names = Names(both_example=["127.0.0.9", "127.0.0.1"])
    with Sender(names=names) as sender:
        attempt = sender.attempt(server.url(name="both.example"))

    assert attempt.outcome is Outcome.DELIVERED


def test_an_address_that_does_not_answer_leaves_time_for_the_next(server: RudeServer) -> None:
    with rude.unaccepting_port("127.0.0.3") as port, RudeServer(rude.answer(OK), port=port) as behind:
        names = Names(both_example=["127.0.0.3", "127.0.0.1"])
        with Sender(names=names) as sender:
            attempt = sender.attempt(behind.url(name="both.example"), timeout_s=1.0)

    assert attempt.outcome is Outcome.DELIVERED


def test_a_second_look_up_cannot_move_a_pinned_connection(server: RudeServer) -> None:
    names = Names(turncoat_example=["127.0.0.1"])
    resolver = Resolver(names)
    pools = Pools(Guard((), LOOPBACK), resolver)
    target = parse(server.url(name="turncoat.example"))
    connection = pools.acquire(target, soon())
    pools.release(connection, True)

    names.names["turncoat.example"] = ["10.0.0.1"]
    resolver = pools._resolver = Resolver(names)  # forgets what it knew

    assert pools.acquire(target, soon()) is connection
    assert connection.address == ("127.0.0.1", server.port)
    assert connection.sock.getpeername() == ("127.0.0.1", server.port)
    with pytest.raises(NotConnected) as refused:
        pools.acquire(target, soon(), fresh=True)
    assert (refused.value.phase, refused.value.blocked) == (Phase.DNS, True)
    assert server.connections == 1
    pools.release(connection, True)
    pools.close()


def test_the_host_header_keeps_the_name(server: RudeServer) -> None:
    seen: list[bytes] = []

    def note(peer: rude.Peer) -> None:
        seen.append(peer.read_request())
        peer.send(OK)

    with RudeServer(note) as server, Sender(names=Names(name_example=["127.0.0.1"])) as sender:
        sender.attempt(server.url(name="name.example"))

    assert f"\r\nHost: name.example:{server.port}\r\n".encode() in seen[0]


@pytest.mark.parametrize("text", ["", "no such file", "not a certificate"])
def test_an_unusable_ca_file_is_refused_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ca.pem"
    if text != "no such file":
        path.write_text(text)

    with pytest.raises(ConfigurationError, match="ca_file"):
        Pools(Guard(), Resolver(), ca_file=str(path))


def test_running_out_of_files_is_our_own_trouble_in_every_phase(server: RudeServer) -> None:
    script = f"""
        import os, resource, time
        from producer.hosts import parse
        from tests.unit.worker.http.sending import Sender, request
        from thorn_worker.outcome import LocalTrouble, Outcome

        with Sender() as sender:
            requests = [request({server.url()!r}), request("http://nobody.invalid/")]
            assert sender.client.attempt(requests[0]).outcome is Outcome.DELIVERED
            busy = sender.pools.acquire(parse({server.url()!r}), time.monotonic() + 5)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, 4096))
            for trial in requests:
                report = sender.client.attempt(trial)
                assert isinstance(report, LocalTrouble), report
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
            assert sender.client.attempt(requests[0]).outcome is Outcome.DELIVERED
            sender.pools.release(busy, True)
        print("done")
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


def test_running_out_of_ports_is_our_own_trouble(server: RudeServer) -> None:
    """Every port that this process may choose is taken: the kernel says so itself."""
    script = f"""
        import socket, struct, time
        from producer.hosts import parse
        from tests.unit.worker.http.sending import Sender, request
        from thorn_worker.outcome import LocalTrouble

        IP_LOCAL_PORT_RANGE = 51  # Linux 6.3: the ports that a socket may choose from
        create = socket.socket.connect_ex

        def one_port_only(sock, address):
            sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", 45678 << 16 | 45678))
            return create(sock, address)

        socket.socket.connect_ex = one_port_only
        with Sender() as sender:
            busy = sender.pools.acquire(parse({server.url()!r}), time.monotonic() + 5)
            assert busy.sock.getsockname()[1] == 45678
            report = sender.client.attempt(request({server.url()!r}))
            assert isinstance(report, LocalTrouble), report
            sender.pools.release(busy, False)
        print("done")
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if "Protocol not available" in done.stderr:
        pytest.skip("this kernel can't narrow a socket's ports")
    assert done.stdout == "done\n", done.stderr


def test_many_attempts_leave_no_file_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with RudeServer(rude.reset_after_request) as resetting, Sender() as sender:
        for _ in range(100):
            sender.attempt(resetting.url())
        wait_for(lambda: resetting.open_connections == 0, what="all connections to end")
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
