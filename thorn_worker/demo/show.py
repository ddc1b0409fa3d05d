"""What the user sees: acts as they happen, a picture of the present, and the ledger at the end."""

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from thorn_worker.demo.ledger import Ledger

#: Without a terminal, the present is told this often.
_PLAIN_EVERY_S: Final = 2.0
#: Ids that a message names.
_NAMED: Final = 5
_BAR_WIDTH: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Where the demo stands. sent, acknowledged: events; the rest: deliveries. worker: its state in words."""

    events: int
    planned: int
    sent: int
    acknowledged: int
    delivered: int
    retried: int
    dead: int
    pending: int
    worker: str

    def line(self) -> str:
        """For a place where nothing can be redrawn."""
        return (
            f"sent {self.sent:,}, acknowledged {self.acknowledged:,}, delivered {self.delivered:,}, "
            f"retried {self.retried:,}, dead {self.dead:,}, waiting for a retry {self.pending:,}, "
            f"worker {self.worker}"
        )


class Show(AbstractContextManager["Show"]):
    """Acts stay, the picture below them is redrawn; where `console` is no terminal, both are plain lines."""

    def __init__(self, console: Console) -> None:
        self.acts: list[tuple[float, str]] = []
        self._console = console
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )
        self._began = time.monotonic()
        self._told_at = 0.0

    def __enter__(self) -> "Show":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def elapsed_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def act(self, text: str) -> None:
        """Something is over."""
        at = self.elapsed_s()
        self.acts.append((at, text))
        self._console.print(f"{at:5.1f} s  {text}", markup=False, soft_wrap=True)

    def picture(self, picture: Picture) -> None:
        """Draw the present."""
        if self._live is not None:
            self._live.update(_drawn(picture), refresh=True)
        elif self.elapsed_s() - self._told_at >= _PLAIN_EVERY_S:
            self._told_at = self.elapsed_s()
            self._console.print(f"         {picture.line()}", markup=False, soft_wrap=True)


def _drawn(picture: Picture) -> Group:
    bars = Table.grid(padding=(0, 2))
    for name, done, total in (
        ("events sent", picture.sent, picture.events),
        ("acknowledged", picture.acknowledged, picture.events),
        ("delivered", picture.delivered, picture.planned - picture.dead),
    ):
        bars.add_row(name, ProgressBar(total, done, width=_BAR_WIDTH), f"{done:,} of {total:,}")
    rest = f"retried {picture.retried:,}   dead {picture.dead:,}   waiting for a retry {picture.pending:,}"
    return Group("", bars, rest, f"worker: {picture.worker}")


def ledger_table(ledger: Ledger) -> Group:
    """The result, for people."""
    sums = Table.grid(padding=(0, 2))
    sums.add_column()
    sums.add_column(justify="right")
    sums.add_column(style="dim")
    sums.add_row("events acknowledged", f"{ledger.events_acknowledged:,}", "by the log")
    sums.add_row("deliveries owed", f"{ledger.owed:,}", "what the services wrote down")
    sums.add_row("delivered", f"{ledger.delivered:,}", "what the receivers wrote down")
    sums.add_row("  after retries", f"{ledger.retried:,}", "needed more than one attempt")
    sums.add_row("dead letters", f"{sum(ledger.dead.values()):,}", _reasons(ledger.dead))
    sums.add_row("cancelled", f"{ledger.cancelled:,}", "")
    sums.add_row("still pending", f"{ledger.pending:,}", "")
    sums.add_row("repeated", f"{ledger.repeated:,}", "receivers tell by Hook-Delivery")
    sums.add_row("invalid signatures", f"{ledger.invalid_signatures:,}", "")
    sums.add_row("deliveries per second", f"{ledger.deliveries_per_s:,.0f}", "the outage included")
    sums.add_row("age p50", span(ledger.p50_s), "from send to arrival, the outage included")
    sums.add_row("age p99", span(ledger.p99_s), "")
    style = "bold red" if ledger.lost else "bold green"
    sums.add_row("lost", f"{len(ledger.lost):,}", "owed, and nowhere to be found", style=style)

    kinds = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("receivers", "owed", "delivered", "after retries", "dead letters", "age p50", "age p99"):
        kinds.add_column(name, justify="left" if name in ("receivers", "dead letters") else "right")
    for line in ledger.lines:
        counts = (f"{line.owed:,}", f"{line.delivered:,}", f"{line.retried:,}", _reasons(line.dead) or "0")
        kinds.add_row(line.kind, *counts, span(line.p50_s), span(line.p99_s))
    return Group("", sums, "", kinds, "")


def ledger_json(ledger: Ledger, acts: list[tuple[float, str]], folder: str | None) -> str:
    """The result, for programs. folder: where the files are, None if they are gone."""
    told = [{"at_s": round(at, 3), "act": text} for at, text in acts]
    return json.dumps({**asdict(ledger), "acts": told, "folder": folder}, indent=1)


def verdict(ledger: Ledger, folder: str) -> str:
    """One sentence: what the numbers mean."""
    if ledger.lost:
        some = ", ".join(ledger.lost[:_NAMED])
        return f"LOST: {len(ledger.lost):,} of {ledger.owed:,} deliveries, such as {some}; see {folder}"
    if ledger.invalid_signatures:
        return f"WRONG SIGNATURES: {ledger.invalid_signatures:,} requests; see {folder}"
    return "nothing was lost: each delivery that the log acknowledged arrived, or is accounted for above"


def span(seconds: float | None) -> str:
    """A span as people read it.

    >>> span(None), span(0.0124), span(7.25)
    ('-', '12 ms', '7.2 s')
    """
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _reasons(dead: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dead.items()))
