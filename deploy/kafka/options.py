"""What kind of cluster is wanted: how many brokers, on which ports, and who may talk to them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from deploy.kafka.errors import ClusterError

#: What goes through a JAAS line and an argument of Kafka's storage tool, both with a grammar of their own.
_SAFE: Final = re.compile(r"[A-Za-z0-9._~-]+")

#: A small heap and the cheapest compiler: a broker is ready after 3.7 s of CPU instead of 7, in 170 MiB.
SMALL_JVM: Final = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Security(StrEnum):
    """How clients connect. Among themselves, and at `Cluster.internal_bootstrap`, brokers are plaintext."""

    PLAINTEXT = "plaintext"
    TLS = "tls"
    MTLS = "mtls"
    SASL = "sasl"
    SASL_TLS = "sasl_tls"

    @property
    def protocol(self) -> str:
        """The name of it in Kafka's settings (`security.protocol`)."""
        return _PROTOCOLS[self]

    @property
    def has_tls(self) -> bool:
        return self.protocol.endswith("SSL")

    @property
    def has_sasl(self) -> bool:
        return self.protocol.startswith("SASL")


_PROTOCOLS: Final = {
    Security.PLAINTEXT: "PLAINTEXT",
    Security.TLS: "SSL",
    Security.MTLS: "SSL",
    Security.SASL: "SASL_PLAINTEXT",
    Security.SASL_TLS: "SASL_SSL",
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the brokers. `key_and_chain`: private key in PKCS#8, then the certificate for localhost
    and 127.0.0.1; `ca`: who signs the certificates of clients, for mtls.
    """

    key_and_chain: Path
    ca: Path

    def check(self) -> None:
        """Raise ClusterError for a file that a broker would refuse with a page of Java."""
        for path in (self.key_and_chain, self.ca):
            if not path.is_file():
                raise ClusterError(f"{path} does not exist: give PEM files for TLS")
        text = self.key_and_chain.read_text(errors="replace")
        if "BEGIN PRIVATE KEY" not in text or "BEGIN CERTIFICATE" not in text:
            raise ClusterError(
                f"{self.key_and_chain} does not hold a PKCS#8 private key and a certificate, which is what"
                " a broker reads: convert the key with openssl pkcs8 -topk8 -nodes, and put both in one file"
            )


@dataclass(frozen=True, slots=True)
class Options:
    """One cluster. `port`: the first of three consecutive ports per broker; free ones if None.

    `users`: name -> password for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 alike. The SCRAM ones are written
    when the data folder is formatted, so a later change takes a wipe. `extra`: settings that go over ours.
    """

    brokers: int = 1
    port: int | None = None
    security: Security = Security.PLAINTEXT
    tls: TlsFiles | None = None
    users: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    java_options: tuple[str, ...] = SMALL_JVM
    start_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if self.brokers not in (1, 3):
            raise ClusterError(f"{self.brokers} brokers: only 1 and 3 make a quorum that is worth testing")
        if self.port is not None and not 1 <= self.port <= 65_535 - 3 * self.brokers:
            raise ClusterError(
                f"port {self.port} leaves no room for {3 * self.brokers} ports: choose one from 1 to 65000"
            )
        if self.security.has_tls and self.tls is None:
            raise ClusterError(f"security {self.security} needs a certificate and a CA file: give both")
        if self.security.has_sasl and not self.users:
            raise ClusterError(f"security {self.security} needs at least one user with a password")
        for word in (*self.users, *self.users.values()):
            if not _SAFE.fullmatch(word):
                raise ClusterError(
                    f"{word!r} can't be a user name or a password here: use letters, digits, and . _ ~ -"
                )
