"""A worker process for tests: owns what it gets, stores a row for each record that it reads, and prints

``assigned <partition> …`` and ``stored <partition> <offset>`` (only once the row is durable).
"""

import sys
from collections.abc import Sequence
from functools import partial

from tests.support.deliveries import pending
from thorn_worker.log.contract import Assignment
from thorn_worker.log.journal import Journal
from thorn_worker.log.leases import LeaseTiming, member_name
from thorn_worker.log.sqlite import SqliteReader
from thorn_worker.store.sqlite import SqliteStore


class Printer:
    def assigned(self, assignments: Sequence[Assignment]) -> None:
        print("assigned", *(assignment.partition for assignment in assignments), flush=True)

    def revoked(self, assignments: Sequence[Assignment]) -> None:
        print("revoked", *(assignment.partition for assignment in assignments), flush=True)

    def lost(self, assignments: Sequence[Assignment]) -> None:
        print("lost", *(assignment.partition for assignment in assignments), flush=True)


def main(path: str, beat_s: float, ttl_s: float) -> None:
    journal = Journal(path, 4, member_name("subprocess"))
    reader = SqliteReader(journal, LeaseTiming(beat_s=beat_s, ttl_s=ttl_s))
    store = SqliteStore(journal)
    topic_id = reader.open().topic_id
    reader.join(Printer())
    while True:
        for record in reader.poll(0.1):
            row = pending(topic_id, record.partition, record.offset)
            said = partial(print, "stored", record.partition, record.offset, flush=True)
            store.put(record.epoch, row, said)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
