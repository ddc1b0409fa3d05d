"""How lists are printed: a table for people, one JSON array for programs."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TextIO, TypeAlias

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
#: A terminal with fewer columns gets each row as a block: a table would break ids, which are there to copy.
_TABLE_WIDTH: Final = 100

#: DEL and the C1 controls, which JSON does not escape by itself.
_LATE_CONTROLS: Final = range(0x7F, 0xA0)
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in _LATE_CONTROLS}
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *_LATE_CONTROLS)}


def printable(text: str) -> str:
    """`text` in one line, with control characters spelt out: receivers and senders wrote it, and a terminal
    would obey it.

    >>> print(printable("two\\nlines, \\x1b[31mred"))
    two\\x0alines, \\x1b[31mred
    """
    return text.translate(_ESCAPES)


def json_text(value: object) -> str:
    """`value` as JSON in one line, readable in any language and without a raw control character."""
    return json.dumps(value, ensure_ascii=False).translate(_JSON_ESCAPES)


def is_terminal(stream: TextIO | None) -> bool:
    """True if a person sits at `stream`; Python has None for one that was closed before the start."""
    return stream is not None and stream.isatty()


def console() -> Console:
    """A console on stdout that cuts nothing when stdout is not a terminal, and takes no text for markup."""
    width = None if is_terminal(sys.stdout) else _PIPE_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def print_list(rows: Iterable[Row], columns: Sequence[str], limit: int | None, *, as_json: bool) -> None:
    """Print `rows`; of a table only `columns`, and at most `limit` rows (None: `TABLE_ROWS`, 0: all)."""
    if as_json:
        print_json(rows if not limit else _first(rows, limit))
        return
    limit = TABLE_ROWS if limit is None else limit
    shown = [
        {column: row.get(column) for column in columns}
        for row in (_first(rows, limit + 1) if limit else rows)
    ]
    more = bool(limit) and len(shown) > limit
    _print_table(shown[:limit] if limit else shown, columns)
    if more:
        click.echo(f"There are more; --limit 0 shows all, --limit N the first N (here {limit}).", err=True)


def _print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    screen = console()
    if not rows:
        screen.print("none")
        return
    if screen.width < _TABLE_WIDTH:
        for row in rows:
            print_details(row)
            click.echo()
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        # What a user copies must stay in one piece.
        table.add_column(column, overflow="fold", no_wrap=column in ("id", "host"))
    for row in rows:
        table.add_row(*(cell(column, row[column]) for column in columns))
    screen.print(table)


def print_json(rows: Iterable[Row]) -> None:
    """A JSON array, written row by row: a list may be longer than memory."""
    separator = "["
    for row in rows:
        click.echo(separator + json_text(row), nl=False)
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
    """A value as people read it, in one line: instants (names in ``_at``) in UTC, nothing as ``-``."""
    if value is None or value == "":
        return "-"
    if name.endswith("_at") and isinstance(value, int | float):
        return instant(value)
    return printable(str(value))


def instant(at: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first(rows: Iterable[Row], limit: int) -> Iterator[Row]:
    for count, row in enumerate(rows):
        if count == limit:
            return
        yield row
