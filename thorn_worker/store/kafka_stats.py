"""What the Kafka store has to say in metrics."""

import time
from dataclasses import dataclass

from producer.log.kafka_sender import KafkaSender
from thorn_worker.store.kafka_changelog import Changelog
from thorn_worker.store.kafka_follower import Follower


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Figures of now, for metrics.

    acknowledged: messages of the state topic since the start. outstanding: messages and bytes that Kafka has
    not acknowledged; waiting: writes not sent yet. refused: writes that can never be made. last_ack_age_s:
    None before the first one. oldest_s: age of the oldest unacknowledged message, None if all are. restoring:
    partitions; restored_records: read from the state topic since the start, restored or watched; restore_s:
    duration of the last restore.
    """

    acknowledged: int = 0
    outstanding: int = 0
    outstanding_bytes: int = 0
    waiting: int = 0
    refused: int = 0
    last_ack_age_s: float | None = None
    oldest_s: float | None = None
    restoring: int = 0
    restored_records: int = 0
    restore_s: float | None = None


def stats_of(changelog: Changelog, sender: KafkaSender, follower: Follower) -> StoreStats:
    """The figures of these parts, now."""
    last_ack_at = changelog.last_ack_at
    return StoreStats(
        acknowledged=changelog.acknowledged,
        outstanding=sender.unacknowledged,
        outstanding_bytes=sender.unacknowledged_bytes,
        waiting=changelog.waiting,
        refused=changelog.refused,
        last_ack_age_s=None if last_ack_at is None else time.monotonic() - last_ack_at,
        oldest_s=sender.oldest_s,
        restoring=follower.restoring,
        restored_records=follower.records,
        restore_s=follower.restore_s,
    )
