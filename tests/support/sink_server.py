"""The process behind `tests.support.sink`: little work per request, so that it is never what a bench
measures.
"""

import argparse
import asyncio
import errno
import json
import os
import re
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from tests.support.sink import NEVER_ANSWERED, Rule

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HOOK: Final = re.compile(rb"\r\nhook-(delivery|event|attempt): *([^\r]*)", re.IGNORECASE)
_BACKLOG: Final = 1024


class Book:
    """The ledger and the rules."""

    def __init__(self, ledger: str, keep: bool) -> None:
        self.rules: tuple[Rule, ...] = ()
        self._file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._keep = keep
        self._seen: Counter[tuple[int, bytes]] = Counter()
        self._answers: dict[tuple[Rule, int], bytes] = {}

    def connected(self) -> None:
        """Note a new connection."""
        os.write(self._file, b"connection\n")

    def judge(self, address: str, head: bytes, body: bytes) -> tuple[Rule, bytes]:
        """Write a request down and choose its answer."""
        path = head.split(b" ", 2)[1]
        hook = {name.lower(): value for name, value in _HOOK.findall(head)}
        delivery = hook.get(b"delivery", b"")
        rule, status = self._choose(address, path.decode("latin-1"), delivery or path)
        kept = (head.hex(), body.hex()) if self._keep else ("", "")
        line = b"%.6f\t%b\t%b\t%b\t%b\t%b\t%d\t%b\t%b\n" % (
            time.time(),
            address.encode(),
            path,
            delivery,
            hook.get(b"event", b""),
            hook.get(b"attempt", b""),
            status,
            kept[0].encode(),
            kept[1].encode(),
        )
        os.write(self._file, line)
        return rule, self._answer(rule, status)

    def _choose(self, address: str, path: str, delivery: bytes) -> tuple[Rule, int]:
        for index, rule in enumerate(self.rules):
            if rule.address in ("", address) and path.startswith(rule.path):
                if rule.hang:
                    return rule, NEVER_ANSWERED
                if len(rule.statuses) == 1:
                    return rule, rule.statuses[0]
                key = (index, delivery)
                self._seen[key] += 1
                return rule, rule.statuses[min(self._seen[key], len(rule.statuses)) - 1]
        return _DEFAULT, 200

    def _answer(self, rule: Rule, status: int) -> bytes:
        known = self._answers.get((rule, status))
        if known is None and status != NEVER_ANSWERED:
            fields = [*rule.headers, *([("Connection", "close")] if rule.close else [])]
            if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
                fields.append(("Content-Length", str(len(rule.body.encode()))))
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
            known = f"HTTP/1.1 {status} x\r\n{lines}\r\n{rule.body}".encode()
            self._answers[rule, status] = known
        return known or b""


_DEFAULT: Final = Rule()


class Receiver(asyncio.Protocol):
    """One connection."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = b""
        self._address = ""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._address = transport.get_extra_info("sockname")[0]
        self._book.connected()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            head = data[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(data) < whole:
                break
            self._answer(head, data[end + 4 : whole])
            data = data[whole:]
        self._buffer = data

    def _answer(self, head: bytes, body: bytes) -> None:
        rule, answer = self._book.judge(self._address, head, body)
        if rule.hang:
            return
        if rule.delay_s:
            asyncio.get_running_loop().call_later(rule.delay_s, self._write, rule, answer)
        else:
            self._write(rule, answer)

    def _write(self, rule: Rule, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
            if rule.close:
                self._transport.close()


def bound(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Listening sockets on all addresses with one port, chosen by the system if `port` is 0."""
    for _ in range(50):
        socks: list[socket.socket] = []
        chosen = port
        try:
            for address in addresses:
                socks.append(socket.create_server((address, chosen), backlog=_BACKLOG))
                chosen = socks[0].getsockname()[1]
        except OSError as error:
            for sock in socks:
                sock.close()
            if port or error.errno != errno.EADDRINUSE:
                raise
        else:
            return socks
    raise OSError(errno.EADDRINUSE, "no port is free on all addresses")


def addresses_of(text: str) -> list[str]:
    """``127.0.0.1-3`` -> 127.0.0.1, 127.0.0.2, 127.0.0.3; ``127.0.0.5`` -> just that."""
    first, _, last = text.partition("-")
    prefix, _, number = first.rpartition(".")
    return [f"{prefix}.{value}" for value in range(int(number), int(last or number) + 1)]


async def serve(arguments: argparse.Namespace) -> None:
    """Answer until standard input ends; each line of it is a list of rules."""
    book = Book(arguments.ledger, arguments.keep)
    tls = None
    if arguments.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments.tls)
    loop = asyncio.get_running_loop()
    socks = bound(addresses_of(arguments.addresses), arguments.port)
    for sock in socks:
        await loop.create_server(lambda: Receiver(book), sock=sock, ssl=tls, backlog=_BACKLOG)
    print(json.dumps({"port": socks[0].getsockname()[1]}), flush=True)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        book.rules = tuple(_rule(fields) for fields in json.loads(line))
        print(json.dumps({"rules": len(book.rules)}), flush=True)


def _rule(fields: dict[str, Any]) -> Rule:
    headers = tuple((name, value) for name, value in fields.pop("headers"))
    return Rule(**{**fields, "statuses": tuple(fields["statuses"]), "headers": headers})


def main() -> None:
    """``python -m tests.support.sink``."""
    parser = argparse.ArgumentParser(description="A receiver that writes down every request.")
    parser.add_argument("--addresses", default="127.0.0.1", help="127.0.0.1 or a range such as 127.0.0.1-32")
    parser.add_argument("--port", type=int, default=0, help="one for all addresses; 0 lets the system choose")
    parser.add_argument("--ledger", required=True, help="file to append to")
    parser.add_argument("--keep", action="store_true", help="write heads and bodies down too")
    parser.add_argument("--tls", help="file with private key and certificate chain")
    asyncio.run(serve(parser.parse_args()))
