"""The URL that names a log: ``sqlite:///file`` or ``kafka://servers/prefix``."""

import os
import re
from dataclasses import dataclass
from typing import Final, Literal

from producer.errors import ConfigurationError

#: Longest prefix: a Kafka topic name has at most 249 characters, and our longest ending is ``.deliveries``.
MAX_PREFIX_LENGTH: Final = 249 - len(".deliveries")

_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})")
_PREFIX = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{MAX_PREFIX_LENGTH - 1}}}")


@dataclass(frozen=True, slots=True)
class LogUrl:
    """A log's place. kind decides which implementation opens it.

    path: absolute path of the SQLite file, None for Kafka. servers: ``host:port`` texts, empty for SQLite.
    prefix: first part of all topic names, empty for SQLite. text: the URL with the path made absolute.
    """

    kind: Literal["sqlite", "kafka"]
    path: str | None
    servers: tuple[str, ...]
    prefix: str
    text: str


def parse_log_url(text: str, folder: str | None = None) -> LogUrl:
    """Read a log URL; a relative SQLite path is taken from `folder` (the working folder if None).

    Raises `ConfigurationError`; user and password, if somebody put them in, are not shown.

    >>> parse_log_url("sqlite:///thorn.db", "/srv/app").text
    'sqlite:////srv/app/thorn.db'
    >>> parse_log_url("kafka://k1:9092,k2:9092/thorn").servers
    ('k1:9092', 'k2:9092')
    """
    kind, separator, rest = text.partition("://")
    if separator and kind == "sqlite":
        return _sqlite(text, rest, folder)
    if separator and kind == "kafka":
        return _kafka(text, rest)
    raise _refused(text, "it must be sqlite:///file.db or kafka://host:port/prefix")


def _sqlite(text: str, rest: str, folder: str | None) -> LogUrl:
    if not rest.startswith("/"):
        raise _refused(text, "write three slashes before a relative path, four before an absolute one")
    name = rest[1:]
    if not name or name.endswith("/") or name == ":memory:":
        raise _refused(text, "it must name a file, because several processes share the log")
    path = os.path.abspath(os.path.join(folder or os.getcwd(), name))
    if "?" in path or "\0" in path:
        raise _refused(text, "it takes no options, and no ? or NUL may stand in the path")
    return LogUrl("sqlite", path, (), "", f"sqlite:///{path}")


def _kafka(text: str, rest: str) -> LogUrl:
    listed, _, prefix = rest.partition("/")
    if "@" in rest:
        raise _refused(
            text,
            "user and password belong into the settings kafka_sasl_username and kafka_sasl_password_file",
        )
    servers = tuple(listed.split(","))
    for server in servers:
        found = _SERVER.fullmatch(server)
        if found is None or not 0 < int(found["port"]) <= 65535:
            raise _refused(text, f"the server {server!r} must be host:port with a port from 1 to 65535")
    if not _PREFIX.fullmatch(prefix):
        raise _refused(
            text,
            "behind the servers it needs /prefix, the first part of all topic names: "
            f"1 to {MAX_PREFIX_LENGTH} letters, digits, dots, hyphens and underscores",
        )
    return LogUrl("kafka", None, servers, prefix, text)


def _refused(text: str, why: str) -> ConfigurationError:
    hidden = re.sub(r"//.*@", "//\u2026@", text, flags=re.DOTALL)[:200]
    return ConfigurationError(f"The log {hidden!r} is refused: {why}.")
