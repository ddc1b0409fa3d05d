"""Batch and Command <-> the msgpack value of one log record. Versioned, pure, the same for every log.

A record is a map with ``v`` = 1. A batch has ``bodies`` (list of bin, each stored once) and ``deliveries``
(list of maps that name their body by index); a command has ``kind: command``. Unknown keys of a delivery are
kept in `Delivery.extra` and travel on. A writer emits the lowest ``v`` that can say it. Golden files under
`tests/golden/` hold the format.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgpack

from producer.errors import BodyTooLarge, MalformedRecord, UnsupportedRecord
from producer.model import NOTHING, Batch, Command, Delivery

#: Version that this release writes, and the highest that it reads.
VERSION: Final = 1

#: Largest value of one record. Kafka's default limit is 1 MiB for a whole request, headers and framing
#: included.
MAX_RECORD_BYTES: Final = 900_000

#: Attempts that a delivery may bring along; more could not be counted on within a 64-bit row for ever.
MAX_ATTEMPTS: Final = 2**31

#: Operations that a command may ask for.
OPERATIONS: Final = frozenset({"retry", "cancel", "enable", "disable"})

T = TypeVar("T")

_REQUIRED: Final = (("id", str), ("event", str), ("event_id", str), ("sub", str), ("url", str), ("type", str))
_NUMBERS: Final = ("timeout_s", "expires_at", "first_at", "not_before")
_KNOWN: Final = frozenset(
    [name for name, _ in _REQUIRED] + [*_NUMBERS, "at", "body", "lookup", "ordered", "headers", "attempts"]
)


def delivery_map(delivery: Delivery, body: int | bytes) -> dict[str, Any]:
    """The map of one delivery.

    `body` is an index into ``bodies``, or the bytes themselves in a stored row.
    """
    fields: dict[str, Any] = {
        **delivery.extra,
        "id": delivery.id,
        "event": delivery.event,
        "event_id": delivery.event_id,
        "at": delivery.at,
        "sub": delivery.sub,
        "url": delivery.url,
        "type": delivery.type,
        "body": body,
    }
    if delivery.lookup:
        fields["lookup"] = True
    if delivery.ordered:
        fields["ordered"] = True
    if delivery.headers:
        fields["headers"] = dict(delivery.headers)
    if delivery.attempts:
        fields["attempts"] = delivery.attempts
    for name in _NUMBERS:
        value = getattr(delivery, name)
        if value is not None:
            fields[name] = value
    return fields


def encode_batch(deliveries: Sequence[Delivery]) -> bytes:
    """One record value for these deliveries, equal bodies stored once."""
    bodies: dict[bytes, int] = {}
    maps = [delivery_map(d, bodies.setdefault(d.body, len(bodies))) for d in deliveries]
    packed: bytes = msgpack.packb({"v": VERSION, "bodies": list(bodies), "deliveries": maps})
    return packed


def encode_batches(deliveries: Sequence[Delivery], chunk_size: int) -> list[tuple[int, bytes]]:
    """Record values for these deliveries in order, each with the number of deliveries it carries.

    A value holds at most `chunk_size` deliveries and `MAX_RECORD_BYTES`. Raises `BodyTooLarge` if a single
    delivery can't fit into a record of its own.
    """
    return in_records(deliveries, chunk_size, encode_batch)


def in_records(
    entries: Sequence[T], chunk_size: int, encode: Callable[[Sequence[T]], bytes]
) -> list[tuple[int, bytes]]:
    """As `encode_batches`, for whatever `encode` makes one record value of."""
    values: list[tuple[int, bytes]] = []
    for start in range(0, len(entries), chunk_size):
        values += _fitting(entries[start : start + chunk_size], encode)
    return values


def _fitting(chunk: Sequence[T], encode: Callable[[Sequence[T]], bytes]) -> list[tuple[int, bytes]]:
    value = encode(chunk)
    if len(value) <= MAX_RECORD_BYTES:
        return [(len(chunk), value)]
    if len(chunk) == 1:
        raise BodyTooLarge(
            f"a delivery makes a record of {len(value)} bytes; a record holds at most {MAX_RECORD_BYTES}: "
            "send a reference to the data instead of the data"
        )
    middle = len(chunk) // 2
    return _fitting(chunk[:middle], encode) + _fitting(chunk[middle:], encode)


def encode_command(command: Command) -> bytes:
    """The record value of a command."""
    fields: dict[str, Any] = {"v": VERSION, "kind": "command", "op": command.op, "at": command.at}
    for name in ("ids", "subs", "hosts"):
        values = getattr(command, name)
        if values:
            fields[name] = list(values)
    packed: bytes = msgpack.packb(fields)
    return packed


def decode(value: bytes) -> Batch | Command:
    """Read one record value whole. An empty batch is fine: it is complete when read.

    Raises `UnsupportedRecord` for a higher version or an unknown kind, `MalformedRecord` for anything else
    that is wrong.
    """
    try:
        fields = msgpack.unpackb(value, strict_map_key=False)
    except Exception as error:  # its C core raises what it meets: ValueError, UnicodeDecodeError, TypeError
        raise MalformedRecord(f"not msgpack: {type(error).__name__}") from error
    if not isinstance(fields, dict):
        raise MalformedRecord(f"a record is a map, this is a {type(fields).__name__}")
    version = fields.get("v")
    if type(version) is not int or version < 1:
        raise MalformedRecord(f"a record says its version in 'v', this one says {version!r:.40}")
    if version > VERSION:
        raise UnsupportedRecord(f"version {version} is newer than {VERSION}, the highest this release reads")
    kind = fields.get("kind", "batch")
    if kind == "command":
        return _command(fields)
    if kind != "batch":
        raise UnsupportedRecord(f"kind {kind!r:.40} is unknown to this release")
    return _batch(fields)


def _batch(fields: Mapping[str, Any]) -> Batch:
    bodies, maps = fields.get("bodies"), fields.get("deliveries")
    if not isinstance(bodies, list) or not isinstance(maps, list):
        raise MalformedRecord("a batch has the lists 'bodies' and 'deliveries'")
    for body in bodies:
        if type(body) is not bytes:
            raise MalformedRecord(f"a body is binary, this one is a {type(body).__name__}")
    return Batch(tuple(_with_body(entry, bodies) for entry in maps))


def _with_body(entry: object, bodies: Sequence[bytes]) -> Delivery:
    if not isinstance(entry, dict):
        raise MalformedRecord(f"a delivery is a map, this is a {type(entry).__name__}")
    index = entry.get("body")
    if type(index) is not int or not 0 <= index < len(bodies):
        raise MalformedRecord(f"'body' {index!r:.40} is not an index into {len(bodies)} bodies")
    return delivery_of(entry, bodies[index])


def delivery_of(fields: Mapping[str, Any], body: bytes) -> Delivery:
    """The delivery that a map (of a record or of a stored row) describes. Raises `MalformedRecord`."""
    for name, kind in _REQUIRED:
        if type(fields.get(name)) is not kind or not fields[name]:
            raise MalformedRecord(
                f"delivery field {name!r} must be a non-empty text, is {fields.get(name)!r:.40}"
            )
    for name in ("at", *_NUMBERS):
        number = fields.get(name)
        if not _is_number(number) and (number is not None or name == "at"):
            raise MalformedRecord(f"delivery field {name!r} must be a finite number, is {number!r:.40}")
    attempts = fields.get("attempts", 0)
    if type(attempts) is not int or not 0 <= attempts <= MAX_ATTEMPTS:
        raise MalformedRecord(f"delivery field 'attempts' must be 0 to {MAX_ATTEMPTS}, is {attempts!r:.40}")
    headers = fields.get("headers", NOTHING)
    if headers is not NOTHING and not _is_text_map(headers):
        raise MalformedRecord("delivery field 'headers' must map texts to texts")
    extra = NOTHING
    if not _KNOWN.issuperset(fields):
        extra = {name: value for name, value in fields.items() if name not in _KNOWN}
    return Delivery(
        id=fields["id"],
        event=fields["event"],
        event_id=fields["event_id"],
        at=fields["at"],
        sub=fields["sub"],
        url=fields["url"],
        type=fields["type"],
        body=body,
        lookup=fields.get("lookup") is True,
        ordered=fields.get("ordered") is True,
        headers=headers,
        timeout_s=fields.get("timeout_s"),
        expires_at=fields.get("expires_at"),
        attempts=attempts,
        first_at=fields.get("first_at"),
        not_before=fields.get("not_before"),
        extra=extra,
    )


def _is_number(value: object) -> bool:
    return (type(value) is float or type(value) is int) and -1e18 < value < 1e18  # also refuses nan and inf


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(type(k) is str and type(v) is str for k, v in value.items())


def _command(fields: Mapping[str, Any]) -> Command:
    op, at = fields.get("op"), fields.get("at", 0.0)
    if type(op) is not str or not _is_number(at):
        raise MalformedRecord("a command has an operation 'op' and an instant 'at'")
    if op not in OPERATIONS:
        raise UnsupportedRecord(f"command {op!r:.40} is unknown to this release")
    return Command(
        op=op, at=at, ids=_texts(fields, "ids"), subs=_texts(fields, "subs"), hosts=_texts(fields, "hosts")
    )


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = fields.get(name, [])
    if not isinstance(values, list) or not all(type(value) is str for value in values):
        raise MalformedRecord(f"command field {name!r} must be a list of texts")
    return tuple(values)
