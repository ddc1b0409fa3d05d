"""``thorn-worker listen``: a receiver that verifies signatures and prints what it gets."""

import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from itertools import cycle
from typing import Any, Final

import click
import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIServer

from producer.errors import ConfigurationError
from thorn_worker.cli.common import Seconds
from thorn_worker.cli.output import instant, json_option, json_text, printable
from thorn_worker.http.signing import key_of, verify, verify_hook_hmac
from thorn_worker.listener import open_listener

#: Characters of a body that the compact form shows.
_PREVIEW: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request, as it is printed. signature: ``good``, ``not checked``, or what is wrong."""

    at: float
    method: str
    path: str
    event: str | None
    delivery: str | None
    subscription: str | None
    attempt: str | None
    signature: str
    status: int
    bytes: int
    body: str

    def line(self) -> str:
        """Two lines for people: what came, and the beginning of the body."""
        named = f"{self.event or '-'} delivery={self.delivery or '-'} attempt={self.attempt or '-'}"
        came = f"{self.method} {self.path} {named} signature: {self.signature} -> {self.status}"
        preview = self.body.translate({10: " ", 13: " "})[:_PREVIEW]
        return f"{instant(self.at)} {printable(came)}\n    {self.bytes} bytes: {printable(preview)}"


@dataclass(frozen=True, slots=True)
class Checks:
    """The secrets of which a request must match one. Without any, nothing is checked."""

    secrets: tuple[str, ...] = ()
    hmac_secret: str | None = None

    def verdict(self, environ: dict[str, Any], body: bytes, now_at: float) -> str:
        """``good``, ``not checked``, or what is wrong."""
        wrong = [
            problem
            for problem in (self._hook(environ, body), self._standard(environ, body, now_at))
            if problem
        ]
        if wrong:
            return "; ".join(wrong)
        return "good" if self.secrets or self.hmac_secret is not None else "not checked"

    def _hook(self, environ: dict[str, Any], body: bytes) -> str | None:
        if self.hmac_secret is None:
            return None
        value = environ.get("HTTP_HOOK_HMAC")
        if value is None:
            return "Hook-HMAC is missing"
        return (
            None if verify_hook_hmac(value, "sha256", self.hmac_secret, body) else "Hook-HMAC does not match"
        )

    def _standard(self, environ: dict[str, Any], body: bytes, now_at: float) -> str | None:
        if not self.secrets:
            return None
        names = ("HTTP_WEBHOOK_ID", "HTTP_WEBHOOK_TIMESTAMP", "HTTP_WEBHOOK_SIGNATURE")
        message_id, timestamp, signature = (environ.get(name) for name in names)
        if message_id is None or timestamp is None or signature is None:
            return "webhook-signature is missing"
        problems = [
            verify(secret, (message_id, timestamp, signature), body, now_at) for secret in self.secrets
        ]
        return None if None in problems else problems[0]


class Receiver:
    """A WSGI application that answers with each of `statuses` in turn, after `delay_s`."""

    def __init__(
        self, checks: Checks, statuses: Sequence[int], delay_s: float, show: Callable[[Received], None]
    ) -> None:
        self._checks = checks
        self._statuses: Iterator[int] = cycle(statuses)
        self._delay_s = delay_s
        self._show = show

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Take one request."""
        body: bytes = environ["wsgi.input"].read()
        now_at = time.time()
        status = next(self._statuses)
        received = Received(
            at=now_at,
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"],
            event=environ.get("HTTP_HOOK_EVENT"),
            delivery=environ.get("HTTP_HOOK_DELIVERY"),
            subscription=environ.get("HTTP_HOOK_SUBSCRIPTION"),
            attempt=environ.get("HTTP_HOOK_ATTEMPT"),
            signature=self._checks.verdict(environ, body, now_at),
            status=status,
            bytes=len(body),
            body=body.decode("utf-8", "replace"),
        )
        if self._delay_s:
            gevent.sleep(self._delay_s)
        self._show(received)
        # 204 and 304 have no body, and say so by their number (RFC 9110 section 6.4.1).
        start_response(_status_line(status), [] if status in (204, 304) else [("Content-Length", "0")])
        return []


class Statuses(click.ParamType[tuple[int, ...]]):
    """``200,500,503``: final status codes."""

    name = "statuses"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers; a usage error for anything that is no final status code."""
        if isinstance(value, tuple):
            return value
        codes = [text.strip() for text in str(value).split(",")]
        if not all(code.isdigit() and 200 <= int(code) <= 599 for code in codes):
            self.fail(f"{value!r} must be status codes from 200 to 599 with commas between them", param, ctx)
        return tuple(map(int, codes))


@click.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), default=8808, help="Port (8808); 0 takes any.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="KEY", help="whsec_… or whpk_…; any one may match."
)
@click.option("--hmac-secret", metavar="TEXT", help="Secret of Hook-HMAC.")
@click.option("--status", "statuses", type=Statuses(), default="200", help="Answers in turn: 200,500,…")
@click.option("--delay", "delay_s", type=Seconds(), default=0.0, help="Seconds before each answer.")
@json_option
def listen(
    host: str,
    port: int,
    secrets: tuple[str, ...],
    hmac_secret: str | None,
    statuses: tuple[int, ...],
    delay_s: float,
    as_json: bool,
) -> None:
    """Receive webhooks, check their signatures and print them, until Ctrl-C."""
    receiver = Receiver(Checks(_checked(secrets), hmac_secret), statuses, delay_s, _printer(as_json))
    try:
        listener = open_listener(host, port)
    except OSError as error:
        raise ConfigurationError(
            f"{host}:{port} cannot be had ({error.strerror or error}): choose another --port or --host"
        ) from error
    server = WSGIServer(listener, receiver, log=None)
    server.start()
    click.echo(hints(host, server.server_port, secrets, hmac_secret), err=True)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stop.set)
    stop.wait()
    server.stop(timeout=1)


def hints(host: str, port: int, secrets: Sequence[str], hmac_secret: str | None) -> str:
    """The settings that make a worker deliver here; without them the guard refuses private addresses."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    fields = [f"url = {json.dumps(url)}"]
    signing = [secret for secret in secrets if not secret.startswith("whpk_")]
    if signing:
        fields.append(f"secrets = {json.dumps(signing)}")
    if hmac_secret is not None:
        fields.append(f"hmac_secret = {json.dumps(hmac_secret)}")
    network = "::1/128" if ":" in host else "127.0.0.0/8" if host.startswith("127.") else f"{host}/32"
    entry = f"{{ {', '.join(fields)} }}" if len(fields) > 1 else json.dumps(url)
    return (
        f"listening on {url}; settings that let a worker deliver here:\n\n"
        f'    allow_networks = ["{network}"]\n'
        "    [subscribers]\n"
        f'    "*" = {entry}\n'
    )


def _checked(secrets: tuple[str, ...]) -> tuple[str, ...]:
    for secret in secrets:
        if not secret.startswith("whpk_"):
            key_of(secret)
    return secrets


def _printer(as_json: bool) -> Callable[[Received], None]:
    if as_json:
        return lambda received: click.echo(json_text(asdict(received)))
    return lambda received: click.echo(received.line())


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Status"
