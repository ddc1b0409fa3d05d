"""The settings file of one broker, as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.kafka.layout import HOST, Layout
from deploy.kafka.options import Options, Security, TlsFiles

SCRAM: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")

_LOGIN: Final = "org.apache.kafka.common.security"

#: What makes a broker small, quick to start and quick to hand out groups, one or three of them alike.
_SMALL: Final = {
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.segment.bytes": "67108864",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}

#: The death of a broker is noticed within about 2.5 s instead of 9 to 30. One alone needs that too: after a
#: crash it may not come back before its controller, itself, has forgotten its earlier life.
_QUICK_FAILOVER: Final = {
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "replica.lag.time.max.ms": "2000",
}


def server_properties(layout: Layout, broker: int, data: Path) -> str:
    """`server.properties` of one broker. `Options.extra` comes last, so it wins."""
    options = layout.options
    values = {
        **_identity(layout, broker, data),
        **_SMALL,
        **_replication(options.brokers),
        **_QUICK_FAILOVER,
        **_client_listener(options),
        **options.extra,
    }
    return "".join(f"{key}={_escaped(value)}\n" for key, value in values.items())


def _identity(layout: Layout, broker: int, data: Path) -> dict[str, str]:
    listeners = (
        f"CLIENT://{HOST}:{layout.client_port(broker)},INTERNAL://{HOST}:{layout.internal_port(broker)}"
    )
    return {
        "process.roles": "broker,controller",
        "node.id": str(broker),
        "controller.quorum.voters": ",".join(f"{i}@{HOST}:{layout.controller_port(i)}" for i in layout.ids),
        "listeners": f"{listeners},CONTROLLER://{HOST}:{layout.controller_port(broker)}",
        "advertised.listeners": listeners,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INTERNAL",
        "listener.security.protocol.map": (
            f"CLIENT:{layout.options.security.protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        "log.dirs": str(data),
    }


def _replication(brokers: int) -> dict[str, str]:
    """Three brokers keep every acknowledged record on two of them at least."""
    in_sync = str(min(brokers, 2))
    return {
        "default.replication.factor": str(brokers),
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": str(brokers),
        "transaction.state.log.replication.factor": str(brokers),
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": str(brokers),
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def _client_listener(options: Options) -> dict[str, str]:
    values: dict[str, str] = {}
    if options.security.has_tls and options.tls is not None:
        values |= _tls(options.tls, required=options.security is Security.MTLS)
    if options.security.has_sasl:
        values |= _sasl(options.users)
    return {f"listener.name.client.{key}": value for key, value in values.items()}


def _tls(files: TlsFiles, required: bool) -> dict[str, str]:
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(files.key_and_chain.resolve()),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(files.ca.resolve()),
        "ssl.client.auth": "required" if required else "none",
    }


def _sasl(users: Mapping[str, str]) -> dict[str, str]:
    plain = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    values = {
        "sasl.enabled.mechanisms": ",".join(("PLAIN", *SCRAM)),
        "plain.sasl.jaas.config": f"{_LOGIN}.plain.PlainLoginModule required {plain};",
    }
    for mechanism in SCRAM:
        values[f"{mechanism.lower()}.sasl.jaas.config"] = f"{_LOGIN}.scram.ScramLoginModule required;"
    return values


def _escaped(value: str) -> str:
    """Java reads a backslash in a settings file as the start of an escape."""
    return value.replace("\\", "\\\\")
