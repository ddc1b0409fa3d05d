"""Which Kafka, which topics, and how to talk to it: shared by producer, worker and command line."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from producer.config import LogUrl, Settings
from producer.errors import ConfigurationError, LogUnusable

#: Beyond kafka-python's own 30 s a member is evicted before its client tries to connect again.
RECONNECT_BACKOFF_MAX_MS: Final = 1_000
#: A request that a frozen broker holds is given up after this long.
REQUEST_TIMEOUT_MS: Final = 10_000
#: A client that reaches no broker within this time is built again by its owner.
BOOTSTRAP_TIMEOUT_MS: Final = 5_000
#: Largest message of the topics `state` and `dead`.
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaOptions:
    """A Kafka log as the settings name it; topics and group follow from `prefix`.

    servers: ``host:port`` texts. security: plaintext, ssl, sasl_plaintext or sasl_ssl. Files are paths.
    """

    servers: tuple[str, ...]
    prefix: str
    security: str = "plaintext"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @classmethod
    def of(cls, settings: Settings, url: LogUrl) -> Self:
        """What `settings` say of the log that `url` names."""
        return cls(
            servers=url.servers,
            prefix=url.prefix,
            security=settings.kafka_security,
            sasl_mechanism=settings.kafka_sasl_mechanism,
            sasl_username=settings.kafka_sasl_username,
            sasl_password_file=settings.kafka_sasl_password_file,
            ca_file=settings.kafka_ca_file,
            cert_file=settings.kafka_cert_file,
            key_file=settings.kafka_key_file,
        )

    @property
    def deliveries(self) -> str:
        """Topic of the records."""
        return f"{self.prefix}.deliveries"

    @property
    def state(self) -> str:
        """Compacted topic of the stored rows and endpoint states."""
        return f"{self.prefix}.state"

    @property
    def dead(self) -> str:
        """Topic of the dead letters."""
        return f"{self.prefix}.dead"

    @property
    def group(self) -> str:
        """Consumer group of the workers."""
        return f"{self.prefix}.workers"

    @property
    def place(self) -> str:
        """For people: ``kafka://k1:9092,k2:9092/thorn``."""
        return f"kafka://{','.join(self.servers)}/{self.prefix}"

    def password(self) -> str | None:
        """What the password file holds, without the line's end. Raises `ConfigurationError`."""
        if self.sasl_password_file is None:
            return None
        try:
            return Path(self.sasl_password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"kafka_sasl_password_file = {self.sasl_password_file!r} can't be read ({error}): "
                "name a text file that this process may read"
            ) from error

    def connection(self) -> Mapping[str, Any]:
        """The arguments that every client of kafka-python takes to reach this Kafka.

        Raises `ConfigurationError` for a file that is missing.
        """
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "client_id": f"thorn-{os.getpid()}",
            "security_protocol": self.security.upper(),
            "reconnect_backoff_max_ms": RECONNECT_BACKOFF_MAX_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        }
        files = (
            ("kafka_ca_file", "ssl_cafile", self.ca_file),
            ("kafka_cert_file", "ssl_certfile", self.cert_file),
            ("kafka_key_file", "ssl_keyfile", self.key_file),
        )
        for setting, argument, path in files:
            if path is not None:
                if not os.access(path, os.R_OK):
                    raise ConfigurationError(f"{setting} = {path!r} can't be read: name a readable PEM file")
                arguments[argument] = path
        if self.security.startswith("sasl_"):
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self.password()
        return arguments


def check_library() -> None:
    """Raise `LogUnusable` where kafka-python is missing, or would block or spin in this process.

    Without its C checksum and lz4 a fetched batch blocks everything, or makes ``poll`` loop for ever.
    Imported before gevent patched the process, it waits on a selector that no greenlet shares.
    """
    missing = [name for name in ("kafka", "crc32c", "lz4") if importlib.util.find_spec(name) is None]
    if missing:
        raise LogUnusable(
            f"a Kafka log needs the packages {', '.join(missing)}: pip install 'kafka-python[crc32c,lz4]'"
        )
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("selectors"):
        return
    from kafka import KafkaProducer

    if KafkaProducer.DEFAULT_CONFIG["selector"].__module__ != "gevent.selectors":
        raise LogUnusable(
            "kafka was imported before gevent patched this process, and would hang it: "
            "let gevent patch it before anything else is imported"
        )
