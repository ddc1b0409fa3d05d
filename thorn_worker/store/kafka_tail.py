"""One consumer of the state topic, without a group: reads given partitions from given offsets on."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import quiet_client_logs

#: How long one question for offsets may take.
OFFSETS_S: Final = 10.0
#: Longest wait for records; what is to be read too from now on waits so long.
POLL_S: Final = 0.2
#: Records of one poll: what is decoded before others have a turn on the hub.
POLL_RECORDS: Final = 500
#: 256 KiB per partition reads at two thirds of the speed.
PARTITION_FETCH_BYTES: Final = 1024 * 1024
FETCH_BYTES: Final = 8 * 1024 * 1024
#: A fetch of idle partitions holds up the others' next one for this long.
FETCH_WAIT_MS: Final = 50
#: A consumer closes within this time, or is left to itself.
CLOSE_S: Final = 1.0

_log: Final = logging.getLogger("thorn_worker.store")


class Offsets(NamedTuple):
    """Of a partition: the first one that is left, and the one that the next message gets."""

    begin: int
    end: int


class Tail:
    """Every method may raise kafka-python's errors, and so may the constructor.

    Close it after one of `poll`: the next poll may turn in a loop that nothing in this process can end.
    """

    def __init__(self, options: KafkaOptions) -> None:
        quiet_client_logs()
        self._topic = options.state
        self._partitions: frozenset[int] = frozenset()
        self._consumer: Any = KafkaConsumer(
            **options.connection(),
            group_id=None,
            auto_offset_reset="none",  # a silent jump to the beginning or the end would make a wrong cache
            enable_auto_commit=False,
            max_poll_records=POLL_RECORDS,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )

    def assign(self, partitions: Iterable[int]) -> frozenset[int]:
        """Read these from now on; gives those that are new, which must be sought before the next poll."""
        wanted = frozenset(partitions)
        new = wanted - self._partitions
        if wanted != self._partitions:
            self._consumer.assign([self._place(partition) for partition in wanted])
            self._partitions = wanted
        return new

    @property
    def partitions(self) -> frozenset[int]:
        """What is assigned."""
        return self._partitions

    def offsets(self, partitions: Sequence[int]) -> Mapping[int, Offsets]:
        """Where partitions begin and end now."""
        places = [self._place(partition) for partition in partitions]
        ends = self._consumer.end_offsets(places, timeout_ms=OFFSETS_S * 1000)
        begins = self._consumer.beginning_offsets(places, timeout_ms=OFFSETS_S * 1000)
        return {place.partition: Offsets(begins[place], ends[place]) for place in places}

    def seek(self, partition: int, offset: int) -> None:
        self._consumer.seek(self._place(partition), offset)

    def poll(self) -> Mapping[int, Sequence[Any]]:
        """Some records per partition: kafka-python's `ConsumerRecord`."""
        fetched = self._consumer.poll(timeout_ms=POLL_S * 1000, max_records=POLL_RECORDS)
        return {place.partition: records for place, records in fetched.items()}

    def position(self, partition: int) -> int:
        """Everything below was given by `poll`, or does not exist."""
        return int(self._consumer.position(self._place(partition)))

    def close(self) -> None:
        """Never raises."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=CLOSE_S * 1000)
        except Exception as error:
            _log.warning("a consumer of %s did not close: %s", self._topic, error)

    def _place(self, partition: int) -> Any:
        return TopicPartition(self._topic, partition)
