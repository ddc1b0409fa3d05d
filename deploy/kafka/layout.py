"""What is on disk: which cluster a folder holds, and on which ports. Later processes find brokers by it."""

import json
import random
import secrets
import socket
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from deploy.kafka.errors import ClusterError
from deploy.kafka.options import Options, Security, TlsFiles

HOST: Final = "127.0.0.1"

#: Where free ports are looked for: below those that systems give to outgoing connections (from 32768 on
#: Linux, 49152 elsewhere). A client that retries against a dead broker's port inside that range can be given
#: this very port as its own, connect to itself, and keep the broker from coming back.
_FREE_PORTS: Final = range(20_000, 32_000)

_TRIES: Final = 200


@dataclass(frozen=True, slots=True)
class Layout:
    """One formatted cluster. Broker i (from 1) of n has the client port `port + i - 1`, the internal one n
    higher, the controller's 2n higher. Three brokers from 9092: broker 2 has 9093, 9096 and 9099.
    """

    cluster_id: str
    port: int
    options: Options

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(range(1, self.options.brokers + 1))

    def client_port(self, broker: int) -> int:
        return self.port + broker - 1

    def internal_port(self, broker: int) -> int:
        return self.client_port(broker) + self.options.brokers

    def controller_port(self, broker: int) -> int:
        return self.client_port(broker) + 2 * self.options.brokers

    def ports(self, broker: int) -> tuple[int, int, int]:
        return self.client_port(broker), self.internal_port(broker), self.controller_port(broker)

    def write(self, folder: Path) -> None:
        _file(folder).write_text(json.dumps(asdict(self), indent=2, default=str) + "\n")

    def remove(self, folder: Path) -> None:
        _file(folder).unlink(missing_ok=True)


def new_layout(options: Options, port: int | None) -> Layout:
    """A cluster with an id of its own, 16 random bytes as Kafka writes them. port: None finds free ones."""
    cluster_id = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    if cluster_id.startswith("-"):
        # Kafka's storage tool would take it for an option.
        cluster_id = "A" + cluster_id[1:]
    return Layout(cluster_id, port or _free(3 * options.brokers), options)


def read_layout(folder: Path) -> Layout | None:
    """What the folder holds, or None."""
    try:
        values = json.loads(_file(folder).read_text())
    except FileNotFoundError:
        return None
    options = values["options"]
    tls = options["tls"]
    options |= {
        "security": Security(options["security"]),
        "tls": TlsFiles(Path(tls["key_and_chain"]), Path(tls["ca"])) if tls is not None else None,
        "java_options": tuple(options["java_options"]),
    }
    return Layout(values["cluster_id"], values["port"], Options(**options))


def is_free(port: int) -> bool:
    """Whether a broker could listen there now."""
    with socket.socket() as probe:
        # As Java does: ports of connections that are only waiting for their end to be forgotten are free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free(count: int) -> int:
    """The first of `count` free ports in a row, at random: clusters that start together don't collide."""
    for _ in range(_TRIES):
        first = random.choice(_FREE_PORTS)
        if all(is_free(port) for port in range(first, first + count)):
            return first
    raise ClusterError(
        f"found no {count} free ports in a row from {_FREE_PORTS.start} to {_FREE_PORTS.stop}:"
        " choose them with --port"
    )


def _file(folder: Path) -> Path:
    return folder / "cluster.json"
