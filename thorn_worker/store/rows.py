"""Rows of the store as bytes: msgpack maps with ``v`` = 1. The same bytes stand in every kind of store.

A delivery's map has the keys that it has on the wire, but ``body`` holds the bytes themselves; keys that this
release does not know travel on unchanged. A row says its whole life, so it can be read without its key.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgpack

from producer.errors import MalformedRecord
from producer.model import Delivery, Life
from thorn_worker.outcome import Attempt, Death, Outcome, Phase
from thorn_worker.store.contract import HISTORY, DeadLetter, EndpointState, Pending
from thorn_worker.store.fields import Fields

#: The version that this release writes, and the highest that it reads.
VERSION: Final = 1
#: Largest dead letter; what is larger is cut to `CUT_BYTES` of its body or raw value.
MAX_ROW_BYTES: Final = 2 * 1024 * 1024
CUT_BYTES: Final = 512 * 1024

_NUMBER: Final = (int, float)
#: Key -> types of what every delivery has.
_REQUIRED: Final[Mapping[str, tuple[type, ...]]] = {
    "id": (str,),
    "event": (str,),
    "event_id": (str,),
    "at": _NUMBER,
    "sub": (str,),
    "url": (str,),
    "type": (str,),
    "body": (bytes,),
}
#: Key -> (types, the value that is not written).
_OPTIONAL: Final[Mapping[str, tuple[tuple[type, ...], object]]] = {
    "lookup": ((bool,), False),
    "ordered": ((bool,), False),
    "headers": ((dict,), {}),
    "timeout_s": (_NUMBER, None),
    "expires_at": (_NUMBER, None),
    "attempts": ((int,), 0),
    "first_at": (_NUMBER, None),
    "not_before": (_NUMBER, None),
}


def pending_key(life: Life) -> bytes:
    """Key of a Pending in the state topic; the partition is that of the message.

    >>> pending_key(Life("t1", 3, 7, 0))
    b'p/t1/7/0'
    """
    return f"p/{life.topic_id}/{life.offset}/{life.index}".encode()


def life_of_key(key: bytes, partition: int) -> Life:
    """The life that `pending_key` was made of. Raises `MalformedRecord`.

    >>> life_of_key(b'p/t1/7/0', 3)
    Life(topic_id='t1', partition=3, offset=7, index=0)
    """
    try:
        kind, topic_id, offset, index = key.decode().split("/")
        if kind == "p":
            return Life(topic_id, partition, int(offset), int(index))
    except ValueError as error:
        raise MalformedRecord(
            f"{key!r} is no key of a pending delivery: p/<topic id>/<offset>/<index>"
        ) from error
    raise MalformedRecord(f"{key!r} is no key of a pending delivery: it begins with p/")


def endpoint_key(sub: str) -> bytes:
    """Key of an EndpointState in the state topic."""
    return f"e/{sub}".encode()


def host_key(host: str) -> bytes:
    """Key of a host's state in the state topic."""
    return f"h/{host}".encode()


def letter_id(letter: DeadLetter) -> str:
    """What lists show as a dead letter's id: its delivery's, or ``raw/<partition>.<offset>``."""
    if letter.delivery is not None:
        return letter.delivery.id
    return f"raw/{letter.life.partition}.{letter.life.offset}"


def letter_key(letter: DeadLetter) -> bytes:
    """Key in the dead-letter topic: ``<delivery id>/<partition>.<offset>.<index>`` or
    ``raw/<partition>.<offset>``."""
    if letter.delivery is None:
        return letter_id(letter).encode()
    life = letter.life
    return f"{letter.delivery.id}/{life.partition}.{life.offset}.{life.index}".encode()


def encode_pending(row: Pending) -> bytes:
    """A Pending as bytes."""
    return _pack(
        {
            "v": VERSION,
            "life": list(row.life),
            "host": row.host,
            "delivery": _delivery_map(row.delivery),
            "appended_at": row.appended_at,
            "due_at": row.due_at,
            "reason": row.reason,
            "history": _history_list(row.history),
        }
    )


def decode_pending(value: bytes) -> Pending:
    """The Pending in `value`. Raises `MalformedRecord` or `UnsupportedRecord`."""
    fields = Fields.of_row(value, VERSION)
    return Pending(
        life=_life(fields),
        host=fields.text("host"),
        delivery=_delivery(fields.map("delivery")),
        appended_at=fields.number("appended_at"),
        due_at=fields.maybe_number("due_at"),
        reason=fields.text("reason"),
        history=_history(fields),
    )


def encode_letter(letter: DeadLetter) -> bytes:
    """A DeadLetter as bytes, at most `MAX_ROW_BYTES`.

    What is larger is cut to the first `CUT_BYTES` of its raw value or body; ``raw_bytes`` and ``raw_sha256``
    then describe the whole, so a letter with a delivery and ``raw_bytes`` above 0 can't be replayed.
    """
    packed = _pack(_letter_map(letter))
    if len(packed) <= MAX_ROW_BYTES:
        return packed
    return _pack(_letter_map(cut(letter)))


def cut(letter: DeadLetter) -> DeadLetter:
    """`letter` with at most `CUT_BYTES` of its raw value or body, and the whole's length and hash."""
    whole = letter.raw if letter.delivery is None else letter.delivery.body
    if whole is None or len(whole) <= CUT_BYTES:
        return letter
    if not letter.raw_bytes:
        letter = replace(letter, raw_bytes=len(whole), raw_sha256=hashlib.sha256(whole).hexdigest())
    if letter.delivery is None:
        return replace(letter, raw=whole[:CUT_BYTES])
    return replace(letter, delivery=replace(letter.delivery, body=whole[:CUT_BYTES]))


def decode_letter(value: bytes) -> DeadLetter:
    """The DeadLetter in `value`. Raises `MalformedRecord` or `UnsupportedRecord`."""
    fields = Fields.of_row(value, VERSION)
    delivery = fields.take("delivery", dict, type(None))
    raw = fields.take("raw", bytes, type(None))
    return DeadLetter(
        life=_life(fields),
        host=fields.text("host"),
        delivery=None if delivery is None else _delivery(Fields(delivery)),
        appended_at=fields.number("appended_at"),
        died_at=fields.number("died_at"),
        reason=fields.word("reason", Death),
        history=_history(fields),
        raw=raw,
        raw_bytes=fields.take("raw_bytes", int),
        raw_sha256=fields.text("raw_sha256"),
        error=fields.text("error"),
    )


def encode_endpoint(state: EndpointState) -> bytes:
    """An EndpointState as bytes."""
    return _pack(
        {
            "v": VERSION,
            "sub": state.sub,
            "host": state.host,
            "disabled_at": state.disabled_at,
            "reason": state.reason,
            "failing_since": state.failing_since,
            "failures": state.failures,
            "command_offset": state.command_offset,
        }
    )


def decode_endpoint(value: bytes) -> EndpointState:
    """The EndpointState in `value`. Raises `MalformedRecord` or `UnsupportedRecord`."""
    fields = Fields.of_row(value, VERSION)
    return EndpointState(
        sub=fields.text("sub"),
        host=fields.text("host"),
        disabled_at=fields.maybe_number("disabled_at"),
        reason=fields.text("reason"),
        failing_since=fields.maybe_number("failing_since"),
        failures=fields.take("failures", int),
        command_offset=fields.take("command_offset", int),
    )


def _letter_map(letter: DeadLetter) -> dict[str, object]:
    return {
        "v": VERSION,
        "life": list(letter.life),
        "host": letter.host,
        "delivery": None if letter.delivery is None else _delivery_map(letter.delivery),
        "appended_at": letter.appended_at,
        "died_at": letter.died_at,
        "reason": str(letter.reason),
        "history": _history_list(letter.history),
        "raw": letter.raw,
        "raw_bytes": letter.raw_bytes,
        "raw_sha256": letter.raw_sha256,
        "error": letter.error,
    }


def _delivery_map(delivery: Delivery) -> dict[str, object]:
    packed = dict(delivery.extra)
    packed.update((key, getattr(delivery, key)) for key in _REQUIRED)
    for key, (_types, absent) in _OPTIONAL.items():
        value = getattr(delivery, key)
        if key == "headers":
            value = dict(value)
        if value != absent:
            packed[key] = value
    return packed


def _delivery(fields: Fields) -> Delivery:
    known: dict[str, Any] = {key: fields.take(key, *types) for key, types in _REQUIRED.items()}
    for key, (types, _absent) in _OPTIONAL.items():
        if fields.get(key) is not None:
            known[key] = fields.take(key, *types)
    extra = fields.beyond(_REQUIRED.keys() | _OPTIONAL.keys())
    return Delivery(**known, extra=extra)


def _history_list(history: Sequence[Attempt]) -> list[dict[str, object]]:
    """The last attempts; only the very last keeps what the receiver said, so that rows stay small."""
    kept = history[-HISTORY:]
    return [_attempt_map(attempt, with_excerpt=attempt is kept[-1]) for attempt in kept]


def _attempt_map(attempt: Attempt, *, with_excerpt: bool) -> dict[str, object]:
    return {
        "number": attempt.number,
        "started_at": attempt.started_at,
        "duration_s": attempt.duration_s,
        "outcome": str(attempt.outcome),
        "phase": str(attempt.phase),
        "status": attempt.status,
        "error": attempt.error,
        "retry_after_s": attempt.retry_after_s,
        "excerpt": attempt.excerpt if with_excerpt else b"",
    }


def _history(fields: Fields) -> tuple[Attempt, ...]:
    return tuple(_attempt(Fields.of_map(item)) for item in fields.take("history", list))


def _attempt(fields: Fields) -> Attempt:
    return Attempt(
        number=fields.take("number", int),
        started_at=fields.number("started_at"),
        duration_s=fields.number("duration_s"),
        outcome=fields.word("outcome", Outcome),
        phase=fields.word("phase", Phase),
        status=fields.take("status", int, type(None)),
        error=fields.take("error", str, type(None)),
        retry_after_s=fields.maybe_number("retry_after_s"),
        excerpt=fields.take("excerpt", bytes),
    )


def _life(fields: Fields) -> Life:
    parts = fields.take("life", list)
    match parts:
        case [str(topic_id), int(partition), int(offset), int(index)]:
            return Life(topic_id, partition, offset, index)
    raise MalformedRecord(f"life = {parts!r} is not [topic id, partition, offset, index]")


def _pack(mapping: dict[str, object]) -> bytes:
    packed: bytes = msgpack.packb(mapping)
    return packed
