"""What is wrong with the topics of a Kafka log, as a pure function of what the cluster says of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from producer.log.kafka_options import MAX_MESSAGE_BYTES, KafkaOptions
from producer.wire import MAX_RECORD_BYTES
from thorn_worker.log.kafka_admin import Described

DAY_MS: Final = 24 * 60 * 60_000
#: Copies of a record that survive the loss of one broker while another is being restarted.
REPLICATION: Final = 3
#: What a batch of one record adds to it: its headers, the key, lengths.
OVERHEAD_BYTES: Final = 64 * 1024
#: The store takes a local copy of the state for complete while it is younger than half of this.
STATE_RETENTION_MS: Final = 2 * DAY_MS
#: A log that forgets sooner loses deliveries while workers are down over night.
_LEAST_RETENTION_MS: Final = DAY_MS
#: `retention.ms` and `retention.bytes` of a topic that keeps everything.
_FOR_EVER: Final = -1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. fatal: a worker refuses to run with it."""

    topic: str
    problem: str
    advice: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.topic}: {self.problem}: {self.advice}"


def examine(options: KafkaOptions, found: Mapping[str, Described], brokers: int) -> list[Finding]:
    """All that is wrong with these topics in a cluster of so many brokers, topic by topic."""
    findings: list[Finding] = []
    for name in (options.deliveries, options.state, options.dead):
        topic = found.get(name)
        if topic is None:
            findings.append(Finding(name, "missing", "run thorn-worker topics create", fatal=True))
        elif not topic.visible:
            findings.append(_hidden(name))
        else:
            findings += _rights(topic)
            findings += _settings(options, topic)
            findings += _copies(topic, brokers)
    counts = {topic.partitions for topic in found.values() if topic.visible}
    if len(counts) > 1:
        most = max(counts)
        findings += (
            Finding(
                topic.name,
                f"{topic.partitions} partitions, where another topic has {most}",
                f"run thorn-worker topics create --partitions {most}",
                fatal=True,
            )
            for topic in found.values()
            if topic.visible and topic.partitions < most
        )
    return findings


def _hidden(name: str) -> Finding:
    return Finding(
        name,
        "hidden, since this client is not authorised",
        "grant it Describe, DescribeConfigs, Read and Write",
        fatal=True,
    )


def _rights(topic: Described) -> Iterator[Finding]:
    # Brokers older than 2.3 say nothing of rights.
    missing = [right for right in ("READ", "WRITE") if topic.allowed and right not in topic.allowed]
    if missing:
        rights = " and ".join(right.capitalize() for right in missing)
        yield Finding(
            topic.name, f"not for this client to {rights.lower()}", f"grant it {rights}", fatal=True
        )


def _settings(options: KafkaOptions, topic: Described) -> Iterator[Finding]:
    if not topic.settings:
        yield Finding(topic.name, "its settings are hidden from this client", "grant it DescribeConfigs")
        return
    yield from _cleanup(options, topic)
    yield from _keeping(options, topic)
    least = MAX_MESSAGE_BYTES if topic.name != options.deliveries else MAX_RECORD_BYTES + OVERHEAD_BYTES
    if (size := _number(topic, "max.message.bytes")) < least:
        yield _set(topic, "max.message.bytes", size, f"at least {least}", "a record may be refused")


def _cleanup(options: KafkaOptions, topic: Described) -> Iterator[Finding]:
    policy = topic.settings.get("cleanup.policy", "")
    policies = {part.strip() for part in policy.split(",")}
    if topic.name == options.deliveries and "compact" in policies:
        harm = "a record is lost as soon as its host gets another one"
        yield _set(topic, "cleanup.policy", policy, "delete", harm, fatal=True)
    elif topic.name == options.state and policies != {"compact"}:
        harm = "deliveries that wait for another attempt are lost with time"
        yield _set(topic, "cleanup.policy", policy, "compact", harm, fatal=True)
    elif topic.name == options.dead and policies != {"compact", "delete"}:
        harm = "replayed letters stay in it" if "compact" not in policies else "it grows for ever"
        yield _set(topic, "cleanup.policy", policy, "compact,delete", harm)


def _keeping(options: KafkaOptions, topic: Described) -> Iterator[Finding]:
    """How long it keeps what it must keep."""
    if topic.name == options.state:
        kept_ms = _number(topic, "delete.retention.ms")
        if kept_ms < STATE_RETENTION_MS:
            harm = "a worker that was away for long may deliver again"
            yield _set(topic, "delete.retention.ms", kept_ms, str(STATE_RETENTION_MS), harm)
        return
    kept_ms = _number(topic, "retention.ms")
    if kept_ms != _FOR_EVER and kept_ms < _LEAST_RETENTION_MS:
        harm = "an outage of workers for longer than that loses deliveries"
        if topic.name == options.dead:
            harm = "dead letters are gone before anybody looks"
        yield _set(topic, "retention.ms", kept_ms, f"at least {_LEAST_RETENTION_MS}", harm)
    kept_bytes = _number(topic, "retention.bytes", _FOR_EVER)
    if kept_bytes != _FOR_EVER:
        harm = "a burst of records pushes out others, delivered or not"
        yield _set(topic, "retention.bytes", kept_bytes, str(_FOR_EVER), harm)


def _copies(topic: Described, brokers: int) -> Iterator[Finding]:
    if topic.replication < min(brokers, REPLICATION):
        yield Finding(
            topic.name,
            f"{topic.replication} of the {min(brokers, REPLICATION)} copies of each record that "
            f"{brokers} brokers can keep, so the loss of one may stop it",
            f"raise its replication to {min(brokers, REPLICATION)} with kafka-reassign-partitions",
        )
    in_sync = _number(topic, "min.insync.replicas", 0)
    if in_sync == 1 and topic.replication >= REPLICATION:
        harm = "what one broker alone has acknowledged is lost with it"
        yield _set(topic, "min.insync.replicas", in_sync, "2", harm)
    elif in_sync >= topic.replication > 1:
        harm = f"of {topic.replication} copies none may be missing, so the loss of one broker stops it"
        yield _set(topic, "min.insync.replicas", in_sync, str(topic.replication - 1), harm)


def _set(
    topic: Described, key: str, value: object, better: str, harm: str, *, fatal: bool = False
) -> Finding:
    return Finding(topic.name, f"{key} = {value}, and {harm}", f"set it to {better}", fatal)


def _number(topic: Described, key: str, default: int = 0) -> int:
    """A setting as a number; `default` where the broker doesn't know it, or says something else."""
    value = topic.settings.get(key, "")
    return int(value) if value.removeprefix("-").isdigit() else default
