"""The one table of settings: what may be set, how it is read, what it means.

The README's table is printed from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from producer import settings_kinds as kinds
from producer.settings_kinds import Kind
from producer.subscriptions.tables import secrets_table

_DAY = 86400.0
_MIB = 1024**2

#: Bytes of the largest record (`producer.wire` says why); smaller buffers and logs could never take one.
LARGEST_RECORD_BYTES: Final = 900_000
#: Longest that one attempt may last, in seconds: the slot of a hanging receiver is free again after this.
LONGEST_ATTEMPT_S: Final = 60.0

_MODULE_NAME = r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. name: in TOML and keyword arguments; upper-case behind ``THORN_`` in the environment.

    field: attribute of `producer.config.Settings`, which carries the unit; as a name it is accepted too.
    default: as a reader writes it. used_by: producer, worker or both. secret: the value is never shown.
    """

    name: str
    kind: Kind
    default: str
    meaning: str
    used_by: str = "both"
    field: str = ""
    secret: bool = False

    @property
    def attribute(self) -> str:
        """The attribute of `Settings`."""
        return self.field or self.name

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"THORN_{self.name.upper()}"


def _span(name: str, kind: Kind, default: str, meaning: str, used_by: str) -> Setting:
    return Setting(name, kind, default, meaning, used_by, field=f"{name}_s")


def _subscriber_patterns(table: Mapping[str, object]) -> Mapping[str, object]:
    return table  # patterns and entries are read by `producer.subscriptions.settings`


_POSITIVE = kinds.duration(1e-3, 3650 * _DAY, "1 ms to 10 years")
_WAIT = kinds.duration(0.0, 3600.0, "0 to 1 h")
_PATH = kinds.path()
_WORD = kinds.text(r"[!-~]+", "write one word without spaces")

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        "log",
        kinds.log_url(),
        "unset",
        "`kafka://host:port[,host:port]/prefix` or `sqlite:///relative.db` (four slashes: absolute). A "
        "relative path starts at the settings file's folder if set there, else at the working folder",
    ),
    Setting(
        "dispatcher",
        kinds.text(
            rf"[a-z][a-z0-9_-]*|{_MODULE_NAME}", "write default, disabled, log, celery, or module:Class"
        ),
        "`log` if a log is set, else `default`",
        "`default`, `disabled`, `log`, `celery`, or `module:Class`",
        "producer",
    ),
    Setting("chunksize", kinds.whole(1, 1000), "10", "deliveries per batch", "producer", field="chunk_size"),
    Setting(
        "subscribers",
        kinds.table(_subscriber_patterns),
        "none",
        'event pattern -> URL, table, list of these, or `"!module:callable"`',
        secret=True,
    ),
    Setting(
        "secrets",
        kinds.table(secrets_table),
        "none",
        "subscription id -> one secret or a list",
        "worker",
        secret=True,
    ),
    Setting(
        "secrets_of",
        kinds.text(_MODULE_NAME, "write module:function"),
        "unset",
        "`module:function` that returns the secrets of a subscription id",
        "worker",
    ),
    Setting(
        "subscriptions",
        kinds.text(r"[a-z][a-z0-9+_.]*://.*", "write an SQLAlchemy URL, such as postgresql://host/database"),
        "unset",
        "SQLAlchemy URL of the subscription store",
        secret=True,
    ),
    _span(
        "event_timeout",
        kinds.duration(1e-3, LONGEST_ATTEMPT_S, f"1 ms to {LONGEST_ATTEMPT_S:g} s"),
        "15",
        "total seconds for one attempt, body included; at most 60",
        "worker",
    ),
    _span(
        "retry_schedule",
        kinds.items(kinds.duration(0.0, 3650 * _DAY, "0 to 10 years")),
        "`5s 5m 30m 2h 5h 10h 10h`",
        "delays after each failed attempt, lengthened at random by up to 10 %; n delays mean n + 1 attempts",
        "worker",
    ),
    _span("max_age", _POSITIVE, "5d", "oldest that a delivery gets", "worker"),
    _span(
        "disable_after",
        _POSITIVE,
        "5d",
        "an endpoint that fails this long without one success is disabled",
        "worker",
    ),
    Setting(
        "allow_hosts", kinds.items(kinds.host_name()), "none", "private hosts that may be called", "worker"
    ),
    Setting(
        "allow_networks",
        kinds.items(kinds.network()),
        "none",
        "private networks that may be called",
        "worker",
    ),
    Setting(
        "ca_file",
        _PATH,
        "the system's",
        "extra certificate authorities for receivers; `SSL_CERT_FILE` is honoured too",
        "worker",
    ),
    Setting("max_in_flight", kinds.whole(1, 100_000), "2000", "attempts at once, per worker", "worker"),
    Setting(
        "max_in_flight_per_host",
        kinds.whole(1, 100_000),
        "64",
        "attempts at once to one host; at most `max_in_flight`",
        "worker",
    ),
    _span("max_block", _WAIT, "1", "longest that `send` waits for room in the buffer", "producer"),
    Setting(
        "max_buffered_bytes",
        kinds.size(LARGEST_RECORD_BYTES, 1024**4),
        "32 MiB",
        "most that waits for the log; beyond it `send` raises `BufferFull`",
        "producer",
    ),
    _span(
        "linger",
        kinds.duration(0.0, 60.0, "0 to 60 s"),
        "0.005",
        "time for gathering records into one write",
        "producer",
    ),
    Setting("partitions", kinds.whole(1, 10_000), "12", "partitions of a new log"),
    Setting("worker_id", _WORD, "unset", "name for static membership; process i is `<id>-<i>`", "worker"),
    Setting(
        "state_dir",
        _PATH,
        "a per-user cache folder",
        "local cache of the Kafka store, one locked folder per process",
        "worker",
    ),
    _span("drain_timeout", _WAIT, "25", "longest that a graceful stop waits for what is in flight", "worker"),
    _span(
        "idle_timeout",
        kinds.duration(1e-3, 3600.0, "1 ms to 1 h"),
        "60",
        "idle connections close after this",
        "worker",
    ),
    Setting(
        "max_log_bytes",
        kinds.size(1_000_000, 1024**5),
        "10 GiB",
        "used pages of the SQLite log; beyond it `send` raises `LogFull`",
    ),
    Setting(
        "admin", kinds.address(), "`127.0.0.1:9464`", "address of metrics, health and status page", "worker"
    ),
    Setting(
        "log_level",
        kinds.choice("debug", "info", "warning", "error"),
        "info",
        "least level that is logged",
        "worker",
    ),
    Setting("log_format", kinds.choice("text", "json"), "text", "`text` or `json`", "worker"),
    Setting(
        "attempt_log",
        kinds.choice("off", "failures", "all"),
        "off",
        "one log line per attempt: `off`, `failures` or `all`",
        "worker",
    ),
    Setting(
        "kafka_security",
        kinds.choice("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
        "plaintext",
        "the broker connection: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`",
    ),
    Setting(
        "kafka_sasl_mechanism",
        kinds.choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        "unset",
        "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`",
    ),
    Setting("kafka_sasl_username", kinds.text(r".+", "write a user name"), "unset", "user of the broker"),
    Setting("kafka_sasl_password_file", _PATH, "unset", "file that holds the password"),
    Setting("kafka_ca_file", _PATH, "the system's", "authorities for the broker's certificate"),
    Setting("kafka_cert_file", _PATH, "unset", "our certificate for the broker; needs `kafka_key_file`"),
    Setting("kafka_key_file", _PATH, "unset", "its key"),
)

#: Where the settings file is; a setting of its own kind, since it can't stand in that file.
SETTINGS_FILE: Final = Setting(
    "settings", _PATH, "unset", "TOML file with settings; keyword arguments and environment win"
)

#: Every accepted name -> its setting: with and without unit.
BY_NAME: Final[Mapping[str, Setting]] = {s.name: s for s in SETTINGS} | {s.attribute: s for s in SETTINGS}


def markdown_table() -> str:
    """All settings as a Markdown table, in the order of `SETTINGS`."""
    lines = ["| setting | default | used by | meaning |", "|---|---|---|---|"]
    for setting in (SETTINGS_FILE, *SETTINGS):
        lines.append(f"| `{setting.variable}` | {setting.default} | {setting.used_by} | {setting.meaning} |")
    return "\n".join(lines) + "\n"
