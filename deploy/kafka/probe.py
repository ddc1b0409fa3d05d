"""Asks a broker whether it serves, with two requests over a raw socket. An open port alone says nothing: it
is open before the broker has joined its cluster.
"""

import socket
import struct
from typing import Final

#: Keys of the requests, from the protocol guide of Apache Kafka.
_API_VERSIONS: Final = 18
_METADATA: Final = 3

_CLIENT_ID: Final = b"thorn-probe"

#: Longer answers are not from a broker that was asked about no topic.
_ANSWER_BYTES: Final = 1_000_000


def listed_brokers(host: str, port: int, timeout_s: float = 1.0) -> frozenset[int]:
    """The ids of the brokers that this one knows to serve; empty when it is silent for `timeout_s`."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            (error,) = struct.unpack_from(">h", _ask(connection, _API_VERSIONS, 0, b""))
            if error:
                return frozenset()
            return _brokers(_ask(connection, _METADATA, 1, struct.pack(">i", 0)))
    except (OSError, EOFError, struct.error):
        # Refused, silent, closed in mid-answer, or not a broker at all: none of them serves.
        return frozenset()


def _ask(connection: socket.socket, key: int, version: int, body: bytes) -> bytes:
    """One request with header version 1 -> the answer after its correlation id."""
    head = struct.pack(">hhih", key, version, key, len(_CLIENT_ID)) + _CLIENT_ID
    connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    if not 4 <= size <= _ANSWER_BYTES:
        raise EOFError(f"an answer of {size} bytes")
    return _exactly(connection, size)[4:]


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError(f"closed after {len(data)} of {count} bytes")
        data += part
    return data


def _brokers(answer: bytes) -> frozenset[int]:
    """Metadata v1 begins with an array of (id, host, port, rack); both texts follow their length."""
    (count,) = struct.unpack_from(">i", answer)
    at = 4
    found = []
    for _ in range(count):
        broker, host = struct.unpack_from(">ih", answer, at)
        (rack,) = struct.unpack_from(">h", answer, at + 6 + host + 4)
        found.append(broker)
        at += 6 + host + 4 + 2 + max(rack, 0)
    return frozenset(found)
