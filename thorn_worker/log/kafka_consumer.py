"""How the KafkaConsumer of a worker is made, and what it is told to do."""

from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.net.compat import KafkaNetClient

from producer.errors import ThornError
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import explain
from thorn_worker.log.kafka_records import Unreadable

#: A hot partition brings at most so much at a time, so that it starves no other.
PARTITION_FETCH_BYTES: Final = 256 * 1024
FETCH_BYTES: Final = 8 * 1024 * 1024
#: The hub stands while so many records are decoded: about 5 ms.
POLL_RECORDS: Final = 500
#: A fetch waits so long at the broker for the first record, and a partition that was not in it (it was
#: paused, or had records left) as long for the next fetch. The longer time makes an idle worker cheap.
FETCH_WAIT_S: Final = 0.05
IDLE_FETCH_WAIT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient a member is. The broker bounds `session_s` (``group.min.session.timeout.ms``).

    metadata_age_s: a topic that has grown is noticed this late.
    """

    session_s: float = 15.0
    heartbeat_s: float = 1.0
    max_poll_s: float = 60.0
    metadata_age_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who joins. worker_id: kept over restarts, so that a quick one moves no partition; None: a new one.

    unreadable: told of what can't be decoded, over all members of this process.
    """

    worker_id: str | None
    timing: Timing
    unreadable: Unreadable


def connect(options: KafkaOptions, identity: Identity, assignor: Any) -> Any:
    """A KafkaConsumer that has reached a broker. Raises `LogUnavailable` or `LogUnusable`, and
    `ConfigurationError` for a file that is missing.
    """
    clients: list[Any] = []

    def client(**settings: Any) -> Any:
        clients.append(KafkaNetClient(**settings))
        return clients[-1]

    try:
        return KafkaConsumer(
            **options.connection(),
            **_settings(identity.timing),
            kafka_client=client,
            group_id=options.group,
            group_instance_id=identity.worker_id,
            partition_assignment_strategy=[assignor],
        )
    except BaseException as error:
        for one in clients:  # a constructor that fails, or is killed, leaves its IO loop running
            one.close()
        if not isinstance(error, Exception) or isinstance(error, ThornError):
            raise
        raise explain(error, options, "joining the workers") from error


def _settings(timing: Timing) -> dict[str, Any]:
    return {
        "auto_offset_reset": "none",
        "enable_auto_commit": False,
        "allow_auto_create_topics": False,
        "session_timeout_ms": int(timing.session_s * 1000),
        "heartbeat_interval_ms": int(timing.heartbeat_s * 1000),
        "max_poll_interval_ms": int(timing.max_poll_s * 1000),
        "max_poll_records": POLL_RECORDS,
        "fetch_max_wait_ms": int(FETCH_WAIT_S * 1000),
        "max_partition_fetch_bytes": PARTITION_FETCH_BYTES,
        "fetch_max_bytes": FETCH_BYTES,
        "metadata_max_age_ms": int(timing.metadata_age_s * 1000),
    }
