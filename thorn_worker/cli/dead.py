"""``thorn-worker dead``: deliveries that were given up, why, and sending them again."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import click

from thorn_worker import commands
from thorn_worker.cli.common import Common, inspecting, with_common
from thorn_worker.cli.output import (
    body_option,
    is_terminal,
    json_option,
    limit_option,
    print_list,
    show_rows,
)
from thorn_worker.cli.rows import details, letter_row
from thorn_worker.cli.selecting import require_found, require_some, with_selection
from thorn_worker.inspector import Inspector, RowFilter
from thorn_worker.outcome import Death
from thorn_worker.store.contract import DeadLetter

_COLUMNS: Final = ("id", "event", "host", "attempts", "reason", "status", "died_at")


@click.group()
def dead() -> None:
    """Dead letters: deliveries that were given up. Look at them, replay them."""


@dead.command("list")
@with_common
@with_selection(tuple(Death))
@limit_option
@json_option
def list_(wanted: RowFilter, common: Common, limit: int | None, as_json: bool) -> None:
    """List dead letters: all, or those that match every option given."""
    with inspecting(common.settings_with_log()) as inspector:
        print_list(map(letter_row, inspector.letters(wanted)), _COLUMNS, limit, as_json=as_json)


@dead.command("show")
@with_common
@with_selection(tuple(Death))
@body_option
@json_option
def show(wanted: RowFilter, common: Common, body: bool, as_json: bool) -> None:
    """Show dead letters with status, phase, error and the last attempts."""
    require_some(wanted, "dead letters")
    with inspecting(common.settings_with_log()) as inspector:
        rows = (details(letter, body=body) for letter in inspector.letters(wanted))
        found = show_rows(rows, as_json=as_json)
    require_found(wanted, found, "dead letter")


@dead.command("replay")
@with_common
@with_selection(tuple(Death))
@click.option("--dry-run", is_flag=True, help="Only count, by reason and host.")
@click.option("--keep-expiry", is_flag=True, help="Keep each delivery's own expiry instead of clearing it.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Replay so many at most, oldest first per partition."
)
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def replay(
    wanted: RowFilter, common: Common, dry_run: bool, keep_expiry: bool, limit: int | None, yes: bool
) -> None:
    """Send dead letters again, under the same delivery ids; each leaves the list once the log has it."""
    require_some(wanted, "dead letters")
    settings = common.settings_with_log()
    with inspecting(settings) as inspector:
        meant = _count(_chosen(inspector, wanted, limit))
        require_found(wanted, meant, "dead letter that can be replayed")
        if dry_run or not meant:
            return
        if not yes:
            _confirm(meant)
        done = commands.replay(settings, inspector, _chosen(inspector, wanted, limit), keep_expiry)
    click.echo(f"{done} of {meant} replayed")


def _confirm(meant: int) -> None:
    """Ask whoever sits at the terminal. Where nobody does, a usage error: silence is no consent."""
    if not is_terminal(sys.stdin):
        raise click.UsageError(
            f"{meant} dead letters would be sent again and there is no terminal to ask at: give --yes"
        )
    click.confirm(f"Replay {meant}?", abort=True, err=True)


def _chosen(inspector: Inspector, wanted: RowFilter, limit: int | None) -> Iterator[DeadLetter]:
    return islice(filter(commands.can_be_replayed, inspector.letters(wanted)), limit)


def _count(letters: Iterable[DeadLetter]) -> int:
    """Print how many letters there are of each reason and host, and return how many in all."""
    counts = Counter((str(letter.reason), letter.host) for letter in letters)
    rows = [{"reason": reason, "host": host, "letters": n} for (reason, host), n in counts.most_common()]
    print_list(rows, ("reason", "host", "letters"), None, as_json=False)
    return counts.total()
