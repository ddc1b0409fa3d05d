"""``thorn-worker send``: one event, through the same library that services use."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from producer import Producer, Receipt
from producer.client import FLUSH_TIMEOUT_S
from producer.config import Settings, parse_log_url
from producer.errors import LogError, NotAcknowledged
from producer.receipts import Status
from thorn_worker.cli.common import Common, Seconds, with_common
from thorn_worker.commands import writing

#: Once ``--timeout`` is over, closing may take this many seconds more.
_CLOSE_S: Final = 0.5


@click.command()
@with_common
@click.argument("event")
@click.argument("data", required=False, metavar="[JSON|-]")
@click.option("--sender", metavar="NAME", help="Only for subscriptions of this sender, and those of any.")
@click.option("--event-id", metavar="ID", help="Your own id; the same one sent twice is the same deliveries.")
@click.option("--wait", is_flag=True, help="Fail unless the log acknowledges within --timeout.")
@click.option("--timeout", "timeout_s", type=Seconds(), default=30.0, help="Seconds to wait (30).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: event_id, delivery_ids, status.")
def send(
    common: Common,
    event: str,
    data: str | None,
    sender: str | None,
    event_id: str | None,
    wait: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Send EVENT with JSON data (- reads stdin; nothing means {}) to everybody who subscribed to it."""
    payload = _payload(data)
    deadline = time.monotonic() + timeout_s
    late: NotAcknowledged | None = None
    close_s = FLUSH_TIMEOUT_S
    with _told_once():
        service = Producer(**common.overrides())
        try:
            _check_reachable(service.settings)
            receipt = service.send(event, payload, sender=sender, event_id=event_id)
            if wait:
                close_s = _CLOSE_S
                receipt.wait(max(0.0, deadline - time.monotonic()))
        except NotAcknowledged as error:
            late = error
        finally:
            service.close(close_s)
    # Closing has flushed: the outcome is known also without --wait, and a late acknowledgement counts.
    if late is not None and receipt.status is not Status.ACKNOWLEDGED:
        raise late
    if receipt.error is not None:
        raise receipt.error
    _print(receipt, as_json)


def _check_reachable(settings: Settings) -> None:
    """Say at once why no broker can be reached. A service goes on and waits for it; a person wants to know.

    Raises `LogError`.
    """
    sends_there = settings.dispatcher in (None, "log") and settings.log is not None
    if sends_there and parse_log_url(str(settings.log)).kind == "kafka":
        with writing(settings):
            pass  # opening it is the question


class _Untold(logging.Filter):
    """Drops the library's lines about errors that end this command, which tells of them itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line about an error after which nothing is tried again."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        errors = [one for one in arguments if isinstance(one, LogError)]
        return all(error.retriable and record.levelno < logging.ERROR for error in errors)


@contextmanager
def _told_once() -> Iterator[None]:
    untold, logger = _Untold(), logging.getLogger("thorn.producer")
    logger.addFilter(untold)
    try:
        yield
    finally:
        logger.removeFilter(untold)


def _payload(text: str | None) -> object:
    if text is None:
        return {}
    if text == "-":
        source, advice = "what stdin holds", "pipe one JSON value in, in UTF-8"
    else:
        source, advice = "this", "quote it for your shell, like '{\"id\": 7}'"
    try:
        text = _stdin() if text == "-" else text
        text.encode()  # bytes of the command line that are not UTF-8 came as lone surrogates
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, OSError) as error:
        raise click.BadParameter(f"{source} is not JSON ({error}): {advice}", param_hint="JSON") from error
    except RecursionError as error:
        raise click.BadParameter(
            f"{source} is nested too deeply: make it flatter", param_hint="JSON"
        ) from error


def _stdin() -> str:
    """All of stdin. As bytes first: the locale's encoding has no say in what JSON is. Raises ValueError."""
    if sys.stdin is None:
        raise ValueError("stdin is closed")
    text = sys.stdin.buffer.read().decode("utf-8")
    if not text.strip():
        raise ValueError("it is empty")
    return text


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _print(receipt: Receipt, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "event_id": receipt.event_id,
                    "delivery_ids": list(receipt.delivery_ids),
                    "status": str(receipt.status),
                }
            )
        )
        return
    click.echo(f"event {receipt.event_id}: {receipt.status}, {len(receipt.delivery_ids)} deliveries")
    for delivery_id in receipt.delivery_ids:
        click.echo(f"  {delivery_id}")
