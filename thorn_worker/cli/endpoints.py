"""``thorn-worker endpoints``: which subscriptions are failing or disabled, and switching them."""

import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import click

from producer.config import Settings
from producer.model import Command
from producer.subscriptions.settings import Subscribers
from thorn_worker.cli.common import Common, inspecting, with_common
from thorn_worker.cli.ordering import order, report, with_wait
from thorn_worker.cli.output import json_option, limit_option, print_list, show_rows
from thorn_worker.cli.rows import endpoint_rows

_COLUMNS: Final = ("id", "host", "state", "reason", "disabled_at", "failing_since_at", "failures")


@click.group()
def endpoints() -> None:
    """Endpoints that have a history of failures: look at them, enable them again, disable them."""


@endpoints.command("list")
@with_common
@limit_option
@json_option
def list_(common: Common, limit: int | None, as_json: bool) -> None:
    """List the endpoints of which the store remembers anything; a healthy one may be missing."""
    with inspecting(common.settings_with_log()) as inspector:
        print_list(endpoint_rows(inspector.endpoints()), _COLUMNS, limit, as_json=as_json)


@endpoints.command("show")
@with_common
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def show(common: Common, ids: tuple[str, ...], as_json: bool) -> None:
    """Show what the store remembers of these subscriptions."""
    with inspecting(common.settings_with_log()) as inspector:
        rows = endpoint_rows(inspector.endpoints(ids))
    if not show_rows(rows, as_json=as_json):
        raise click.ClickException(
            f"the store remembers nothing of {', '.join(ids)}: it is enabled, or never failed"
        )


@endpoints.command("enable")
@with_common
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@with_wait
def enable(wait_s: float | None, common: Common, ids: tuple[str, ...]) -> None:
    """Deliver to these subscriptions again. What died meanwhile comes back with `dead replay`."""
    _give("enable", common, ids, wait_s)


@endpoints.command("disable")
@with_common
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@with_wait
def disable(wait_s: float | None, common: Common, ids: tuple[str, ...]) -> None:
    """Deliver nothing more to these subscriptions: what comes for them becomes a dead letter `disabled`."""
    _give("disable", common, ids, wait_s)


def _give(op: str, common: Common, ids: tuple[str, ...], wait_s: float | None) -> None:
    for text in ids:
        try:
            UUID(text)
        except ValueError as error:
            raise click.BadParameter(
                f"{text!r} is no subscription id: those are UUIDs, see `endpoints list`"
            ) from error
    settings = common.settings_with_log()
    _say_unknown(settings, ids)
    with inspecting(settings) as inspector:
        positions = order(settings, inspector, Command(op=op, subs=ids, at=time.time()))
        report(inspector, positions, wait_s)


def _say_unknown(settings: Settings, ids: Sequence[str]) -> None:
    """A mistyped id would be obeyed in silence. Only a note: senders may have subscribers of their own."""
    known = {*Subscribers(settings.subscribers).known(), *settings.secrets}
    for text in ids:
        if text not in known:
            click.echo(f"note: no subscriber in these settings has the id {text}", err=True)
