"""Rows as bytes: they come back as they were, the golden files never change, and damage is named."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import MalformedRecord, UnsupportedRecord
from producer.model import Delivery, Life
from tests.support.deliveries import HOST, delivery, letter, pending
from thorn_worker.outcome import Attempt, Death, Outcome, Phase
from thorn_worker.store import rows
from thorn_worker.store.contract import HISTORY, DeadLetter, EndpointState, Pending

GOLDEN = Path(__file__).parents[2] / "golden"

text = st.text(max_size=20)
at = st.floats(0, 2e9, allow_nan=False)
maybe_at = st.none() | at
lives = st.builds(Life, text, st.integers(0, 99), st.integers(0, 2**40), st.integers(0, 99))
known = set(rows._REQUIRED) | set(rows._OPTIONAL)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | at | text | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
deliveries = st.builds(
    Delivery,
    id=text,
    event=text,
    event_id=text,
    at=at,
    sub=text,
    url=text,
    type=text,
    body=st.binary(max_size=50),
    lookup=st.booleans(),
    ordered=st.booleans(),
    headers=st.dictionaries(text, text, max_size=3),
    timeout_s=maybe_at,
    expires_at=maybe_at,
    attempts=st.integers(0, 99),
    first_at=maybe_at,
    not_before=maybe_at,
    extra=st.dictionaries(text.filter(lambda key: key not in known), plain, max_size=3),
)
attempts = st.builds(
    Attempt,
    number=st.integers(1, 99),
    started_at=at,
    duration_s=at,
    outcome=st.sampled_from(Outcome),
    phase=st.sampled_from(Phase),
    status=st.none() | st.integers(100, 599),
    error=st.none() | text,
    retry_after_s=maybe_at,
)
histories = st.lists(attempts, max_size=HISTORY).map(tuple)
pendings = st.builds(
    Pending,
    life=lives,
    host=text,
    delivery=deliveries,
    appended_at=at,
    due_at=maybe_at,
    reason=text,
    history=histories,
)
letters = st.builds(
    DeadLetter,
    life=lives,
    host=text,
    delivery=st.none() | deliveries,
    appended_at=at,
    died_at=at,
    reason=st.sampled_from(Death),
    history=histories,
    raw=st.none() | st.binary(max_size=50),
    raw_bytes=st.integers(0, 10**9),
    raw_sha256=text,
    error=text,
)
endpoints = st.builds(
    EndpointState,
    sub=text,
    host=text,
    disabled_at=maybe_at,
    reason=text,
    failing_since=maybe_at,
    failures=st.integers(0, 10**6),
    command_offset=st.integers(-1, 2**40),
)


@given(pendings)
def test_a_pending_comes_back_as_it_was(row: Pending) -> None:
    assert rows.decode_pending(rows.encode_pending(row)) == row


@given(letters)
def test_a_dead_letter_comes_back_as_it_was(dead: DeadLetter) -> None:
    assert rows.decode_letter(rows.encode_letter(dead)) == dead


@given(endpoints)
def test_an_endpoint_state_comes_back_as_it_was(state: EndpointState) -> None:
    assert rows.decode_endpoint(rows.encode_endpoint(state)) == state


ATTEMPT = Attempt(
    number=2,
    started_at=1_700_000_005.5,
    duration_s=0.25,
    outcome=Outcome.THROTTLED,
    phase=Phase.BODY,
    status=503,
    error="503 Service Unavailable",
    retry_after_s=30.0,
    excerpt=b"come back later",
)
PENDING = Pending(
    life=Life("0f8fad5bd9cb469fa16570867728950e", 3, 7, 1),
    host=HOST,
    delivery=delivery(
        "b4c1e0de-0c0e-5b0e-9d8e-1f2a3b4c5d6e",
        lookup=True,
        headers={"X-Tenant": "7"},
        timeout_s=5.0,
        expires_at=1_700_086_400.0,
        attempts=2,
        first_at=1_700_000_000.5,
        extra={"colour": "red"},
    ),
    appended_at=1_700_000_000.25,
    due_at=1_700_000_035.75,
    reason="throttled",
    history=(replace(ATTEMPT, number=1, status=None, outcome=Outcome.UNREACHABLE, excerpt=b""), ATTEMPT),
)
ENDPOINT = EndpointState(
    sub="0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10",
    host=HOST,
    disabled_at=1_700_000_100.0,
    reason="gone",
    failing_since=1_700_000_000.0,
    failures=3,
    command_offset=41,
)
DEAD = letter(PENDING.life, delivery=PENDING.delivery, history=PENDING.history, error="out of schedule")
RAW = DeadLetter(
    life=Life(PENDING.life.topic_id, 3, 9, 0),
    host="",
    delivery=None,
    appended_at=1_700_000_000.0,
    died_at=1_700_000_001.0,
    reason=Death.MALFORMED,
    raw=b"garbage",
    raw_bytes=7,
    raw_sha256=hashlib.sha256(b"garbage").hexdigest(),
    error="not msgpack",
)


@pytest.mark.parametrize(
    "name,written,read",
    [
        ("state_pending_v1.msgpack", rows.encode_pending(PENDING), (rows.decode_pending, PENDING)),
        ("state_endpoint_v1.msgpack", rows.encode_endpoint(ENDPOINT), (rows.decode_endpoint, ENDPOINT)),
        ("dead_delivery_v1.msgpack", rows.encode_letter(DEAD), (rows.decode_letter, DEAD)),
        ("dead_raw_v1.msgpack", rows.encode_letter(RAW), (rows.decode_letter, RAW)),
    ],
)
def test_golden_files_are_written_and_read_as_ever(
    name: str, written: bytes, read: tuple[Any, object]
) -> None:
    golden = (GOLDEN / name).read_bytes()
    assert written == golden
    decode, value = read
    assert decode(golden) == value


def changed(packed: bytes, **changes: object) -> bytes:
    fields = msgpack.unpackb(packed)
    fields.update(changes)
    value: bytes = msgpack.packb(fields)
    return value


def test_keys_that_a_later_release_adds_are_ignored_in_rows_and_carried_in_deliveries() -> None:
    assert rows.decode_pending(changed(rows.encode_pending(PENDING), later=1)) == PENDING
    assert rows.decode_pending(rows.encode_pending(PENDING)).delivery.extra == {"colour": "red"}


def test_a_higher_version_is_refused_as_such() -> None:
    with pytest.raises(UnsupportedRecord, match="v = 2"):
        rows.decode_pending(changed(rows.encode_pending(PENDING), v=2))


@pytest.mark.parametrize(
    "changes,named",
    [
        ({"v": 0}, "v = 0"),
        ({"v": True}, "v is bool"),
        ({"life": ["t", 1, 2]}, "life"),
        ({"life": ["t", 1, 2, "3"]}, "life"),
        ({"host": 3}, "host is int"),
        ({"due_at": "soon"}, "due_at is str"),
        ({"delivery": {}}, "id is NoneType"),
        ({"delivery": 7}, "int stands where a map"),
        ({"history": [{"number": 1}]}, "started_at"),
        ({"history": [7]}, "int stands where a map"),
    ],
)
def test_a_damaged_row_says_what_is_wrong_with_it(changes: dict[str, object], named: str) -> None:
    with pytest.raises(MalformedRecord, match=named):
        rows.decode_pending(changed(rows.encode_pending(PENDING), **changes))


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(MalformedRecord, match="reason = 'bored'"):
        rows.decode_letter(changed(rows.encode_letter(RAW), reason="bored"))


@given(st.binary(max_size=40))
def test_garbage_never_raises_anything_else(value: bytes) -> None:
    for decode in (rows.decode_pending, rows.decode_letter, rows.decode_endpoint):
        with pytest.raises((MalformedRecord, UnsupportedRecord)):
            decode(value)


def test_history_keeps_the_last_attempts_and_the_last_excerpt() -> None:
    long = tuple(replace(ATTEMPT, number=number) for number in range(1, HISTORY + 5))
    kept = rows.decode_pending(rows.encode_pending(replace(PENDING, history=long))).history
    assert [attempt.number for attempt in kept] == list(range(5, HISTORY + 5))
    assert [attempt.excerpt for attempt in kept] == [b""] * (HISTORY - 1) + [ATTEMPT.excerpt]


def test_a_letter_too_large_for_a_message_is_cut_and_says_what_it_was() -> None:
    whole = bytes(range(256)) * 16 * 1024  # 4 MiB
    raw = rows.decode_letter(rows.encode_letter(replace(RAW, raw=whole, raw_bytes=0, raw_sha256="")))
    body = rows.decode_letter(rows.encode_letter(replace(DEAD, delivery=delivery(body=whole))))

    assert raw.raw == whole[: rows.CUT_BYTES]
    assert body.delivery is not None
    assert body.delivery.body == whole[: rows.CUT_BYTES]
    for dead in (raw, body):
        assert (dead.raw_bytes, dead.raw_sha256) == (len(whole), hashlib.sha256(whole).hexdigest())


def test_a_letter_that_fits_is_not_cut() -> None:
    dead = replace(DEAD, delivery=delivery(body=b"x" * 900_000))
    assert rows.decode_letter(rows.encode_letter(dead)) == dead


def test_keys() -> None:
    life = pending("t1", 3, 7).life
    assert rows.pending_key(life) == b"p/t1/7/0"
    assert rows.life_of_key(b"p/t1/7/0", 3) == life
    assert rows.endpoint_key("s1") == b"e/s1"
    assert rows.host_key(HOST) == b"h/https://a.example:443"
    assert rows.letter_key(letter(life)) == b"d7.0/3.7.0"
    assert rows.letter_key(RAW) == b"raw/3.9"
    assert rows.letter_id(RAW) == "raw/3.9"


@pytest.mark.parametrize("key", [b"e/s1", b"p/t1/7", b"p/t1/x/0", b"\xff", b"q/t1/7/0"])
def test_what_is_no_key_of_a_pending_is_refused(key: bytes) -> None:
    with pytest.raises(MalformedRecord, match="no key of a pending"):
        rows.life_of_key(key, 3)
