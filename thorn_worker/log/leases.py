"""Who owns which partition of an SQLite log. The decisions are pure; `beat` applies them in one transaction.

A lease is a partition's owner and epoch, and it holds while the owner is alive: its heartbeat is on this
boot's clock, not in the future, and at most `ttl_s` old. A machine's wall clock plays no part.
"""

import os
import socket
import sqlite3
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from thorn_worker.clock import boot_time
from thorn_worker.log.contract import Assignment

_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Names this boot of the machine. Where the system does not say, the heartbeat's clock alone decides:
    after a reboot it starts near zero again, so that old heartbeats lie in the future or are soon too old."""
    try:
        return _BOOT_ID_FILE.read_text().strip()
    except OSError:
        return "unknown"


def member_name(worker_id: str | None) -> str:
    """A name for one start of one process: readable first, unique at the end."""
    return f"{worker_id or socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTiming:
    """beat_s: seconds between heartbeats. ttl_s: age at which a heartbeat stands for a dead owner.

    clock: seconds since boot, the same for all processes of the machine.
    """

    beat_s: float = 1.0
    ttl_s: float = 6.0
    clock: Callable[[], float] = boot_time
    boot_id: str = field(default_factory=boot_id)


@dataclass(frozen=True, slots=True)
class Member:
    """A process that shares the partitions. beat_at: boot clock."""

    id: str
    boot_id: str
    beat_at: float


@dataclass(frozen=True, slots=True)
class Lease:
    """owner: None when nobody holds the partition."""

    partition: int
    owner: str | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one member does now: partitions to take at once, and to give back after telling its listener."""

    take: tuple[int, ...] = ()
    give: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat found and did. held: partition -> epoch after it, `gained` included."""

    held: Mapping[int, int]
    gained: tuple[Assignment, ...]
    give: tuple[int, ...]


def is_alive(member: Member, now: float, timing: LeaseTiming) -> bool:
    """Another boot, or a heartbeat in the future, is a dead member.

    With ttl 6 s, at 100 s since boot: beats of 94 and 100 are alive, beats of 93.9 and 100.1 are dead.
    """
    return member.boot_id == timing.boot_id and 0 <= now - member.beat_at <= timing.ttl_s


def shares(owned: Mapping[str, int], partitions: int) -> dict[str, int]:
    """How many partitions each live member is to have: as equal as can be, moving as few as can be.

    12 partitions and 5 members that own 12, 0, 0, 0, 0: the first gets 3, two others 3, two 2.

    owned: for each live member the number it has now.
    """
    least, extra = divmod(partitions, len(owned))
    by_size = sorted(owned, key=lambda member: (-owned[member], member))
    return {member: least + (rank < extra) for rank, member in enumerate(by_size)}


def plan(me: str, live: Collection[str], leases: Sequence[Lease]) -> Plan:
    """What `me`, one of `live`, takes or gives.

    Two members never take the same: plans are made under the write lock.
    """
    owned = dict.fromkeys(live, 0)
    mine, free = [], []
    for lease in leases:
        if lease.owner is None or lease.owner not in owned:
            free.append(lease.partition)
            continue
        owned[lease.owner] += 1
        if lease.owner == me:
            mine.append(lease.partition)
    share = shares(owned, len(leases))[me]
    return Plan(take=tuple(free[: max(share - len(mine), 0)]), give=tuple(mine[share:]))


def beat(connection: sqlite3.Connection, me: str, timing: LeaseTiming) -> Beat:
    """Show that `me` is alive, bury dead members, take what is due. Inside a write transaction."""
    now = timing.clock()
    connection.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", (me, timing.boot_id, now))
    members = [Member(*row) for row in connection.execute("SELECT id, boot_id, beat_at FROM members")]
    live = {member.id for member in members if is_alive(member, now, timing)}
    dead = [(member.id,) for member in members if member.id not in live]
    connection.executemany("DELETE FROM members WHERE id = ?", dead)
    rows = connection.execute("SELECT partition, owner, epoch FROM partitions ORDER BY partition")
    leases = [Lease(*row) for row in rows]
    chosen = plan(me, live, leases)
    gained = tuple(_take(connection, me, partition) for partition in chosen.take)
    held = {lease.partition: lease.epoch for lease in leases if lease.owner == me}
    held.update((assignment.partition, assignment.epoch) for assignment in gained)
    return Beat(held, gained, chosen.give)


def release(connection: sqlite3.Connection, me: str, held: Mapping[int, int]) -> None:
    """Let go of partitions whose epoch is still ours."""
    connection.executemany(
        "UPDATE partitions SET owner = NULL WHERE partition = ? AND epoch = ? AND owner = ?",
        [(partition, epoch, me) for partition, epoch in held.items()],
    )


def leave(connection: sqlite3.Connection, me: str) -> None:
    """Stop being a member and let go of everything."""
    connection.execute("UPDATE partitions SET owner = NULL WHERE owner = ?", (me,))
    connection.execute("DELETE FROM members WHERE id = ?", (me,))


def _take(connection: sqlite3.Connection, me: str, partition: int) -> Assignment:
    epoch, committed, metadata = connection.execute(
        "UPDATE partitions SET owner = ?, epoch = epoch + 1 WHERE partition = ?"
        " RETURNING epoch, committed, metadata",
        (me, partition),
    ).fetchone()
    return Assignment(partition, epoch, committed, metadata)
