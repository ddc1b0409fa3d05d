"""All settings of both halves as one value, and the combinations that can't be meant."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from producer.errors import ConfigurationError
from producer.model import NOTHING

#: Fields whose values hold secrets or passwords.
HIDDEN: Final = frozenset({"subscribers", "secrets", "subscriptions"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """All settings after parsing: durations in seconds, sizes in bytes, paths absolute.

    dispatcher: None means ``log`` if a log is set, else ``default``.
    log: the text of a URL that `parse_log_url` takes. subscriptions: may hold a password.
    """

    log: str | None = None
    dispatcher: str | None = None
    chunk_size: int = 10
    subscribers: Mapping[str, object] = field(default_factory=lambda: NOTHING)
    secrets: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NOTHING)
    secrets_of: str | None = None
    subscriptions: str | None = None
    event_timeout_s: float = 15.0
    retry_schedule_s: tuple[float, ...] = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0)
    max_age_s: float = 5 * 86400.0
    disable_after_s: float = 5 * 86400.0
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[str, ...] = ()
    ca_file: str | None = None
    max_in_flight: int = 2000
    max_in_flight_per_host: int = 64
    max_block_s: float = 1.0
    max_buffered_bytes: int = 32 * 1024**2
    linger_s: float = 0.005
    partitions: int = 12
    worker_id: str | None = None
    state_dir: str | None = None
    drain_timeout_s: float = 25.0
    idle_timeout_s: float = 60.0
    max_log_bytes: int = 10 * 1024**3
    admin: tuple[str, int] = ("127.0.0.1", 9464)
    log_level: str = "info"
    log_format: str = "text"
    attempt_log: str = "off"
    kafka_security: str = "plaintext"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password_file: str | None = None
    kafka_ca_file: str | None = None
    kafka_cert_file: str | None = None
    kafka_key_file: str | None = None

    def __repr__(
        self,
    ) -> str:  # what differs from the defaults; subscribers and secrets must never reach a log file
        plain = Settings()
        shown = (
            f"{f.name}=\u2026" if f.name in HIDDEN else f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(plain, f.name)
        )
        return f"Settings({', '.join(shown)})"


def check_together(settings: Settings) -> None:
    """Raise for values that are fine one by one but can't be meant together."""
    s = settings
    if s.dispatcher == "log" and s.log is None:
        raise ConfigurationError(
            "dispatcher = 'log' needs a log to write to: set log, or choose another dispatcher."
        )
    if s.subscriptions is not None:
        raise ConfigurationError(
            "subscriptions is set, but the subscription store comes with a later release: remove it, and "
            "list the subscribers in the settings."
        )
    if s.max_in_flight_per_host > s.max_in_flight:
        raise ConfigurationError(
            f"max_in_flight_per_host = {s.max_in_flight_per_host} is more than "
            f"max_in_flight = {s.max_in_flight}: lower the one or raise the other."
        )
    for one, other in (("kafka_cert_file", "kafka_key_file"), ("kafka_key_file", "kafka_cert_file")):
        if getattr(s, one) is not None and getattr(s, other) is None:
            raise ConfigurationError(
                f"{one} = {getattr(s, one)!r} needs {other} beside it: set both or none."
            )
    sasl = {
        "kafka_sasl_mechanism": s.kafka_sasl_mechanism,
        "kafka_sasl_username": s.kafka_sasl_username,
        "kafka_sasl_password_file": s.kafka_sasl_password_file,
    }
    if s.kafka_security.startswith("sasl_"):
        missing = [name for name, value in sasl.items() if value is None]
        if missing:
            raise ConfigurationError(
                f"kafka_security = {s.kafka_security!r} needs {' and '.join(missing)}: set them too."
            )
    else:
        _refuse_unused(sasl, s.kafka_security, "sasl_plaintext or sasl_ssl")
    if not s.kafka_security.endswith("ssl"):
        tls = {"kafka_ca_file": s.kafka_ca_file, "kafka_cert_file": s.kafka_cert_file}
        _refuse_unused(tls, s.kafka_security, "ssl or sasl_ssl")


def _refuse_unused(values: Mapping[str, object], security: str, needed: str) -> None:
    """A connection less safe than its settings look would go unnoticed."""
    for name, value in values.items():
        if value is not None:
            raise ConfigurationError(
                f"{name} = {value!r} does nothing while kafka_security = {security!r}: "
                f"set that to {needed}, or remove it."
            )


def doubts(settings: Settings) -> Iterator[str]:
    """One sentence for each combination that works, but hardly as it was meant."""
    if settings.disable_after_s != Settings().disable_after_s:
        yield "disable_after has no effect yet: in this release only a 410 disables an endpoint."
    total_s = sum(settings.retry_schedule_s)
    if total_s > settings.max_age_s:
        yield (
            f"The steps of retry_schedule add up to {total_s:g} s, more than "
            f"max_age = {settings.max_age_s:g} s: the last attempts never happen."
        )
