"""From the first act to the exit code: play, count, tell, and leave the folder or not."""

import shutil
import tempfile
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from thorn_worker.cli.output import console
from thorn_worker.demo.ledger import Ledger, balance
from thorn_worker.demo.play import Play
from thorn_worker.demo.records import read_books
from thorn_worker.demo.show import Show, ledger_json, ledger_table, verdict
from thorn_worker.demo.stage import Interrupted

#: Exit code of a ledger that does not balance.
_FAILED: Final = 1


def perform(events: int, *, keep: bool, as_json: bool) -> int:
    """Play a demo and tell its ledger. Returns the exit code.

    Raises `DemoFailed` if it could not be played, and click's Abort if it was interrupted. The folder is
    removed, unless it is to be kept or is needed to find out what went wrong.
    """
    folder = Path(tempfile.mkdtemp(prefix="thorn-demo-"))
    disposable = not keep
    try:
        with Show(Console(stderr=True, highlight=False) if as_json else console()) as show:
            Play(folder, events, show).run()
        ledger = balance(read_books(folder))
        disposable = disposable and ledger.balances
        _tell(ledger, show.acts, folder, kept=not disposable, as_json=as_json)
        return 0 if ledger.balances else _FAILED
    except Interrupted:
        click.echo("interrupted: every process of the demo has ended", err=True)
        raise click.Abort from None
    except Exception:
        disposable = False
        click.echo(f"the files are in {folder}", err=True)
        raise
    finally:
        if disposable:
            shutil.rmtree(folder)


def recount(folder: Path, *, as_json: bool) -> int:
    """Tell the ledger of a demo that was kept. Returns the exit code."""
    ledger = balance(read_books(folder))
    _tell(ledger, [], folder, kept=True, as_json=as_json)
    return 0 if ledger.balances else _FAILED


def _tell(ledger: Ledger, acts: list[tuple[float, str]], folder: Path, *, kept: bool, as_json: bool) -> None:
    if as_json:
        click.echo(ledger_json(ledger, acts, str(folder) if kept else None))
    else:
        console().print(ledger_table(ledger))
    click.echo(verdict(ledger, str(folder)), err=as_json)
    if kept:
        click.echo(f"the files are in {folder}", err=as_json)
