"""How lists are printed: a table for people, one JSON array for programs."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

import click
from rich.console import Console
from rich.table import Table

#: One row of a list as programs see it.
Row: TypeAlias = Mapping[str, object]

json_option: Final = click.option("--json", "as_json", is_flag=True, help="One JSON array.")
body_option: Final = click.option("--body", is_flag=True, help="With the body, which may be confidential.")
limit_option: Final = click.option(
    "--limit", type=click.IntRange(min=0), help="Rows at most; 0: all. Tables default to 100."
)

#: Rows of a table unless ``--limit`` says otherwise; programs get all.
TABLE_ROWS: Final = 100
#: Width of a table that goes into a file or a pipe: ids must stay whole for grep.
_PIPE_WIDTH: Final = 240


def console() -> Console:
    """A console on stdout that cuts nothing when stdout is not a terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def print_list(rows: Iterable[Row], columns: Sequence[str], limit: int | None, *, as_json: bool) -> None:
    """Print `rows`; of a table only `columns`, and at most `limit` rows (None: `TABLE_ROWS`, 0: all)."""
    if as_json:
        print_json(rows if not limit else _first(rows, limit))
        return
    limit = TABLE_ROWS if limit is None else limit
    table = Table(box=None, pad_edge=False)
    for column in columns:
        # What a user copies must stay in one piece.
        table.add_column(column, overflow="fold", no_wrap=column in ("id", "host"))
    more = False
    for row in rows:
        if limit and table.row_count == limit:
            more = True
            break
        table.add_row(*(cell(column, row.get(column)) for column in columns))
    console().print(table if table.row_count else "none")
    if more:
        click.echo(f"There are more; --limit 0 shows all, --limit N the first N (here {limit}).", err=True)


def print_json(rows: Iterable[Row]) -> None:
    """A JSON array, written row by row: a list may be longer than memory."""
    separator = "["
    for row in rows:
        click.echo(separator + json.dumps(row, ensure_ascii=False), nl=False)
        separator = ",\n "
    click.echo("]" if separator != "[" else "[]")


def show_rows(rows: Iterable[Row], *, as_json: bool) -> int:
    """Print rows with all their fields, and return how many there were."""
    found = 0

    def counted() -> Iterator[Row]:
        nonlocal found
        for row in rows:
            found += 1
            yield row

    if as_json:
        print_json(counted())
    else:
        for row in counted():
            print_details(row)
            click.echo()
    return found


def print_details(row: Row) -> None:
    """One row as ``name: value`` lines; a list of objects becomes one line each."""
    width = max(len(name) for name in row)
    for name, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            click.echo(f"{name}:")
            for item in value:
                click.echo("  " + " ".join(f"{key}={cell(key, part)}" for key, part in item.items()))
        else:
            click.echo(f"{name:<{width}}  {cell(name, value)}")


def cell(name: str, value: object) -> str:
    """A value as people read it: instants (names in ``_at``) in UTC, nothing as ``-``."""
    if value is None or value == "":
        return "-"
    if name.endswith("_at") and isinstance(value, int | float):
        return instant(value)
    return str(value)


def instant(at: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first(rows: Iterable[Row], limit: int) -> Iterator[Row]:
    for count, row in enumerate(rows):
        if count == limit:
            return
        yield row
