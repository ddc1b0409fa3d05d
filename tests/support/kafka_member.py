"""A worker process for tests, patched: owns what it gets, stores a row for each record that it reads, and
prints what `tests.support.sqlite_member` prints.
"""

import sys
from functools import partial

from gevent import monkey

monkey.patch_all()

from tests.support.deliveries import pending  # noqa: E402 - nothing may be imported before the patch
from tests.support.kafka_reader_world import TIMING, options_of  # noqa: E402
from tests.support.sqlite_member import Printer  # noqa: E402
from thorn_worker.log.contract import Consent  # noqa: E402
from thorn_worker.log.kafka import KafkaReader, Membership  # noqa: E402
from thorn_worker.store.kafka import KafkaStore  # noqa: E402


def main(bootstrap: str, prefix: str, state_dir: str) -> None:
    options = options_of(bootstrap, prefix)
    reader = KafkaReader(options, Membership(None, 4), Consent(), TIMING)
    store = KafkaStore(options, reader, state_dir)
    topic_id = reader.open().topic_id
    reader.join(Printer())
    restored: dict[int, int] = {}
    while True:
        for record in reader.poll(0.1):
            if restored.get(record.partition) != record.epoch:
                store.restore(record.partition, record.epoch, record.offset)
                restored[record.partition] = record.epoch
            row = pending(topic_id, record.partition, record.offset)
            said = partial(print, "stored", record.partition, record.offset, flush=True)
            store.put(record.epoch, row, said)


if __name__ == "__main__":
    main(*sys.argv[1:4])
