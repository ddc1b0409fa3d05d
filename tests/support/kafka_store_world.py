"""For tests of the Kafka store: a store that owns by decree, another pen, and what the topics hold. Needs a
patched process."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer

from producer.errors import LogError
from producer.log.kafka_options import KafkaOptions
from producer.model import Life
from tests.contract.reader import PARTITIONS
from tests.support.deliveries import HOST, pending
from tests.support.hub import wait_on_hub
from tests.support.kafka_rows import records
from thorn_worker.log.kafka_topics import Topics, check_topics, create_topics
from thorn_worker.store.contract import Pending, Restored
from thorn_worker.store.kafka import KafkaStore
from thorn_worker.store.kafka_changes import Mark
from thorn_worker.store.rows import encode_pending, pending_key

#: What a state topic says of a key: a value, or a tombstone.
Values = dict[bytes, bytes | None]


@dataclass
class Decree:
    """Owns what it is told to, in place of a group: `thorn_worker.store.kafka.Ownership`."""

    topics: Topics
    sure: bool = True

    def confirmed(self) -> bool:
        return self.sure


@dataclass
class Pen:
    """A store that holds partition 0 by decree, and what was called back."""

    options: KafkaOptions
    state: Path
    owner: Decree = field(init=False)
    store: KafkaStore = field(init=False)
    epoch: int = 0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.owner = Decree(check_topics(self.options))
        self.store = KafkaStore(self.options, self.owner, str(self.state))

    def hold(self, epoch: int, committed: int = 0, partition: int = 0) -> Restored:
        self.epoch = epoch
        return self.store.restore(partition, epoch, committed)

    def life(self, offset: int, index: int = 0) -> Life:
        return Life(self.owner.topics.deliveries_id, 0, offset, index)

    def row(self, offset: int, index: int = 0, **changes: object) -> Pending:
        return pending(self.owner.topics.deliveries_id, 0, offset, index, **changes)

    def put(self, *rows: Pending) -> None:
        for row in rows:
            self.store.put(self.epoch, row, lambda name=f"put {row.life.offset}": self.told.append(name))  # type: ignore[misc]

    def remove(self, *offsets: int) -> None:
        for offset in offsets:
            name = f"remove {offset}"
            self.store.remove(self.epoch, self.life(offset), lambda name=name: self.told.append(name))  # type: ignore[misc]

    def settled(self, count: int, timeout_s: float = 20.0) -> None:
        wait_on_hub(
            lambda: len(self.told) >= count, timeout_s, what=f"{count} callbacks, not {self.told[-5:]}"
        )

    def stored(self) -> list[int]:
        """Offsets of the rows that the store shows."""
        return sorted(row.life.offset for row in self.store.due(0, HOST, 1e9, 1_000_000, ()).rows)

    def close(self) -> None:
        self.store.close()


class Stranger:
    """Writes to the state topic as an owner of before does that is not aware yet."""

    def __init__(self, options: KafkaOptions, epoch: int) -> None:
        self._options, self._epoch, self._number = options, epoch, 0
        self._producer = KafkaProducer(**options.connection())

    def put(self, row: Pending) -> int:
        return self.write(pending_key(row.life), encode_pending(row))

    def remove(self, life: Life) -> int:
        return self.write(pending_key(life), None)

    def write(self, key: bytes | None, value: bytes | None, partition: int = 0) -> int:
        """The offset that it was given."""
        headers = [Mark("stranger", self._epoch, self._number).header()]
        self._number += 1
        sent = self._producer.send(self._options.state, value, key=key, partition=partition, headers=headers)
        return int(sent.get(20).offset)

    def close(self) -> None:
        self._producer.close(timeout=5)


def last_values(options: KafkaOptions, topic: str, partition: int = 0) -> Values:
    """The last value of each key of a partition."""
    return {message.key: message.value for message in records(options, topic)[partition]}


def rows_in_topic(options: KafkaOptions) -> list[int]:
    """Offsets of the lives whose row a fresh restore of partition 0 would find."""
    values = last_values(options, options.state)
    return sorted(int(key.split(b"/")[2]) for key, value in values.items() if value is not None)


def make_anew(options: KafkaOptions, topics: Iterable[str]) -> None:
    """Delete topics and make them again."""
    admin = KafkaAdminClient(**options.connection())
    try:
        admin.delete_topics(list(topics))
    finally:
        admin.close()
    give_up_at = time.monotonic() + 20
    while True:
        try:
            create_topics(options, PARTITIONS)
            check_topics(options)
        except LogError:
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
        else:
            return
