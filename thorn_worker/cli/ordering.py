"""Orders to the owners of partitions: append a command, say where it stands, wait until it is done."""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Concatenate, Final, ParamSpec, TypeVar

import click

from producer.config import Settings
from producer.model import Command
from thorn_worker.cli.common import Seconds
from thorn_worker.commands import Order, submit
from thorn_worker.inspector import Inspector
from thorn_worker.store.contract import Pending

#: Ids in one command record: 500 ids of at most 128 characters stay far below a record's 900 KB.
IDS_PER_COMMAND: Final = 500
#: How often ``--wait`` looks.
_LOOK_S: Final = 0.1

P = ParamSpec("P")
R = TypeVar("R")

#: The last command given to a partition: (partition, offset).
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


def order(settings: Settings, inspector: Inspector, command: Command) -> list[Position]:
    """Append `command` to all partitions. Durable on return. Raises `LogError`s."""
    return submit(settings, inspector, [Order(command)])


def order_by_id(
    settings: Settings, inspector: Inspector, op: str, rows: Iterable[Pending]
) -> tuple[int, list[Position]]:
    """Order `op` for these rows, each in the partition where it lies. Returns (rows, positions).

    All of them are read before anything is ordered: a command changes what is being listed.
    """
    by_partition: dict[int, list[str]] = {}
    for row in rows:
        by_partition.setdefault(row.life.partition, []).append(row.delivery.id)
    orders = [
        Order(Command(op=op, ids=tuple(ids[start : start + IDS_PER_COMMAND]), at=time.time()), [partition])
        for partition, ids in by_partition.items()
        for start in range(0, len(ids), IDS_PER_COMMAND)
    ]
    return sum(map(len, by_partition.values())), submit(settings, inspector, orders)


def report(inspector: Inspector, positions: Sequence[Position], wait_s: float | None) -> None:
    """Say how many partitions the commands went to and how far behind their readers are.

    With `wait_s`, wait until they are applied. Nothing is said where nothing was ordered.

    Raises `click.ClickException` (exit 1) if time runs out first.
    """
    if not positions:
        return
    furthest = max(_behind(inspector, positions).values())
    click.echo(
        f"appended to {_partitions(positions)}, the furthest reader is {furthest} records behind", err=True
    )
    if wait_s is not None:
        _wait(inspector, positions, wait_s)


def _wait(inspector: Inspector, positions: Sequence[Position], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while any(_behind(inspector, positions).values()):
        if time.monotonic() >= deadline:
            left = sum(1 for records in _behind(inspector, positions).values() if records)
            raise click.ClickException(
                f"not applied within {wait_s:g} s on {left} of {_partitions(positions)}: what was ordered "
                "stays in the log and takes effect as soon as a worker owns them"
            )
        time.sleep(_LOOK_S)
    click.echo(f"applied on {len(positions)} of {_partitions(positions)}", err=True)


def _partitions(positions: Sequence[Position]) -> str:
    return f"{len(positions)} partition{'' if len(positions) == 1 else 's'}"


def _behind(inspector: Inspector, positions: Sequence[Position]) -> dict[Position, int]:
    """Records that each command still waits for, itself included: reader at 5, command at 7 -> 3."""
    committed = {status.partition: status.committed for status in inspector.partitions()}
    return {
        (partition, offset): max(0, offset + 1 - committed.get(partition, 0))
        for partition, offset in positions
    }
