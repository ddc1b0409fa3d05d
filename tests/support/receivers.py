"""Receivers that nobody here wrote: nginx over TLS, and servers on Go's and Node's own HTTP.

Each keeps a ledger with one line per request, the delivery id first.
"""

import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.certs import Authority
from tests.support.tools import require_tool
from tests.support.waiting import wait_for

_SOURCES: Final = Path(__file__).parents[1] / "receivers"

#: Everything inside its own folder; one process, so that ending it ends all of it.
_NGINX_CONF: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    log_format ledger '$http_hook_delivery $content_length $status';
    access_log {folder}/ledger ledger;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name localhost;
        ssl_certificate {pem};
        ssl_certificate_key {pem};
        location / {{ return 204; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running receiver."""

    name: str
    url: str
    ledger: Path

    def lines(self) -> list[list[str]]:
        """Its ledger, a possibly unfinished last line left out."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]

    def delivered(self) -> Counter[str]:
        """Delivery id -> number of requests."""
        return Counter(line[0] for line in self.lines())


@contextmanager
def nginx(folder: Path, authority: Authority) -> Iterator[Receiver]:
    """nginx as Debian ships it, serving TLS as ``localhost``."""
    program = require_tool("nginx")
    port = _free_port()
    conf = folder / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(folder=folder, port=port, pem=authority.pem("localhost")))
    with _running([program, "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log")]) as process:

        def listens() -> bool:
            assert process.poll() is None, (folder / "error.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens, what="nginx to listen")
        yield Receiver("nginx", f"https://localhost:{port}/hook", folder / "ledger")


@contextmanager
def go_server(folder: Path, secret: str) -> Iterator[Receiver]:
    """net/http, built here."""
    program = folder / "receiver"
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "GO111MODULE": "off"}
    source = _SOURCES / "go" / "main.go"
    subprocess.run(
        [require_tool("go"), "build", "-o", str(program), str(source)],
        check=True,
        env=environment,
        timeout=110,
    )
    with _announced("go", [str(program), str(folder / "ledger"), secret], folder / "ledger") as receiver:
        yield receiver


@contextmanager
def node_server(folder: Path, secret: str) -> Iterator[Receiver]:
    """Node's http module."""
    command = [require_tool("node"), str(_SOURCES / "node" / "server.js"), str(folder / "ledger"), secret]
    with _announced("node", command, folder / "ledger") as receiver:
        yield receiver


@contextmanager
def _announced(name: str, command: Sequence[str], ledger: Path) -> Iterator[Receiver]:
    """A receiver that prints its port."""
    with _running(command) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        yield Receiver(name, f"http://127.0.0.1:{port}/hook", ledger)


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
