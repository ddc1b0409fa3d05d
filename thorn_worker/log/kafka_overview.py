"""Where a Kafka log stands, for whoever looks from outside: partitions, offsets, and who owns what."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from producer.errors import LogError, LogUnusable
from producer.log.kafka_options import KafkaOptions, check_library
from producer.log.kafka_trouble import explain, quiet_client_logs
from thorn_worker.inspector import PartitionStatus
from thorn_worker.log.kafka_admin import explained

Answer = TypeVar("Answer")

#: What a broker can't answer just now (no coordinator yet, a leader that moves) is asked again for this long.
PATIENCE_S: Final = 8.0
_PAUSE_S: Final = 0.2

#: Error code of a topic that does not exist, from the protocol guide of Apache Kafka.
_UNKNOWN_TOPIC: Final = 3


class KafkaOverview:
    """Questions to the brokers through one admin client, which is made at the first and kept.

    For one thread or greenlet at a time. Every method raises `LogUnavailable` or `LogUnusable`, after at most
    about 15 seconds.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._admin: Any = None
        self._places: dict[str, Sequence[Any]] = {}

    def __repr__(self) -> str:
        return f"<KafkaOverview of {self._options.place}, {'dis' if self._admin is None else ''}connected>"

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Per partition of `topic` the first offset that is still there, and the one behind the last."""
        return self._ask(f"the look at the offsets of {topic}", lambda admin: self._bounds(admin, topic))

    def statuses(self) -> Sequence[PartitionStatus]:
        """Where the workers' group stands in each partition; one that it never committed is at its start."""
        return self._ask(f"the look at the group {self._options.group}", self._statuses)

    def close(self) -> None:
        """Disconnect; a later question connects again."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _ask(self, doing: str, question: Callable[[Any], Answer]) -> Answer:
        from kafka.errors import KafkaError

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return question(self._connected())
            except KafkaError as error:
                trouble = explain(error, self._options, doing)
                if not trouble.retriable or time.monotonic() >= deadline:
                    raise trouble from error
            # The client never forgets who coordinates a group, also when that broker is gone.
            self.close()
            time.sleep(_PAUSE_S)

    def _connected(self) -> Any:
        if self._admin is None:
            check_library()
            quiet_client_logs()
            from kafka import KafkaAdminClient

            with explained(self._options, "connecting"):
                self._admin = KafkaAdminClient(**self._options.connection())
        return self._admin

    def _bounds(self, admin: Any, topic: str) -> Mapping[int, tuple[int, int]]:
        from kafka.protocol.consumer import OffsetSpec

        places = self._places_of(admin, topic)
        firsts = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
        ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        return {place.partition: (firsts[place].offset, ends[place].offset) for place in places}

    def _statuses(self, admin: Any) -> Sequence[PartitionStatus]:
        group = self._options.group
        bounds = self._bounds(admin, self._options.deliveries)
        places = self._places_of(admin, self._options.deliveries)
        committed = admin.list_group_offsets({group: places})[group]
        owners = self._owners(admin.describe_groups([group])[group])
        statuses = []
        for place in places:
            first, end = bounds[place.partition]
            done = committed[place].offset if place in committed else -1
            owner = owners.get(place.partition)
            statuses.append(PartitionStatus(place.partition, first if done < 0 else done, end, owner))
        return statuses

    def _owners(self, group: Mapping[str, Any]) -> Mapping[int, str]:
        """Partition -> member and where it runs. Empty while nobody is a member, or members are joining."""
        if group["error"] is not None and group["group_state"] != "Dead":  # dead is: not made yet
            raise LogUnusable(
                f"{self._options.place}: the broker does not describe the group {self._options.group} "
                f"({group['error']}): allow this user to describe it"
            )
        owners = {}
        for member in group["members"]:
            name = member["group_instance_id"] or member["client_id"]
            owner = f"{name} at {member['client_host'].lstrip('/')}"
            assignment = member["member_assignment"]
            if isinstance(assignment, dict):  # bytes while its members are still joining
                for one in assignment["assigned_partitions"]:
                    if one["topic"] == self._options.deliveries:
                        owners.update(dict.fromkeys(one["partitions"], owner))
        return owners

    def _places_of(self, admin: Any, topic: str) -> Sequence[Any]:
        """The partitions of a topic as kafka-python names them, in order."""
        if topic not in self._places:
            from kafka import TopicPartition
            from kafka.errors import for_code

            (described,) = admin.describe_topics([topic])
            if described["error_code"] == _UNKNOWN_TOPIC:
                raise _missing(topic, self._options)
            if described["error_code"]:
                raise for_code(described["error_code"])(topic)
            numbers = sorted(partition["partition_index"] for partition in described["partitions"])
            self._places[topic] = [TopicPartition(topic, number) for number in numbers]
        return self._places[topic]


def _missing(topic: str, options: KafkaOptions) -> LogError:
    return LogUnusable(
        f"{options.place}: the topic {topic} does not exist: check the setting `log`, or make the topics "
        "with `thorn-worker topics create`"
    )
