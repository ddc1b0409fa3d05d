"""Orders to the owners of partitions: append a command, say where it stands, wait until it is done."""

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Concatenate, Final, ParamSpec, TypeVar

import click

from producer.config import Settings
from producer.model import Command
from thorn_worker.cli.common import Seconds, inspecting
from thorn_worker.inspector import Inspector
from thorn_worker.store.contract import Pending

#: Ids in one command record: 500 ids of at most 128 characters stay far below a record's 900 KB.
IDS_PER_COMMAND: Final = 500
#: How often ``--wait`` looks.
_LOOK_S: Final = 0.1

P = ParamSpec("P")
R = TypeVar("R")

#: Where a command stands: (partition, offset).
Position = tuple[int, int]


def with_wait(function: Callable[Concatenate[float | None, P], R]) -> Callable[P, R]:
    """Give a command ``--wait`` and ``--timeout``; its first argument is the seconds to wait, or None."""

    @click.option("--wait", is_flag=True, help="Wait until the owners of the partitions have applied it.")
    @click.option("--timeout", type=Seconds(), default=60.0, help="Seconds to wait (60).")
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        timeout_s = kwargs.pop("timeout")
        assert isinstance(timeout_s, float)
        return function(timeout_s if kwargs.pop("wait") else None, *args, **kwargs)

    return wrapper


def order(settings: Settings, command: Command, partitions: Sequence[int] | None) -> list[Position]:
    """Append `command` to `partitions` (None: to all). Durable on return. Raises `LogError`s."""
    from thorn_worker.commands import submit

    return submit(settings, command, partitions)


def order_by_id(settings: Settings, op: str, rows: Iterable[Pending]) -> tuple[int, list[Position]]:
    """Order `op` for these rows, each in the partition where it lies. Returns (rows, positions)."""
    waiting: dict[int, list[str]] = {}
    positions: list[Position] = []
    count = 0
    for row in rows:
        count += 1
        ids = waiting.setdefault(row.life.partition, [])
        ids.append(row.delivery.id)
        if len(ids) == IDS_PER_COMMAND:
            positions += _order_ids(settings, op, {row.life.partition: waiting.pop(row.life.partition)})
    return count, positions + _order_ids(settings, op, waiting)


def _order_ids(settings: Settings, op: str, by_partition: Mapping[int, Sequence[str]]) -> list[Position]:
    positions: list[Position] = []
    for partition, ids in by_partition.items():
        positions += order(settings, Command(op=op, ids=tuple(ids), at=time.time()), [partition])
    return positions


def report(settings: Settings, positions: Sequence[Position], wait_s: float | None) -> None:
    """Say how many partitions the commands went to and how far behind their readers are.

    With `wait_s`, wait until they are applied. Nothing is said where nothing was ordered.

    Raises `click.ClickException` (exit 1) if time runs out first.
    """
    if not positions:
        return
    with inspecting(settings) as inspector:
        furthest = max(_behind(inspector, positions).values())
        click.echo(
            f"appended to {_partitions(positions)}, the furthest reader is {furthest} records behind",
            err=True,
        )
        if wait_s is not None:
            _wait(inspector, positions, wait_s)


def _wait(inspector: Inspector, positions: Sequence[Position], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while any(_behind(inspector, positions).values()):
        if time.monotonic() >= deadline:
            left = sum(1 for records in _behind(inspector, positions).values() if records)
            raise click.ClickException(
                f"{left} of {len(positions)} commands were not applied within {wait_s:g} s: they stay in the "
                "log and take effect as soon as a worker owns their partitions"
            )
        time.sleep(_LOOK_S)
    count = len({partition for partition, _ in positions})
    click.echo(f"applied on {count} of {_partitions(positions)}", err=True)


def _partitions(positions: Sequence[Position]) -> str:
    count = len({partition for partition, _ in positions})
    return f"{count} partition{'' if count == 1 else 's'}"


def _behind(inspector: Inspector, positions: Sequence[Position]) -> dict[Position, int]:
    """Records that each command still waits for, itself included: reader at 5, command at 7 -> 3."""
    committed = {status.partition: status.committed for status in inspector.partitions()}
    return {
        (partition, offset): max(0, offset + 1 - committed.get(partition, 0))
        for partition, offset in positions
    }
