"""Reading an answer, without a socket."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.http.sending import request
from thorn_worker.http.exchange import (
    MAX_EXCERPT_BYTES,
    MAX_RESPONSE_BYTES,
    READ_BYTES,
    Ending,
    Exchange,
    State,
    conclude,
)
from thorn_worker.http.retry_after import retry_after_s
from thorn_worker.outcome import Outcome, Phase

OK = b"HTTP/1.1 200 OK\r\n"
#: 1994-11-06 08:49:37 UTC, the instant of RFC 9110's own examples.
EXAMPLE_AT = 784_111_777.0


def heard(*pieces: bytes, closed: bool = False) -> Exchange:
    exchange = Exchange()
    for piece in pieces:
        if exchange.state is not State.DONE:
            exchange.feed(piece)
    if closed and exchange.state is not State.DONE:
        exchange.eof()
    return exchange


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 2\r\n\r\nok",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
    ],
)
def test_a_whole_answer_is_read_alike_in_one_piece_and_byte_by_byte(answer: bytes) -> None:
    for exchange in (heard(answer), heard(*(answer[at : at + 1] for at in range(len(answer))))):
        assert (exchange.state, exchange.status, exchange.error) == (State.DONE, 200, None)
        assert exchange.reusable
        assert exchange.excerpt == b"ok"
        assert exchange.retry_after_s(0.0) is None


def test_the_status_is_known_as_soon_as_the_header_block_is_complete() -> None:
    exchange = Exchange()

    assert exchange.feed(OK + b"Content-Length: 5\r\n\r") is State.WAITING
    assert exchange.feed(b"\n") is State.HEAD
    assert exchange.status == 200
    assert exchange.feed(b"hello") is State.DONE


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"Content-Length: 2\r\n\r\nokEXTRA",
        OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_a_connection_is_not_reused_after_a_close_or_bytes_behind_the_message(answer: bytes) -> None:
    exchange = heard(answer)

    assert exchange.state is State.DONE
    assert exchange.status in (200, 204)
    assert not exchange.reusable


def test_bytes_that_come_later_than_the_message_forbid_reuse_too() -> None:
    exchange = heard(OK + b"Content-Length: 2\r\n\r\nok")

    exchange.feed(b"X")

    assert not exchange.reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"hello world\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw bytes",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 2, 2\r\n\r\nok",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Content-Length : 2\r\n\r\nok",
        OK + b"X: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        OK + b"X: " + b"a" * MAX_RESPONSE_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_RESPONSE_BYTES // 25 + 1),
    ],
)
def test_a_broken_answer_has_no_status_but_a_reason(answer: bytes) -> None:
    exchange = heard(*(answer[at : at + READ_BYTES] for at in range(0, len(answer), READ_BYTES)))

    assert (exchange.state, exchange.status, exchange.reusable) == (State.DONE, None, False)
    assert exchange.error is not None
    assert conclude(request("http://h/"), exchange, Ending(Phase.WAIT, 0.1)).outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 100\r\n\r\nonly this",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        OK + b"Content-Length: 10000000\r\n\r\n" + b"x" * MAX_RESPONSE_BYTES,
    ],
)
def test_whatever_is_wrong_with_the_body_the_status_counts(answer: bytes) -> None:
    exchange = heard(*(answer[at : at + READ_BYTES] for at in range(0, len(answer), READ_BYTES)), closed=True)
    attempt = conclude(request("http://h/"), exchange, Ending(Phase.WAIT, 0.1))

    assert (attempt.outcome, attempt.phase, attempt.status) == (Outcome.DELIVERED, Phase.BODY, 200)
    assert attempt.error is not None
    assert not exchange.reusable


def test_a_body_without_length_ends_with_the_connection_and_nothing_is_wrong() -> None:
    exchange = heard(OK + b"\r\nhel", b"lo", closed=True)

    assert (exchange.state, exchange.status, exchange.error, exchange.excerpt) == (
        State.DONE,
        200,
        None,
        b"hello",
    )
    assert not exchange.reusable


@pytest.mark.parametrize(
    "pieces, words", [((), "without an answer"), ((b"HTTP/1.1 2",), "within its header block")]
)
def test_an_end_before_the_header_block_is_told_as_such(pieces: tuple[bytes, ...], words: str) -> None:
    exchange = heard(*pieces, closed=True)

    assert exchange.status is None
    assert words in str(exchange.error)


def test_no_more_than_the_cap_is_asked_for_and_no_more_than_the_excerpt_kept() -> None:
    exchange = Exchange()
    exchange.feed(OK + b"Content-Length: 60000\r\n\r\n")
    while exchange.state is not State.DONE:
        assert exchange.room > 0
        exchange.feed(b"y" * min(1000, exchange.room, 60000))

    assert exchange.received <= MAX_RESPONSE_BYTES
    assert exchange.excerpt == b"y" * MAX_EXCERPT_BYTES


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_whatsoever_make_it_raise(noise: bytes, size: int) -> None:
    for data in (noise, OK + noise, OK + b"Transfer-Encoding: chunked\r\n\r\n" + noise):
        exchange = heard(*(data[at : at + size] for at in range(0, len(data), size)), closed=True)
        assert exchange.state is State.DONE
        assert exchange.status is not None or exchange.error


def test_finished_exchanges_leave_nothing_to_the_cycle_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            heard(OK + b"Content-Length: 0\r\n\r\n")
        assert gc.collect() < 100
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "value, wait_s",
    [
        (b"30", 30.0),
        (b"0", 0.0),
        (b" 007 ", 7.0),
        (b"86400", 86_400.0),
        (b"86401", 86_400.0),
        (b"9" * 5000, 86_400.0),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 30.0),
        (b"Sun Nov  6 08:49:37 1994", 30.0),
        (b"Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        (b"Fri, 01 Jan 2100 00:00:00 GMT", 86_400.0),
        (b"Sunday, 06-Nov-44 08:49:37 GMT", 86_400.0),
        (b"Sunday, 06-Nov-45 08:49:37 GMT", 0.0),
        (b"-1", None),
        (b"1.5", None),
        (b"", None),
        (b"soon", None),
        (b"\xb2", None),
        (b"1e3", None),
        (b"30 s", None),
        (b"Sun, 31 Feb 1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 25:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 08:49:37 +0100", None),
        (b"Sun, 06 Xyz 1994 08:49:37 GMT", None),
        (b"Sun, 00 Nov 0000 08:49:37 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_one_of_three_date_forms(value: bytes, wait_s: float | None) -> None:
    assert retry_after_s(value, EXAMPLE_AT - 30) == wait_s


def test_retry_after_reaches_the_attempt_counted_from_the_answer() -> None:
    exchange = heard(
        b"HTTP/1.1 503 Busy\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"retry-after: 5\r\nContent-Length: 0\r\n\r\n"
    )
    asked = request("http://h/")
    started = EXAMPLE_AT - 30
    asked = type(asked)(asked.target, asked.head, asked.body, 15.0, 1, started)

    attempt = conclude(asked, exchange, Ending(Phase.WAIT, 10.0))

    assert attempt.outcome is Outcome.THROTTLED
    assert attempt.retry_after_s == 20.0


@given(st.binary(max_size=60))
def test_no_retry_after_makes_it_raise(value: bytes) -> None:
    wait_s = retry_after_s(value, EXAMPLE_AT)
    assert wait_s is None or 0.0 <= wait_s <= 86_400.0
