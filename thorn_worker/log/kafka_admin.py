"""What is asked of a Kafka cluster as a whole, typed: kafka-python's own answers are dicts."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from producer.errors import LogError, LogUnavailable, LogUnusable
from producer.log.kafka_options import KafkaOptions, check_library
from producer.log.kafka_trouble import explain, quiet_client_logs

#: Error codes in the description of one topic, from the protocol guide of Apache Kafka.
_NONE: Final = 0
_UNKNOWN_TOPIC: Final = 3
_NOT_AUTHORISED: Final = 29
_EXISTS: Final = 36
#: So long the brokers of a cluster may take to tell each other of a change.
_SPREAD_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Described:
    """One topic as the cluster has it.

    replication: the least of its partitions. allowed: what this client may do with it (``READ``, …).
    settings: all of them, the cluster's defaults too; empty where this client may not see them. visible:
    False if this client may not even know whether the topic exists.
    """

    name: str
    topic_id: str
    partitions: int
    replication: int
    allowed: frozenset[str]
    settings: Mapping[str, str]
    visible: bool = True


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to be made."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


class Admin:
    """An open admin client. A call takes at most about 20 s, and raises `LogUnavailable` or `LogUnusable`."""

    def __init__(self, client: Any, options: KafkaOptions) -> None:
        self._client = client
        self._options = options

    def __repr__(self) -> str:
        return f"<Admin of {self._options.place}>"

    def brokers(self) -> int:
        """How many brokers serve."""
        with self._explained("the look at the brokers"):
            found = self._client.describe_cluster()["brokers"]
        return sum(not broker.get("is_fenced", False) for broker in found)

    def describe(self, names: Sequence[str]) -> dict[str, Described]:
        """Those of these topics that exist, or may exist without this client being told."""
        with self._explained("the look at the topics"):
            answers = self._client.describe_topics(list(names))
        found: dict[str, Described] = {}
        for answer in answers:
            code, name = answer["error_code"], answer["name"]
            if code == _NOT_AUTHORISED:
                found[name] = Described(name, "", 0, 0, frozenset(), {}, visible=False)
            elif code not in (_NONE, _UNKNOWN_TOPIC):
                raise self._refusal(code, name, "", "the look at")
            elif code == _NONE:
                found[name] = self._described(answer)
        return found

    def create(self, topics: Sequence[NewTopic]) -> list[str]:
        """Make these topics and wait until they can be used; returns the names of those that were missing."""
        wanted = {
            topic.name: {
                "num_partitions": topic.partitions,
                "replication_factor": topic.replication,
                "configs": dict(topic.settings),
            }
            for topic in topics
        }
        with self._explained("making the topics"):
            answers = self._client.create_topics(wanted, raise_errors=False)["topics"]
        made = []
        for answer in answers:
            if answer["error_code"] == _NONE:
                made.append(answer["name"])
            elif answer["error_code"] != _EXISTS:  # somebody else was faster
                raise self._refusal(answer["error_code"], answer["name"], answer["error_message"], "making")
        with self._explained("the wait for the new topics"):
            self._client.wait_for_topics(list(wanted))
        return sorted(made)

    def grow(self, counts: Mapping[str, int]) -> None:
        """Give topics more partitions; the count is the new one, in all."""
        with self._explained("growing the topics"):
            answer = self._client.create_partitions(dict(counts), raise_errors=False)
        for result in answer.results:
            if result.error_code != _NONE:
                raise self._refusal(result.error_code, result.name, result.error_message, "growing")
        with self._explained("the wait for the new partitions"):
            give_up_at = time.monotonic() + _SPREAD_S
            # wait_for_topics is content with the partitions that were there before.
            while any(
                topic.partitions < counts[topic.name] for topic in self.describe(list(counts)).values()
            ):
                if time.monotonic() > give_up_at:
                    raise LogUnavailable(
                        f"the new partitions of {' and '.join(counts)} can't be seen after {_SPREAD_S:g} s: "
                        "look again with thorn-worker topics check"
                    )
                time.sleep(0.1)
            self._client.wait_for_topics(list(counts))

    def _described(self, answer: Mapping[str, Any]) -> Described:
        from kafka.admin import ConfigResource, ConfigResourceType

        name = answer["name"]
        with self._explained("the look at the topics' settings"):
            # Only with "all" does kafka-python show what the brokers' defaults are.
            resource = ConfigResource(ConfigResourceType.TOPIC, name)
            configs = self._client.describe_configs([resource], config_filter="all")["topic"].get(name, {})
        return Described(
            name,
            topic_id=str(answer["topic_id"]),
            partitions=len(answer["partitions"]),
            replication=min((len(part["replica_nodes"]) for part in answer["partitions"]), default=0),
            allowed=frozenset(str(operation) for operation in answer["authorized_operations"]),
            settings={key: str(config["value"]) for key, config in configs.items()},
        )

    def _refusal(self, code: int, name: str, says: str | None, doing: str) -> LogError:
        from kafka.errors import for_code

        if code == _NOT_AUTHORISED:
            user = f"user {self._options.sasl_username!r}" if self._options.sasl_username else "this client"
            return LogUnusable(
                f"{doing} {name} failed at {self._options.place}: {user} is not authorised: "
                "grant it Create and Alter on the topic, or have an administrator do this"
            )
        return explain(for_code(code)(*([says] if says else [])), self._options, f"{doing} {name}")

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        with explained(self._options, doing):
            yield


@contextmanager
def explained(options: KafkaOptions, doing: str) -> Iterator[None]:
    """What kafka-python raises in the block comes out as one of our errors, in one sentence."""
    from kafka.errors import KafkaError

    try:
        yield
    except (KafkaError, OSError) as error:
        raise explain(error, options, doing) from error


@contextmanager
def connected(options: KafkaOptions) -> Iterator[Admin]:
    """An admin client, closed at the end.

    Raises `LogUnavailable` within about 5 s where no broker answers and `LogUnusable` where none ever will;
    `ConfigurationError` for a file that is missing.
    """
    check_library()
    quiet_client_logs()
    from kafka import KafkaAdminClient

    with explained(options, "connecting"):
        client = KafkaAdminClient(**options.connection())
    try:
        yield Admin(client, options)
    finally:
        client.close()
