"""Whether something serves as a broker, asked of servers that don't."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.kafka.probe import listed_brokers

HOST = "127.0.0.1"


@contextmanager
def server(*answers: bytes) -> Iterator[int]:
    """Accepts one connection, answers each request with the next of these, and closes it."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    connection.recv(1_000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def framed(body: bytes) -> bytes:
    return struct.pack(">ii", 4 + len(body), 0) + body


def broker(number: int, rack: bytes | None) -> bytes:
    host = b"127.0.0.1"
    end = struct.pack(">h", -1) if rack is None else struct.pack(">h", len(rack)) + rack
    return struct.pack(">ih", number, len(host)) + host + struct.pack(">i", 9092) + end


VERSIONS = framed(struct.pack(">hi", 0, 0))
REFUSED_VERSIONS = framed(struct.pack(">hi", 35, 0))


def test_brokers_with_and_without_a_rack_are_read() -> None:
    metadata = framed(
        struct.pack(">i", 2) + broker(1, None) + broker(3, b"cellar") + struct.pack(">ii", 1, 0)
    )
    with server(VERSIONS, metadata) as port:
        assert listed_brokers(HOST, port) == {1, 3}


@pytest.mark.parametrize(
    "answers",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
        (b"\x00\x00",),
        (b"",),
        (REFUSED_VERSIONS,),
        (VERSIONS, framed(struct.pack(">i", 5))),
        (VERSIONS, framed(struct.pack(">i", 0))),
    ],
    ids=["not Kafka", "cut short", "hangs up", "refuses", "lies", "knows nobody"],
)
def test_what_is_no_serving_broker_lists_nobody(answers: tuple[bytes, ...]) -> None:
    with server(*answers) as port:
        assert listed_brokers(HOST, port) == frozenset()


def test_a_closed_port_and_a_silent_one_list_nobody() -> None:
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        assert listed_brokers(HOST, port, timeout_s=0.05) == frozenset()
    assert listed_brokers(HOST, port, timeout_s=0.05) == frozenset()
