"""The operator's window into a running worker: ``/metrics``, ``/healthz``, ``/readyz`` and a status page on
``/``.

Everything is read on the hub, between two deliveries, from values that exist anyway: a request costs the
text.
"""

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any, Final, TypeAlias

import gevent
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from producer.errors import ConfigurationError
from thorn_worker import __version__
from thorn_worker.counters import Counters
from thorn_worker.exposition import Exposition
from thorn_worker.listener import open_listener
from thorn_worker.metrics import DEAD_LETTERS, LOOP_LAG

#: How long the loop monitor sleeps between two looks.
LOOP_CHECK_S: Final = 0.1
#: The lag shown on the status page is the worst of the last so many looks: 10 s.
LOOP_CHECKS_SHOWN: Final = 100

#: Connections served at once. Further ones wait in the kernel's queue, so strangers can't eat the worker's
#: files.
_CONNECTIONS: Final = 32

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Readiness:
    """May traffic rely on this worker? causes: one sentence each, empty if and only if it may."""

    ready: bool
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRow:
    """One partition on the page. state: ``ours``, ``restoring`` or why it stands. committed: next offset."""

    partition: int
    owner: str
    state: str
    committed: int
    lag: int
    in_flight: int
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the worker knows of itself just now. place: of the log. pending: rows in the store."""

    place: str
    started_at: float
    partitions: tuple[PartitionRow, ...]
    lanes: int
    in_flight: int
    max_in_flight: int
    pending: int
    unresolved: int = 0
    draining: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    status: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class LoopMonitor:
    """Measures how late the event loop is: it sleeps `LOOP_CHECK_S` and looks how long that took."""

    def __init__(self, counters: Counters) -> None:
        self._histogram = counters.histogram(LOOP_LAG)
        self._recent: deque[float] = deque(maxlen=LOOP_CHECKS_SHOWN)
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin to measure, in a greenlet of its own."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Stop measuring; the numbers stay."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    @property
    def worst_s(self) -> float:
        """The worst lag of the last ten seconds; 0.0 before the first look."""
        return max(self._recent, default=0.0)

    def _run(self) -> None:
        while True:
            before = time.monotonic()
            gevent.sleep(LOOP_CHECK_S)
            self.observe(time.monotonic() - before)

    def observe(self, slept_s: float) -> None:
        """Count one look that took `slept_s`: 0.13 s asleep instead of 0.1 s is a lag of 0.03 s."""
        lag_s = max(0.0, slept_s - LOOP_CHECK_S)
        self._recent.append(lag_s)
        self._histogram.observe(lag_s)

    def __repr__(self) -> str:
        return f"LoopMonitor(worst {self.worst_s:.4f} s)"


@dataclass(frozen=True, slots=True)
class Sources:
    """What the admin server shows. The callables run on the hub at each request and must not wait."""

    counters: Counters
    readiness: Callable[[], Readiness]
    status: Callable[[], Status]
    loop: LoopMonitor


class AdminServer:
    """An HTTP server for operators on ``THORN_ADMIN``; port 0 takes any free one."""

    def __init__(self, address: tuple[str, int], sources: Sources) -> None:
        self._address = address
        self._sources = sources
        self._exposition = Exposition(sources.counters)
        self._pages: dict[str, Callable[[str], _Answer]] = {
            "/": self._status_page,
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/readyz": self._readiness,
        }
        self._server: WSGIServer | None = None

    def start(self) -> None:
        """Listen. Raises `ConfigurationError` if the address cannot be had."""
        host, port = self._address
        try:
            listener = open_listener(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(
                    f"the admin address {host}:{port} is in use by another process: stop that one, "
                    f"or set THORN_ADMIN to a free address such as {host}:{port + 1} (port 0 takes any)"
                ) from error
            raise ConfigurationError(
                f"the admin address {host}:{port} cannot be used ({error.strerror or error}): "
                "set THORN_ADMIN to an address of this machine, such as 127.0.0.1:9464"
            ) from error
        self._server = WSGIServer(listener, self._serve, log=None, error_log=_LOG, spawn=Pool(_CONNECTIONS))
        self._server.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, with the port that was really taken; before `start`, where it is going to."""
        host, port = self._address
        return host, port if self._server is None else self._server.server_port

    def stop(self) -> None:
        """Close the listener and every connection, after at most one second."""
        if self._server is not None:
            self._server.stop(timeout=1)

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        answer = self._answer(environ)
        start_response(
            answer.status,
            [
                ("Content-Type", answer.content_type),
                ("Content-Length", str(len(answer.body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
                *answer.headers,
            ],
        )
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: dict[str, Any]) -> _Answer:
        page = self._pages.get(environ["PATH_INFO"])
        if page is None:
            return _text("404 Not Found", f"nothing here: try {', '.join(self._pages)}")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text("405 Method Not Allowed", "only GET and HEAD", (("Allow", "GET, HEAD"),))
        return page(environ.get("HTTP_ACCEPT", ""))

    def _metrics(self, accept: str) -> _Answer:
        content_type, body = self._exposition.scrape(accept)
        return _Answer("200 OK", content_type, body)

    def _health(self, accept: str) -> _Answer:  # noqa: ARG002
        # This very answer was written by the event loop, so the loop turns.
        return _text("200 OK", "alive")

    def _readiness(self, accept: str) -> _Answer:  # noqa: ARG002
        readiness = self._sources.readiness()
        if readiness.ready:
            return _text("200 OK", "ready")
        return _text("503 Service Unavailable", "\n".join(("not ready", *readiness.causes)))

    def _status_page(self, accept: str) -> _Answer:  # noqa: ARG002
        html = render(self._sources.status(), self._sources)
        return _Answer("200 OK", "text/html; charset=utf-8", html.encode())

    def __repr__(self) -> str:
        host, port = self.address
        return f"AdminServer({host}:{port}, {'up' if self._server is not None else 'not started'})"


def _text(status: str, text: str, headers: tuple[tuple[str, str], ...] = ()) -> _Answer:
    return _Answer(status, "text/plain; charset=utf-8", f"{text}\n".encode(), headers)


#: One row of a two-column table, and the cells of a wider one.
_Cells: TypeAlias = tuple[object, ...]

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.15rem .9rem .15rem 0;text-align:left}
th{border-bottom:1px solid #999}td{border-bottom:1px solid #eee;font-variant-numeric:tabular-nums}
.bad{color:#b00020;font-weight:600}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td{border-color:#333}.bad{color:#ff8a80}}
"""


def render(status: Status, sources: Sources) -> str:
    """The status page: one self-contained document, no script, nothing loaded from elsewhere."""
    readiness = sources.readiness()
    letters = {reason: counter.value for reason, counter in sources.counters.family(DEAD_LETTERS).items()}
    state = "draining" if status.draining else "ready" if readiness.ready else "not ready"
    facts: list[_Cells] = [
        ("state", state),
        ("log", status.place),
        ("up for", f"{max(0.0, time.time() - status.started_at):.0f} s"),
        ("in flight", f"{status.in_flight} of {status.max_in_flight}"),
        ("lanes", status.lanes),
        ("pending", status.pending),
        ("unresolved subscriptions", status.unresolved),
        ("loop lag, worst of 10 s", f"{sources.loop.worst_s * 1000:.1f} ms"),
        ("dead letters since start", ", ".join(f"{n} {why}" for why, n in letters.items() if n) or "none"),
    ]
    rows: list[_Cells] = [
        (
            row.partition,
            row.owner,
            row.state,
            row.committed,
            row.lag,
            row.in_flight,
            "yes" if row.paused else "",
        )
        for row in status.partitions
    ]
    heads = ("partition", "owner", "state", "committed", "lag", "in flight", "paused")
    causes = "".join(f'<p class="bad">{escape(cause)}</p>' for cause in readiness.causes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5">'
        f"<title>thorn-worker: {escape(state)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>thorn-worker {escape(__version__)}</h1>{causes}{_table(facts)}"
        f"<h2>Partitions</h2>{_table(rows, heads)}"
        '<p><a href="/metrics">metrics</a> <a href="/healthz">health</a> <a href="/readyz">readiness</a></p>'
        "</body></html>"
    )


def _table(rows: list[_Cells], heads: tuple[str, ...] = ()) -> str:
    head = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in heads)}</tr>" if heads else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"
