"""The receivers, all in one process of plain asyncio: ``python -m thorn_worker.demo.receivers FOLDER``.

Each request is written down right before its answer goes out; one that gets no answer, with status 0.
Ends when standard input does, so that it never outlives the demo.
"""

import asyncio
import base64
import errno
import hmac
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from httptools import HttpParserError, HttpRequestParser

from thorn_worker.demo.cast import Kind, Role, read_cast
from thorn_worker.demo.ledger import Request
from thorn_worker.demo.records import CAST, PLACES, REQUESTS, Recorder, request_line

_BACKLOG: Final = 1024
_ANSWERS: Final[Mapping[int, bytes]] = {
    status: f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\n\r\n".encode()
    for status, reason in ((200, "OK"), (410, "Gone"), (500, "Internal Server Error"))
}


class Signatures:
    """Checks what one subscriber gets, by the published rules alone: none of the worker's code is used."""

    def __init__(self, role: Role) -> None:
        self._key = base64.b64decode(role.secret.removeprefix("whsec_"))
        self._hook_key = role.hmac_secret.encode()

    def right(self, headers: Mapping[bytes, bytes], body: bytes) -> bool:
        """Are ``webhook-signature`` (Standard Webhooks 1.0.0) and ``Hook-HMAC`` those of this very body?"""
        signed = b"%b.%b.%b" % (
            headers.get(b"webhook-id", b""),
            headers.get(b"webhook-timestamp", b""),
            body,
        )
        return hmac.compare_digest(
            b"v1," + _mac(self._key, signed), headers.get(b"webhook-signature", b"")
        ) and hmac.compare_digest(_mac(self._hook_key, body), headers.get(b"hook-hmac", b""))


def _mac(key: bytes, message: bytes) -> bytes:
    return base64.b64encode(hmac.digest(key, message, "sha256"))


class Receiver(asyncio.Protocol):
    """One connection to one subscriber. The worker has one request at a time on it."""

    def __init__(self, role: Role, signatures: Signatures, recorder: Recorder) -> None:
        self._role = role
        self._signatures = signatures
        self._recorder = recorder
        self._parser = HttpRequestParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: somebody is here."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio: some bytes came."""
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._headers.clear()
        self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header is complete."""
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        """httptools: a piece of the body."""
        self._body += data

    def on_message_complete(self) -> None:
        """httptools: a request is complete."""
        headers, status = self._headers, self._status()
        request = Request(
            at=time.time(),
            id=headers.get(b"hook-delivery", b"-").decode("latin-1"),
            attempt=int(headers.get(b"hook-attempt", b"0")),
            status=status,
            signed=self._signatures.right(headers, self._body),
        )
        if self._role.delay_s:
            asyncio.get_running_loop().call_later(self._role.delay_s, self._answer, request)
        else:
            self._answer(request)

    def _status(self) -> int:
        if self._role.kind is Kind.HANGING:
            return 0
        if self._role.kind is Kind.GONE:
            return 410
        return 500 if random.random() < self._role.failing else 200

    def _answer(self, request: Request) -> None:
        if request.status and self._transport.is_closing():  # nobody waits for the answer any more
            request = Request(request.at, request.id, request.attempt, 0, request.signed)
        self._recorder.write([request_line(request)])
        if request.status:
            self._transport.write(_ANSWERS[request.status])


def sockets(count: int, network: str = "127.0.0") -> list[socket.socket]:
    """Bound sockets on 127.0.0.1, 127.0.0.2, … with one port; without those, on ports of 127.0.0.1.

    Linux has all of them, macOS only the first.
    """
    try:
        return _one_port([f"{network}.{number}" for number in range(1, count + 1)])
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
    return [_bound("127.0.0.1", 0) for _ in range(count)]


def _one_port(addresses: Sequence[str]) -> list[socket.socket]:
    for _ in range(20):
        found: list[socket.socket] = []
        try:
            for address in addresses:
                found.append(_bound(address, found[0].getsockname()[1] if found else 0))
        except OSError as error:
            for one in found:
                one.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return found
    raise OSError(errno.EADDRINUSE, f"no port is free on all of {addresses[0]} to {addresses[-1]}")


def _bound(address: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.bind((address, port))
    except BaseException:
        one.close()
        raise
    return one


async def serve(folder: Path) -> None:
    """Receive until standard input ends."""
    loop = asyncio.get_running_loop()
    roles = read_cast(folder / CAST)
    recorder = Recorder(folder / REQUESTS)
    places: dict[str, str] = {}
    found = sockets(len(roles))
    for role, sock in zip(roles, found, strict=True):
        address, port = sock.getsockname()
        places[role.name] = f"{address}:{port}"
        if role.kind is not Kind.REFUSING:  # a port that is bound but does not listen refuses
            await loop.create_server(_factory(role, recorder), sock=sock, backlog=_BACKLOG)
    _tell(folder / PLACES, places)
    lifeline = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lifeline), sys.stdin)
    await lifeline.read()


def _factory(role: Role, recorder: Recorder) -> Callable[[], Receiver]:
    signatures = Signatures(role)
    return lambda: Receiver(role, signatures, recorder)


def _tell(path: Path, places: Mapping[str, str]) -> None:
    """The file is there at once and whole."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(places))
    os.replace(unfinished, path)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
