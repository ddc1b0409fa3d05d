"""``thorn-worker pending``: deliveries that wait in the store for their next attempt."""

import time
from typing import Final

import click

from producer.model import Command
from thorn_worker.cli.common import Common, inspecting, with_common
from thorn_worker.cli.ordering import order, order_by_id, report, with_wait
from thorn_worker.cli.output import body_option, json_option, limit_option, print_list, show_rows
from thorn_worker.cli.rows import details, pending_row
from thorn_worker.cli.selecting import by_endpoint_only, require_found, require_some, with_selection
from thorn_worker.inspector import RowFilter
from thorn_worker.outcome import Outcome
from thorn_worker.store.contract import NOT_BEFORE, UNRESOLVED

#: Columns of the table; programs get all fields.
_COLUMNS: Final = ("id", "event", "host", "attempts", "reason", "due_at")
#: Why a delivery can wait.
_REASONS: Final = (*(word for word in Outcome if word is not Outcome.DELIVERED), UNRESOLVED, NOT_BEFORE)


@click.group()
def pending() -> None:
    """Deliveries that wait for their next attempt: look at them, try them now, cancel them."""


@pending.command("list")
@with_common
@with_selection(_REASONS)
@limit_option
@json_option
def list_(wanted: RowFilter, common: Common, limit: int | None, as_json: bool) -> None:
    """List waiting deliveries: all, or those that match every option given."""
    with inspecting(common.settings_with_log()) as inspector:
        print_list(map(pending_row, inspector.pendings(wanted)), _COLUMNS, limit, as_json=as_json)


@pending.command("show")
@with_common
@with_selection(_REASONS)
@body_option
@json_option
def show(wanted: RowFilter, common: Common, body: bool, as_json: bool) -> None:
    """Show waiting deliveries with status, phase, error and the last attempts."""
    require_some(wanted, "deliveries")
    with inspecting(common.settings_with_log()) as inspector:
        rows = (details(row, body=body) for row in inspector.pendings(wanted))
        found = show_rows(rows, as_json=as_json)
    require_found(wanted, found, "waiting delivery")


@pending.command("retry")
@with_common
@with_selection(_REASONS)
@click.option("--dry-run", is_flag=True, help="Only count.")
@with_wait
def retry(wait_s: float | None, wanted: RowFilter, common: Common, dry_run: bool) -> None:
    """Try waiting deliveries now instead of when they are due."""
    _give("retry", wanted, common, dry_run, wait_s)


@pending.command("cancel")
@with_common
@with_selection(_REASONS)
@click.option("--dry-run", is_flag=True, help="Only count.")
@with_wait
def cancel(wait_s: float | None, wanted: RowFilter, common: Common, dry_run: bool) -> None:
    """Forget waiting deliveries for good. By --subscription or --host alone also those still in memory."""
    _give("cancel", wanted, common, dry_run, wait_s)


def _give(op: str, wanted: RowFilter, common: Common, dry_run: bool, wait_s: float | None) -> None:
    require_some(wanted, "deliveries")
    settings = common.settings_with_log()
    with inspecting(settings) as inspector:
        if dry_run:
            click.echo(f"{sum(1 for _ in inspector.pendings(wanted))} waiting deliveries match")
            return
        if by_endpoint_only(wanted):
            command = Command(op=op, subs=tuple(wanted.subs), hosts=tuple(wanted.hosts), at=time.time())
            positions = order(settings, inspector, command)
        else:
            count, positions = order_by_id(settings, inspector, op, inspector.pendings(wanted))
            require_found(wanted, count, "waiting delivery")
            click.echo(f"{op} ordered for {count} deliveries")
        report(inspector, positions, wait_s)
