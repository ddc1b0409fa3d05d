"""What every `Store` must do. A store's own test module subclasses `StoreContract`; it shares the
`ReaderWorld`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gevent
import pytest

from producer.errors import LogError
from producer.model import Life
from tests.contract.reader import PARTITIONS, ReaderWorld, Worker, until
from tests.support.deliveries import HOST, delivery, letter, pending
from tests.support.hub import wait_on_hub
from thorn_worker.store.contract import (
    NOT_BEFORE,
    UNRESOLVED,
    DeadLetter,
    EndpointState,
    Pending,
    Selection,
)


class Held:
    """One partition held by a worker, with writes that wait until they are durable."""

    def __init__(self, worker: Worker, partition: int = 0) -> None:
        self.worker, self.store, self.partition = worker, worker.store, partition
        self.epoch = worker.owned[partition].epoch
        self.topic_id = worker.info.topic_id
        self.restored = self.store.restore(partition, self.epoch, worker.owned[partition].committed)

    def row(self, offset: int, index: int = 0, **changes: object) -> Pending:
        return pending(self.topic_id, self.partition, offset, index, **changes)

    def put(self, *rows: Pending) -> None:
        self.durable(lambda done: [self.store.put(self.epoch, row, done) for row in rows], len(rows))

    def durable(self, write: Callable[[Callable[[], None]], object], count: int = 1) -> None:
        told: list[None] = []
        write(lambda: told.append(None))
        wait_on_hub(lambda: len(told) == count, what="durable writes")

    def due(self, now: float = 1000.0, limit: int = 100, loaded: tuple[Life, ...] = ()) -> list[Pending]:
        return self.store.due(self.partition, HOST, now, limit, loaded).rows


class StoreContract(ABC):
    @pytest.fixture
    def world(self) -> Iterator[ReaderWorld]:
        raise NotImplementedError

    @abstractmethod
    def letters(self, world: ReaderWorld) -> list[DeadLetter]:
        """All dead letters, by partition and life."""

    @pytest.fixture
    def held(self, world: ReaderWorld) -> Held:
        worker = Worker(*world.member()).start()
        until("all partitions", world, worker, holds=lambda: len(worker.owned) == PARTITIONS)
        return Held(worker)

    @staticmethod
    def successor(world: ReaderWorld, held: Held) -> Held:
        held.worker.reader.close()
        heir = Worker(*world.member()).start()
        until("all partitions", world, heir, holds=lambda: len(heir.owned) == PARTITIONS)
        return Held(heir)

    def test_an_empty_partition_restores_empty(self, held: Held) -> None:
        restored = held.restored
        assert (restored.rows, restored.lives, restored.hosts) == (0, frozenset(), {})
        assert (restored.unresolved, restored.endpoints) == (frozenset(), {})

    def test_a_row_comes_back_as_it_was_put(self, held: Held) -> None:
        row = held.row(3, delivery=delivery("d", body=b"\x00\xff", extra={"new": [1, {"x": None}]}))
        held.put(row)
        assert held.due() == [row]

    def test_a_later_put_of_a_life_overwrites(self, held: Held) -> None:
        held.put(held.row(3), held.row(3, due_at=200.0, reason="throttled"))
        assert held.due() == [held.row(3, due_at=200.0, reason="throttled")]

    def test_writes_call_back_in_order_and_reads_see_them(self, held: Held) -> None:
        told: list[int] = []
        for number in range(50):
            held.store.put(held.epoch, held.row(number), lambda number=number: told.append(number))  # type: ignore[misc]
        assert told == []  # never from inside the call
        wait_on_hub(lambda: len(told) == 50, what="50 writes")
        assert told == list(range(50))
        assert len(held.due()) == 50

    def test_a_removed_row_is_gone_and_removing_nothing_is_fine(self, held: Held) -> None:
        held.put(held.row(1), held.row(2))
        held.durable(lambda done: held.store.remove(held.epoch, held.row(1).life, done))
        held.durable(lambda done: held.store.remove(held.epoch, held.row(7).life, done))
        assert held.due() == [held.row(2)]

    def test_bury_writes_the_letter_and_forgets_the_row(self, world: ReaderWorld, held: Held) -> None:
        dead = letter(held.row(1).life)
        held.put(held.row(1))
        held.durable(lambda done: held.store.bury(held.epoch, dead, done))
        held.durable(lambda done: held.store.bury(held.epoch, dead, done))  # again, as after a crash
        assert held.due() == []
        assert self.letters(world) == [dead]

    def test_due_rows_come_oldest_first_without_the_loaded_ones(self, held: Held) -> None:
        held.put(*[held.row(n, due_at=100.0 - n) for n in range(5)], held.row(9, due_at=500.0))
        other = held.row(10, host="https://b.example:443")
        waiting = held.row(11, due_at=None, reason=UNRESOLVED)
        held.put(other, waiting)

        found = held.store.due(0, HOST, 100.0, 2, [held.row(4).life])
        assert [row.life.offset for row in found.rows] == [3, 2]
        assert found.next_due_at == 99.0  # row 1, due but beyond the limit

        rest = held.store.due(0, HOST, 100.0, 100, ())
        assert [row.life.offset for row in rest.rows] == [4, 3, 2, 1, 0]
        assert rest.next_due_at == 500.0
        assert held.store.due(0, HOST, 1000.0, 100, ()).next_due_at is None
        assert held.store.due(1, HOST, 1000.0, 100, ()).rows == []

    def test_unresolved_rows_come_in_the_order_of_their_lives(self, held: Held) -> None:
        changes: dict[str, Any] = {"due_at": None, "reason": UNRESOLVED}
        held.put(held.row(2, 1, **changes), held.row(2, 0, **changes), held.row(1, **changes), held.row(0))
        found = held.store.unresolved(0, "s1", 10, [held.row(1).life])
        assert [(row.life.offset, row.life.index) for row in found] == [(2, 0), (2, 1)]
        assert len(held.store.unresolved(0, "s1", 2, ())) == 2
        assert held.store.unresolved(0, "s2", 10, ()) == []

    def test_overdue_rows_have_no_due_time_and_are_too_old_or_expired(self, held: Held) -> None:
        held.put(
            held.row(0),  # old, but due: its attempt will tell
            held.row(1, due_at=None, reason=UNRESOLVED, appended_at=10.0),
            held.row(2, due_at=None, reason=UNRESOLVED, appended_at=90.0),
            held.row(3, due_at=None, reason=UNRESOLVED, appended_at=90.0, delivery=delivery(expires_at=95.0)),
            held.row(
                4, due_at=None, reason=UNRESOLVED, appended_at=90.0, delivery=delivery(expires_at=300.0)
            ),
            held.row(5, reason=NOT_BEFORE, due_at=99.0, delivery=delivery(expires_at=98.0)),
        )
        found = held.store.overdue(0, 60.0, 100.0, 10)
        assert [row.life.offset for row in found] == [1, 3]
        assert len(held.store.overdue(0, 60.0, 100.0, 1)) == 1

    def test_select_finds_by_id_subscription_or_host_below_an_offset(self, held: Held) -> None:
        held.put(
            held.row(1, delivery=delivery("x", sub="s1")),
            held.row(2, delivery=delivery("y", sub="s2"), host="https://b.example:443"),
            held.row(3, delivery=delivery("x", sub="s3"), host="https://c.example:443"),
            held.row(4, delivery=delivery("x", sub="s2")),
        )

        def found(limit: int = 10, after: Life | None = None, **wanted: object) -> list[int]:
            selection = Selection(below_offset=4, **wanted)  # type: ignore[arg-type]
            return [row.life.offset for row in held.store.select(0, selection, limit, after)]

        assert found(ids=["x"]) == [1, 3]
        assert found(subs=["s2"]) == [2]
        assert found(hosts=["https://c.example:443"]) == [3]
        assert found(ids=["x"], subs=["s2"]) == [1, 2, 3]
        assert found(limit=2, ids=["x"], subs=["s2"]) == [1, 2]
        assert found(after=held.row(2).life, ids=["x"], subs=["s2"]) == [3]
        assert found() == []

    def test_everything_is_restored_by_the_next_owner(self, world: ReaderWorld, held: Held) -> None:
        state = EndpointState(sub="s1", host=HOST, disabled_at=5.0, reason="gone", command_offset=4)
        held.put(held.row(1), held.row(2, 3, due_at=80.0), held.row(3, due_at=None, reason=UNRESOLVED))
        held.durable(lambda done: held.store.save_endpoint(0, held.epoch, replace(state, failures=1), done))
        held.durable(lambda done: held.store.save_endpoint(0, held.epoch, state, done))

        restored = self.successor(world, held).restored

        assert restored.rows == 3
        assert restored.lives == {(1, 0), (2, 3), (3, 0)}
        assert restored.hosts == {HOST: 80.0}
        assert restored.unresolved == {"s1"}
        assert restored.endpoints == {"s1": state}

    def test_release_waits_for_the_last_write(self, world: ReaderWorld, held: Held) -> None:
        told: list[str] = []
        held.store.put(held.epoch, held.row(1), lambda: told.append("put"))
        assert held.store.release(0, held.epoch)
        assert told == ["put"]

    def test_a_stale_epoch_writes_nothing_and_hears_nothing(self, world: ReaderWorld, held: Held) -> None:
        held.put(held.row(1))
        world.outlast_lease()  # frozen
        thief = Worker(*world.member()).start()
        until("all partitions", world, thief, holds=lambda: len(thief.owned) == PARTITIONS)
        told: list[str] = []

        held.store.put(held.epoch, held.row(2), lambda: told.append("put"))
        held.store.remove(held.epoch, held.row(1).life, lambda: told.append("remove"))
        held.store.bury(held.epoch, letter(held.row(1).life), lambda: told.append("bury"))
        state = EndpointState(sub="s1", host=HOST)
        held.store.save_endpoint(0, held.epoch, state, lambda: told.append("endpoint"))

        assert not held.store.release(0, held.epoch)
        gevent.sleep(0.05)
        assert told == []
        stolen = Held(thief)
        assert stolen.due() == [held.row(1)]
        assert stolen.restored.endpoints == {}
        assert self.letters(world) == []

    def test_an_epoch_that_is_over_restores_nothing(self, held: Held) -> None:
        with pytest.raises(LogError):
            held.store.restore(0, held.epoch - 1, 0)

    def test_counts_follow_within_seconds_and_never_wait(self, held: Held) -> None:
        held.put(held.row(1), held.row(2))
        held.store.restore(1, held.worker.owned[1].epoch, 0)
        wait_on_hub(lambda: held.store.counts() == (2, 51.0), what="the counts")
