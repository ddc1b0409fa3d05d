"""The three topics of a Kafka log: how they are made, what is wrong with them, and how they grow.

All three have the same number of partitions: what waits of partition p of the deliveries lies in partition p
of the state, and what died of it in partition p of the dead.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from producer.errors import LogUnusable
from producer.log.kafka_options import MAX_MESSAGE_BYTES, KafkaOptions
from thorn_worker.log.kafka_admin import Described, NewTopic, connected
from thorn_worker.log.kafka_findings import (
    DAY_MS,
    OVERHEAD_BYTES,
    REPLICATION,
    STATE_RETENTION_MS,
    Finding,
    examine,
)

_MINUTE_MS: Final = 60_000
#: Kafka's own default, spelt out: a cluster's may be smaller.
_DELIVERY_BYTES: Final = 1_048_588

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Topics:
    """The three topics as found. The ids name one life of a topic: a topic made anew has another."""

    partitions: int
    deliveries_id: str
    state_id: str
    dead_id: str


def check_topics(options: KafkaOptions) -> Topics:
    """Look at the topics; what is doubtful is logged as a warning.

    Raises `LogUnusable` with all that makes the log wrong in one sentence, `LogUnavailable` if no broker
    answers.
    """
    found, findings = look(options)
    fatal = [finding for finding in findings if finding.fatal]
    if fatal:
        raise LogUnusable(f"the topics of {options.place} can't be used: {_in_one_sentence(fatal)}")
    for finding in findings:
        _LOG.warning("%s", finding)
    return Topics(
        partitions=found[options.deliveries].partitions,
        deliveries_id=found[options.deliveries].topic_id,
        state_id=found[options.state].topic_id,
        dead_id=found[options.dead].topic_id,
    )


def look(options: KafkaOptions) -> tuple[Mapping[str, Described], list[Finding]]:
    """The topics that exist, by name, and all that is wrong. Raises `LogUnusable`, `LogUnavailable`."""
    with connected(options) as admin:
        found = admin.describe(names(options))
        return found, examine(options, found, admin.brokers())


def create_topics(options: KafkaOptions, partitions: int, replication: int | None = None) -> list[str]:
    """Make the topics that are missing, with as many partitions as the others have, else `partitions`.

    replication: copies of each record; None means three, or as many as there are brokers. Existing topics are
    left as they are. Returns the names made. Raises `LogUnusable`, `LogUnavailable`.
    """
    with connected(options) as admin:
        found = admin.describe(names(options))
        refuse_hidden(options, found)
        counts = {topic.partitions for topic in found.values()}
        if len(counts) > 1:
            raise LogUnusable(
                f"{_counts(found)}, which must be equally many: "
                f"run thorn-worker topics create --partitions {max(counts)}"
            )
        missing = [name for name in names(options) if name not in found]
        if not missing:
            return []
        copies = replication if replication is not None else min(REPLICATION, admin.brokers())
        count = counts.pop() if counts else partitions
        settings = wanted_settings(options, copies)
        return admin.create([NewTopic(name, count, copies, settings[name]) for name in missing])


def grow_topics(options: KafkaOptions, partitions: int) -> list[str]:
    """Give the topics that exist `partitions` partitions; returns the names of those that had fewer.

    Hosts move to other partitions, so the caller first makes sure that nothing depends on where they are. Cut
    short, it leaves unequal counts, which no worker accepts; the same call again finishes it. Raises
    `LogUnusable` where a topic has more already, `LogUnavailable`.
    """
    with connected(options) as admin:
        found = admin.describe(names(options))
        refuse_hidden(options, found)
        refuse_shrinking(found, partitions)
        growing = [name for name in names(options) if name in found and found[name].partitions < partitions]
        if growing:
            admin.grow(dict.fromkeys(growing, partitions))
    return growing


def refuse_hidden(options: KafkaOptions, found: Mapping[str, Described]) -> None:
    """Raise `LogUnusable` if this client may not even see one of these topics."""
    hidden = [topic.name for topic in found.values() if not topic.visible]
    if hidden:
        raise LogUnusable(
            f"this client is not authorised for {' and '.join(hidden)} of {options.place}: "
            "grant it Describe, DescribeConfigs, Read and Write on them"
        )


def refuse_shrinking(found: Mapping[str, Described], partitions: int) -> None:
    """Raise `LogUnusable` if one of these topics has more than `partitions` partitions."""
    most = max((topic.partitions for topic in found.values()), default=0)
    if most > partitions:
        raise LogUnusable(
            f"{_counts(found)}, and Kafka takes none away: choose --partitions of at least {most}"
        )


def names(options: KafkaOptions) -> tuple[str, str, str]:
    """State and dead come first: a partition of the deliveries is of use only with theirs."""
    return options.state, options.dead, options.deliveries


def wanted_settings(options: KafkaOptions, replication: int) -> Mapping[str, Mapping[str, str]]:
    """What each topic is made with."""
    common = {
        # lz4 batches of the writers are stored as they come.
        "compression.type": "producer",
        # With three copies a write needs two: one broker may be down, and another lost with all it has.
        "min.insync.replicas": "2" if replication >= REPLICATION else "1",
        "max.message.bytes": str(MAX_MESSAGE_BYTES + OVERHEAD_BYTES),
    }
    deliveries = {
        "cleanup.policy": "delete",
        "retention.ms": str(7 * DAY_MS),
        "max.message.bytes": str(_DELIVERY_BYTES),
        # A producer with a wrong clock must not make a record look too old to be delivered, or to be kept.
        "message.timestamp.type": "LogAppendTime",
    }
    # The active segment is never compacted, so a short one keeps the restore of a partition short. Tombstones
    # stay for two days: a local cache that is older than half of that is read anew.
    state = {
        "cleanup.policy": "compact",
        "segment.bytes": str(64 * 1024 * 1024),
        "segment.ms": str(10 * _MINUTE_MS),
        "delete.retention.ms": str(STATE_RETENTION_MS),
        "max.compaction.lag.ms": str(60 * _MINUTE_MS),
    }
    dead = {
        "cleanup.policy": "compact,delete",
        "retention.ms": str(30 * DAY_MS),
        "segment.ms": str(DAY_MS),
        "max.compaction.lag.ms": str(DAY_MS),
    }
    return {
        options.deliveries: common | deliveries,
        options.state: common | state,
        options.dead: common | dead,
    }


def _in_one_sentence(findings: Sequence[Finding]) -> str:
    """``thorn.state, thorn.dead: missing: make them``: what is the same of several topics is said once."""
    topics: dict[str, list[str]] = {}
    for finding in findings:
        topics.setdefault(finding.problem, []).append(finding.topic)
    facts = "; ".join(f"{', '.join(names)}: {problem}" for problem, names in topics.items())
    return f"{facts}: {', and '.join(dict.fromkeys(finding.advice for finding in findings))}"


def _counts(found: Mapping[str, Described]) -> str:
    """``thorn.state has 12, thorn.dead has 6 partitions``, or in short what is the same for all."""
    counts = {topic.partitions for topic in found.values()}
    if len(counts) == 1:
        return f"{', '.join(found)} have {counts.pop()} partitions"
    return ", ".join(f"{topic.name} has {topic.partitions}" for topic in found.values()) + " partitions"
