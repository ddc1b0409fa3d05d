"""Every kind of receiver, good and bad, through the blocking driver over real sockets.

Each test ends with the sender closed and no connection left, and the receiver's side must see all of them
closed.
"""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import rude
from tests.support.rude import OK, RudeServer, Script
from tests.support.waiting import wait_for
from tests.unit.worker.http.sending import Names, Sender
from thorn_worker.outcome import Outcome, Phase

#: Larger than what the kernel takes without the receiver reading.
LARGE = b"x" * 20_000_000
HEAD_200 = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"

#: Short enough for a test, long enough for a machine that has other work.
DEADLINE_S = 0.4


@pytest.fixture
def sender() -> Iterator[Sender]:
    with Sender() as sender:
        yield sender


def row(
    name: str,
    script: Script,
    outcome: Outcome,
    phase: Phase,
    status: int | None = None,
    *,
    words: str | None = None,
    kept: bool = False,
    body: bytes = b"{}",
) -> object:
    """One receiver and what an attempt at it means. words: part of the error. kept: the connection is
    reusable.
    """
    return pytest.param(script, (outcome, phase, status), words, kept, body, id=name.replace(" ", "_"))


def reply(head: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


ROWS = [
    row("ok", rude.answer(OK), Outcome.DELIVERED, Phase.BODY, 200, kept=True),
    row("no content", rude.answer(b"HTTP/1.1 204 x\r\n\r\n"), Outcome.DELIVERED, Phase.BODY, 204, kept=True),
    row("server error", rude.answer(reply("500 x", b"oops")), Outcome.FAILED, Phase.BODY, 500, kept=True),
    row("not found", rude.answer(reply("404 x")), Outcome.FAILED, Phase.BODY, 404, kept=True),
    row("gone", rude.answer(reply("410 x")), Outcome.GONE, Phase.BODY, 410, kept=True),
    row("throttled", rude.answer(reply("429 x")), Outcome.THROTTLED, Phase.BODY, 429, kept=True),
    row("not modified", rude.answer(b"HTTP/1.1 304 x\r\n\r\n"), Outcome.FAILED, Phase.BODY, 304, kept=True),
    row(
        "redirect inside",
        rude.answer(b"HTTP/1.1 307 x\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"),
        Outcome.FAILED,
        Phase.BODY,
        307,
        kept=True,
    ),
    row("resets at once", rude.reset_when_spoken_to, Outcome.UNREACHABLE, Phase.WAIT, words="broke"),
    row("resets", rude.reset_after_request, Outcome.UNREACHABLE, Phase.WAIT, words="reset"),
    row("leaves", rude.close_after_request, Outcome.UNREACHABLE, Phase.WAIT, words="without an answer"),
    row(
        "hangs",
        rude.hang_before_headers,
        Outcome.UNREACHABLE,
        Phase.WAIT,
        words="did not answer within 0.4 s",
    ),
    row(
        "never reads",
        rude.hang_without_reading,
        Outcome.UNREACHABLE,
        Phase.SEND,
        words="did not take the request",
        body=LARGE,
    ),
    row("drips headers", rude.drip(OK, 0.05), Outcome.UNREACHABLE, Phase.WAIT, words="did not answer"),
    row(
        "drips body",
        rude.drip(b"y" * 1000, 0.05, at_once=HEAD_200),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
        words="body did not end",
    ),
    row(
        "drips a failure",
        rude.drip(b"y" * 1000, 0.05, at_once=HEAD_200.replace(b"200", b"500")),
        Outcome.FAILED,
        Phase.BODY,
        500,
        words="body did not end",
    ),
    row("garbage", rude.answer(b"hello\r\n\r\n"), Outcome.UNREACHABLE, Phase.WAIT, words="not HTTP"),
    row(
        "endless headers",
        rude.endless(b"HTTP/1.1 200 OK\r\n", b"X-Filler: yes\r\n" * 100),
        Outcome.UNREACHABLE,
        Phase.WAIT,
        words="header block is longer",
    ),
    row(
        "endless interim answers",
        rude.endless(b"", b"HTTP/1.1 103 x\r\n\r\n" * 100),
        Outcome.UNREACHABLE,
        Phase.WAIT,
        words="header block is longer",
    ),
    row(
        "10 MB body",
        rude.answer(reply("200 OK", b"z" * 10_000_000)),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
        words="longer than 65536 bytes",
    ),
    row(
        "endless body",
        rude.endless(b"HTTP/1.1 200 OK\r\n\r\n", b"z" * 1000),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
        words="longer than 65536 bytes",
    ),
    row(
        "length too long",
        rude.answer_and_close(HEAD_200 + b"short"),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
        words="within the body",
    ),
    row(
        "length too short",
        rude.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlonger than it says"),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
    ),
    row(
        "two lengths",
        rude.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
        Outcome.UNREACHABLE,
        Phase.WAIT,
        words="Content-Length",
    ),
    row(
        "connection close",
        rude.answer_and_close(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
    ),
    row(
        "body until the end",
        rude.answer_and_close(b"HTTP/1.1 200 OK\r\n\r\nok"),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
    ),
    row(
        "interim first",
        rude.answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
        kept=True,
    ),
    row(
        "switching protocols",
        rude.answer(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
        Outcome.UNREACHABLE,
        Phase.WAIT,
        words="101",
    ),
    row(
        "chunked",
        rude.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
        kept=True,
    ),
    row(
        "broken chunks",
        rude.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"),
        Outcome.DELIVERED,
        Phase.BODY,
        200,
        words="not valid HTTP/1.1",
    ),
    row(
        "early 413",
        rude.answer_early(b"HTTP/1.1 413 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        Outcome.FAILED,
        Phase.BODY,
        413,
        body=LARGE,
    ),
    row(
        "early answer without closing",
        rude.answer_early(reply("413 x"), closes=False),
        Outcome.FAILED,
        Phase.BODY,
        413,
        body=LARGE,
    ),
]


@pytest.mark.parametrize("script, expected, words, kept, body", ROWS)
def test_each_receiver_gets_its_outcome_and_phase(
    sender: Sender,
    script: Script,
    expected: tuple[Outcome, Phase, int | None],
    words: str | None,
    kept: bool,
    body: bytes,
) -> None:
    with RudeServer(script) as server:
        started = time.monotonic()
        attempt = sender.attempt(server.url(), body, timeout_s=DEADLINE_S)
        took_s = time.monotonic() - started

        assert (attempt.outcome, attempt.phase, attempt.status) == expected, attempt
        if words is None:
            assert attempt.error is None
        else:
            assert words in str(attempt.error)
        assert took_s < DEADLINE_S + 2.0
        assert sender.pools.idle == sender.pools.connections == (1 if kept else 0)
        if body is not LARGE:  # else its end is stuck behind data that nobody reads
            wait_for(lambda: server.open_connections == int(kept), what="the other connections to be closed")


def test_a_healthy_receiver_is_not_affected_by_its_neighbours(sender: Sender) -> None:
    with RudeServer(rude.hang_before_headers) as hanging, RudeServer(rude.answer(OK)) as healthy:
        for _ in range(3):
            assert sender.attempt(hanging.url(), timeout_s=0.05).outcome is Outcome.UNREACHABLE
            assert sender.attempt(healthy.url()).outcome is Outcome.DELIVERED

        assert healthy.connections == 1


def test_a_refused_connection(sender: Sender) -> None:
    with rude.refused_port() as port:
        attempt = sender.attempt(f"http://127.0.0.1:{port}/hook?token=secret")

    assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.CONNECT)
    assert attempt.error == f"can't connect to 127.0.0.1 port {port}: connection refused"


def test_a_receiver_that_accepts_nobody(sender: Sender) -> None:
    with rude.unaccepting_port() as port:
        attempt = sender.attempt(f"http://127.0.0.1:{port}/", timeout_s=DEADLINE_S)

    assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.CONNECT)
    assert DEADLINE_S <= attempt.duration_s < DEADLINE_S + 2.0


def test_a_hundred_requests_share_one_connection(sender: Sender) -> None:
    with RudeServer(rude.answer(OK)) as server:
        for _ in range(100):
            assert sender.attempt(server.url()).outcome is Outcome.DELIVERED

        assert server.connections == 1
        assert (sender.pools.opened, sender.pools.reused) == (1, 99)


def test_a_connection_closed_while_idle_is_replaced(sender: Sender) -> None:
    with RudeServer(rude.answer_and_close(OK)) as server:
        for number in (1, 2, 3):
            assert sender.attempt(server.url()).outcome is Outcome.DELIVERED
            wait_for(lambda: server.open_connections == 0, what="the receiver to close")
            assert server.connections == number


def test_a_connection_that_breaks_as_we_write_is_replaced_once_within_the_attempt(sender: Sender) -> None:
    with RudeServer(rude.close_idle_as_they_write) as server:
        assert sender.attempt(server.url()).outcome is Outcome.DELIVERED

        attempt = sender.attempt(server.url())

        assert attempt.outcome is Outcome.DELIVERED
        assert server.connections == 2


def test_a_fresh_connection_that_breaks_is_not_tried_again(sender: Sender) -> None:
    with RudeServer(rude.reset_after_request) as server:
        sender.attempt(server.url())

        assert server.connections == 1


def test_a_kept_connection_that_breaks_after_the_first_byte_is_not_tried_again(sender: Sender) -> None:
    def answer_then_break(peer: rude.Peer) -> None:
        peer.read_request()
        peer.send(OK)
        peer.read_request()
        peer.send(b"H")
        peer.close()

    with RudeServer(answer_then_break) as server:
        assert sender.attempt(server.url()).outcome is Outcome.DELIVERED

        attempt = sender.attempt(server.url())

        assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.WAIT)
        assert server.connections == 1


def test_a_hanging_kept_connection_is_not_tried_again(sender: Sender) -> None:
    def answer_then_hang(peer: rude.Peer) -> None:
        peer.read_request()
        peer.send(OK)
        peer.hang()

    with RudeServer(answer_then_hang) as server:
        assert sender.attempt(server.url()).outcome is Outcome.DELIVERED
        assert sender.attempt(server.url(), timeout_s=0.1).outcome is Outcome.UNREACHABLE
        assert server.connections == 1


def test_bytes_that_come_while_a_connection_is_idle_are_no_answer_to_the_next_request(sender: Sender) -> None:
    said = threading.Event()

    def talkative(peer: rude.Peer) -> None:
        peer.read_request()
        peer.send(OK)
        peer.send(b"HTTP/1.1 500 Nobody asked\r\nContent-Length: 0\r\n\r\n")
        said.set()

    with RudeServer(talkative) as server:
        first = sender.attempt(server.url())
        assert said.wait(10)
        second = sender.attempt(server.url())

        assert (first.status, second.status) == (200, 200)
        assert server.connections == 2


def test_a_large_request_to_a_slow_reader_arrives_whole(sender: Sender) -> None:
    arrived: list[bytes] = []

    def slow_reader(peer: rude.Peer) -> None:
        peer.wait_readable()
        arrived.append(peer.read_request())
        peer.send(OK)

    with RudeServer(slow_reader) as server:
        attempt = sender.attempt(server.url(), LARGE, timeout_s=20.0)

        assert attempt.outcome is Outcome.DELIVERED
        assert arrived[0].endswith(b"\r\n\r\n" + LARGE)
        assert sender.pools.idle == 1


def test_the_excerpt_is_the_first_4_kib(sender: Sender) -> None:
    with RudeServer(rude.answer(reply("500 x", bytes(range(256)) * 40))) as server:
        assert sender.attempt(server.url()).excerpt == (bytes(range(256)) * 40)[:4096]


def test_ipv6(sender: Sender) -> None:
    with RudeServer(rude.answer(OK), address="::1") as server:
        assert sender.attempt(server.url()).outcome is Outcome.DELIVERED


def test_a_literal_address_that_the_guard_refuses_is_blocked_before_anything_is_sent() -> None:
    with Sender(allow_networks=()) as sender, RudeServer(rude.answer(OK)) as server:
        attempt = sender.attempt(server.url())

        assert (attempt.outcome, attempt.phase) == (Outcome.BLOCKED, Phase.GUARD)
        assert server.connections == 0


def test_a_name_that_resolves_to_a_refused_address_is_blocked_in_the_look_up() -> None:
    names = Names(inside_example=["192.0.2.1", "10.0.0.1"])
    with Sender(names=names) as sender:
        attempt = sender.attempt("http://inside.example/hook")

    assert (attempt.outcome, attempt.phase) == (Outcome.BLOCKED, Phase.DNS)


def test_an_unknown_name_fails_in_the_look_up() -> None:
    with Sender() as sender:
        attempt = sender.attempt("http://nobody.invalid/hook?token=secret")

    assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.DNS)
    assert "token" not in str(attempt.error)


def test_proxies_of_the_process_are_ignored(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with RudeServer(rude.answer(OK)) as server:
        assert sender.attempt(server.url()).outcome is Outcome.DELIVERED
