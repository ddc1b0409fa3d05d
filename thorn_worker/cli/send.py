"""``thorn-worker send``: one event, through the same library that services use."""

import json
import sys

import click

from producer import Producer, Receipt
from thorn_worker.cli.common import Common, with_common
from thorn_worker.cli.output import json_option


@click.command()
@with_common
@click.argument("event")
@click.argument("data", required=False, metavar="[JSON|-]")
@click.option("--sender", metavar="NAME", help="Only for subscriptions of this sender, and those of any.")
@click.option("--event-id", metavar="ID", help="Your own id; the same one sent twice is the same deliveries.")
@click.option("--wait", is_flag=True, help="Fail unless the log acknowledges within --timeout.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=30.0, help="Seconds to wait (30)."
)
@json_option
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
    with Producer(**common.overrides()) as service:
        receipt = service.send(event, payload, sender=sender, event_id=event_id)
        if wait:
            receipt.wait(timeout_s)
    # Closing has flushed, so the outcome is known also without --wait.
    if receipt.error is not None:
        raise receipt.error
    _print(receipt, as_json)


def _payload(text: str | None) -> object:
    if text is None:
        return {}
    try:
        return json.loads(sys.stdin.read() if text == "-" else text, parse_constant=_no_constant)
    except ValueError as error:
        raise click.BadParameter(
            f"this is not JSON ({error}): quote it for your shell, like '{{\"id\": 7}}'", param_hint="JSON"
        ) from error


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
