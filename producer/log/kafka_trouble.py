"""What went wrong with Kafka, in one sentence each: the value, the reason, and what to do.

kafka-python tells of most failures to connect as one timeout without a cause; `why_unreachable` looks itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from producer.errors import LogError, LogUnavailable, LogUnusable
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_probe import look_at
from producer.log.kafka_quiet import quiet_client_logs
from producer.log.kafka_talk import quoted

__all__ = ["explain", "obstacle", "quiet_client_logs", "why_unreachable"]

#: Servers that are looked at: more than these say the same.
_SERVERS: Final = 3


@dataclass(frozen=True, slots=True)
class _Known:
    """An error of kafka-python that a user can meet. Texts may use the fields of `_fields`."""

    reason: str
    advice: str
    retriable: bool = False


_TOO_LARGE: Final = _Known(
    "a record is larger than the topic takes",
    "raise the topic's max.message.bytes; thorn-worker topics check names the topic",
)
_UNKNOWN_TOPIC: Final = _Known(
    "a topic of {prefix}.deliveries, {prefix}.state and {prefix}.dead does not exist",
    "make them with thorn-worker topics create",
)
_OTHER_VERSION: Final = _Known("the broker does not know a request ({says})", "use Apache Kafka 2.8 or newer")
_FEW_REPLICAS: Final = _Known(
    "fewer replicas are in sync than min.insync.replicas asks for", "start the brokers that are down", True
)

#: By the name of kafka-python's class; its subclasses count.
_KNOWN: Final[Mapping[str, _Known]] = {
    "TopicAuthorizationFailedError": _Known(
        "{user} is not authorised for the topics {prefix}.deliveries, {prefix}.state and {prefix}.dead",
        "grant it Describe, DescribeConfigs, Read and Write on them",
    ),
    "GroupAuthorizationFailedError": _Known(
        "{user} is not authorised for the group {group}", "grant it Describe and Read on that group"
    ),
    "ClusterAuthorizationFailedError": _Known(
        "{user} is not authorised to change the cluster", "grant it Create, or have an administrator do this"
    ),
    "SaslAuthenticationFailedError": _Known(
        "the broker refuses the login of {user} ({says})",
        "check THORN_KAFKA_SASL_USERNAME and the file THORN_KAFKA_SASL_PASSWORD_FILE",
    ),
    "UnsupportedSaslMechanismError": _Known("{says}", "set THORN_KAFKA_SASL_MECHANISM to one that it offers"),
    "IllegalSaslStateError": _Known(
        "the broker expects another login than ours", "check THORN_KAFKA_SECURITY"
    ),
    "UnknownTopicOrPartitionError": _UNKNOWN_TOPIC,
    "UnknownTopicIdError": _UNKNOWN_TOPIC,
    "MessageSizeTooLargeError": _TOO_LARGE,
    "RecordListTooLargeError": _TOO_LARGE,
    "InvalidRecordError": _Known(
        "the broker finds a record invalid ({says})",
        "check the topics with thorn-worker topics check: a compacted topic takes no record without a key",
    ),
    "InvalidTimestampError": _Known(
        "the broker finds a record's time invalid ({says})", "set the clocks of this machine and the broker"
    ),
    "InvalidTopicError": _Known(
        "{prefix!r} makes no valid topic name ({says})", "choose another prefix in THORN_LOG"
    ),
    "InvalidPartitionsError": _Known(
        "the number of partitions is refused ({says})", "choose another --partitions"
    ),
    "InvalidReplicationFactorError": _Known(
        "the replication is refused ({says})", "choose a --replication of at most the number of brokers"
    ),
    "InvalidConfigurationError": _Known(
        "a setting of a topic is refused ({says})", "ask the brokers' administrator"
    ),
    "PolicyViolationError": _Known("the brokers' policy refuses it ({says})", "ask their administrator"),
    "UnsupportedVersionError": _OTHER_VERSION,
    "UnsupportedForMessageFormatError": _OTHER_VERSION,
    "UnsupportedCompressionTypeError": _Known(
        "the broker takes no lz4 for the topic", "set the topic's compression.type to producer"
    ),
    "FencedInstanceIdError": _Known(
        "another process has joined {group} under the same worker id",
        "give each process a THORN_WORKER_ID of its own",
    ),
    "GroupMaxSizeReachedError": _Known(
        "the group {group} is full", "raise group.max.size of the brokers, or run fewer workers"
    ),
    "InvalidSessionTimeoutError": _Known(
        "the brokers allow no session of 15 s", "set their group.min.session.timeout.ms to less"
    ),
    "InconsistentGroupProtocolError": _Known(
        "somebody else than Thorn's workers is in the group {group}", "give it another group"
    ),
    "NotEnoughReplicasError": _FEW_REPLICAS,
    "NotEnoughReplicasAfterAppendError": _FEW_REPLICAS,
    "KafkaTimeoutError": _Known("no broker answered in time", "check the brokers", True),
    "RequestTimedOutError": _Known("no broker answered in time", "check the brokers", True),
    "KafkaStorageError": _Known("a broker can't use its disk", "check the brokers' disks", True),
}


def explain(error: Exception, options: KafkaOptions, doing: str) -> LogError:
    """`error` as the user should see it; `LogUnavailable` where the same may succeed a moment later.

    doing: what was tried, as a noun (``"writing to thorn.dead"``, ``"the look at the topics"``). A timeout
    while connecting is looked into by `why_unreachable`, which takes seconds. An error of ours is returned
    as it is.
    """
    if isinstance(error, LogError):
        return error
    names = [kind.__name__ for kind in type(error).__mro__]
    if "KafkaTimeoutError" in names and "bootstrap" in str(error):
        return why_unreachable(options)
    says = _says(error)
    known = next((_KNOWN[name] for name in names if name in _KNOWN), None)
    if known is None:
        passing = bool(getattr(error, "retriable", False)) or isinstance(error, OSError)
        reason = f"{names[0]}: {says}" if says else names[0]
        known = _Known(reason.replace("{", "{{").replace("}", "}}"), "check the brokers", passing)
    fields = {
        "user": f"user {options.sasl_username!r}" if options.sasl_username else "this client",
        "prefix": options.prefix,
        "group": options.group,
        "says": says or names[0],
    }
    reason = known.reason.format(**fields)
    text = f"{doing} failed at {options.place}: {reason}: {known.advice}"
    return LogUnavailable(text) if known.retriable else LogUnusable(text)


def why_unreachable(options: KafkaOptions) -> LogError:
    """`obstacle`, for a client that could not connect a moment ago: if there is none now, waiting helps."""
    return obstacle(options) or LogUnavailable(
        f"{options.place} did not answer in time, but does now: try again"
    )


def obstacle(options: KafkaOptions) -> LogError | None:
    """Look at up to three servers, within about 5 s each, and say why a client reaches none; None if it does.

    `LogUnavailable` where waiting may help (refused, silent, name not known, starting), `LogUnusable` where
    the operator must act (TLS, certificate, login, not a Kafka port). Raises `ConfigurationError` for a
    password file that can't be read.
    """
    found = []
    for server in options.servers[:_SERVERS]:
        trouble = look_at(server, options)
        if trouble is None:
            return None
        found.append(trouble)
    for trouble in found:
        if not trouble.passing:
            return LogUnusable(
                f"{options.place} can't be used: {trouble.server} {trouble.fact}: {trouble.advice}"
            )
    facts = ", ".join(f"{trouble.server} {trouble.fact}" for trouble in found)
    advice = found[0].advice or "start the brokers, or correct THORN_LOG"
    return LogUnavailable(f"{options.place} can't be reached: {facts}: {advice}")


def _says(error: Exception) -> str:
    """The broker's or the library's words, without the class and number that they begin with."""
    return quoted(str(error.args[0])) if error.args else ""
