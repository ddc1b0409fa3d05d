"""Records that no producer of ours wrote, straight into Kafka: delivered or kept, and never in the way."""

from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer

from deploy.kafka import Cluster
from producer.hosts import host_of
from producer.log.partition import partition_of
from producer.wire import encode_batch
from tests.e2e.test_bad_records import delivery
from tests.support.kafka_log import KafkaLog
from tests.support.sink import RecordingSink
from tests.support.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.kafka]


def test_records_of_another_program_are_delivered_or_kept(
    broker: Cluster, prefix: str, tmp_path: Path, sink: RecordingSink
) -> None:
    log = KafkaLog(broker.bootstrap, prefix, tmp_path / "state")
    with System(tmp_path, sink, log, subscribers={"order.*": sink.url()}) as system:
        worker = system.worker()
        # Given another client, which chooses partitions by Kafka's own hash of the key
        host = host_of(sink.url())
        with closing(KafkaProducer(**log.options.connection(), max_request_size=2 * 1024 * 1024)) as other:

            def write(value: bytes | None, key: str = host) -> int:
                sent = other.send(log.options.deliveries, value=value, key=key.encode()).get(10)
                partition: int = sent.partition
                return partition

            # When it writes a good record, one without a value, 1 MB of garbage, a larger record than
            # we would write, one without a key, and a good one behind them
            assert write(encode_batch([delivery("first", sink.url())])) == partition_of(host, 12)
            write(None)
            write(b"\xc1" * 1_040_000)
            write(encode_batch([delivery("large", sink.url(), b"x" * 1_000_000)]))
            other.send(log.options.deliveries, value=encode_batch([delivery("keyless", sink.url())])).get(10)
            write(encode_batch([delivery("last", sink.url())]))

        # Then all that can be delivered is, and the garbage is a dead letter with its size
        sink.wait_for_ids(["first", "large", "keyless", "last"])
        assert system.settle().repeats == 0
        assert worker.metric("thorn_dead_letters_total", "malformed") == 1
        (letter,) = system.ok("dead", "list", "--json").rows()
        (shown,) = system.ok("dead", "show", letter["id"], "--json").rows()
        assert shown["raw_bytes"] == 1_040_000
