"""The wire format: golden files, round trips, and everything that is not a record."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import BodyTooLarge, MalformedRecord, UnsupportedRecord, WireError
from producer.model import Batch, Command, Delivery
from producer.wire import MAX_RECORD_BYTES, decode, encode_batch, encode_batches, encode_command

GOLDEN = Path(__file__).parents[2] / "golden"

PLAIN = Delivery(
    id="9b2f0c1e-64a1-5d30-8f1a-1f0e7a1f9a01",
    event="order.created",
    event_id="evt_1",
    at=1_700_000_000.25,
    sub="0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10",
    url="https://example.com/hooks",
    type="application/json",
    body=b'{"id": 7}',
)
FULL = replace(
    PLAIN,
    id="9b2f0c1e-64a1-5d30-8f1a-1f0e7a1f9a02",
    url="https://shop.example.com:8443/in?token=1",
    lookup=True,
    ordered=True,
    headers={"X-Tenant": "blue"},
    timeout_s=2.5,
    expires_at=1_700_000_900.0,
    attempts=3,
    first_at=1_700_000_001.5,
    not_before=1_700_000_300.0,
    extra={"of a later release": [1, {"deep": None}]},
)
COMMAND = Command(
    op="cancel", ids=("a", "b"), subs=("s",), hosts=("https://example.com:443",), at=1_700_000_000.0
)

texts = st.text(min_size=1, max_size=20)
instants = st.floats(0, 4e9)
deliveries = st.builds(
    Delivery,
    id=texts,
    event=texts,
    event_id=texts,
    at=instants,
    sub=texts,
    url=texts,
    type=texts,
    body=st.binary(max_size=50),
    lookup=st.booleans(),
    ordered=st.booleans(),
    headers=st.dictionaries(texts, texts, max_size=2),
    timeout_s=st.none() | st.floats(0.1, 60),
    expires_at=st.none() | instants,
    attempts=st.integers(0, 9),
    first_at=st.none() | instants,
    not_before=st.none() | instants,
    extra=st.dictionaries(
        st.text(min_size=1).map(lambda name: "x-" + name), st.integers(0, 9) | texts, max_size=2
    ),
)


@pytest.mark.parametrize(
    "name, value",
    [
        ("deliveries_v1_plain", lambda: encode_batch([PLAIN])),
        (
            "deliveries_v1_shared_body",
            lambda: encode_batch([PLAIN, replace(PLAIN, id="x", body=b"two"), FULL]),
        ),
        ("deliveries_v1_command", lambda: encode_command(COMMAND)),
    ],
)
def test_the_golden_records_never_change(name: str, value: Any) -> None:
    golden = (GOLDEN / f"{name}.msgpack").read_bytes()

    assert value() == golden


def test_the_golden_records_are_read_back() -> None:
    shared = decode((GOLDEN / "deliveries_v1_shared_body.msgpack").read_bytes())
    command = decode((GOLDEN / "deliveries_v1_command.msgpack").read_bytes())

    assert shared == Batch((PLAIN, replace(PLAIN, id="x", body=b"two"), FULL))
    assert command == COMMAND


def test_a_body_that_several_deliveries_share_is_stored_once() -> None:
    big = replace(PLAIN, body=b"x" * 10_000)

    assert len(encode_batch([big] * 10)) < 14_000


@given(st.lists(deliveries, max_size=5))
def test_a_batch_survives_the_wire(batch: list[Delivery]) -> None:
    assert decode(encode_batch(batch)) == Batch(tuple(batch))


@given(st.binary(max_size=200))
def test_garbage_is_told_apart_and_never_raises_anything_else(value: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(value)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
shapes = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["v", "kind", "bodies", "deliveries", "op", "ids", "at"]), shapes))
def test_msgpack_of_any_shape_is_told_apart_too(fields: dict[str, object]) -> None:
    with contextlib.suppress(WireError):
        decode(msgpack.packb({"v": 1, **fields}))


def raw(**changes: object) -> bytes:
    entry = {
        "id": "d",
        "event": "e",
        "event_id": "i",
        "at": 1.0,
        "sub": "s",
        "url": "u",
        "type": "t",
        "body": 0,
    }
    entry.update(changes)
    packed: bytes = msgpack.packb({"v": 1, "bodies": [b"{}"], "deliveries": [entry]})
    return packed


@pytest.mark.parametrize(
    "value, names",
    [
        (b"\xc1garbage", "not msgpack"),
        (b"\x93\x01\x02", "not msgpack"),
        (msgpack.packb([1]), "a record is a map"),
        (msgpack.packb({"bodies": []}), "version"),
        (msgpack.packb({"v": True, "bodies": [], "deliveries": []}), "version"),
        (msgpack.packb({"v": 0, "bodies": [], "deliveries": []}), "version"),
        (msgpack.packb({"v": 1, "bodies": [], "deliveries": {}}), "lists"),
        (msgpack.packb({"v": 1, "bodies": ["text"], "deliveries": []}), "binary"),
        (msgpack.packb({"v": 1, "bodies": [], "deliveries": [7]}), "a delivery is a map"),
        (raw(body=1), "not an index"),
        (raw(body=-1), "not an index"),
        (raw(body=True), "not an index"),
        (raw(id=""), "'id'"),
        (raw(url=None), "'url'"),
        (raw(at="now"), "'at'"),
        (raw(at=float("nan")), "'at'"),
        (raw(timeout_s="5"), "'timeout_s'"),
        (raw(expires_at=float("inf")), "'expires_at'"),
        (raw(attempts=-1), "'attempts'"),
        (raw(attempts=2**64 - 1), "'attempts'"),
        (raw(headers={"a": 1}), "'headers'"),
        (msgpack.packb({"v": 1, "kind": "command", "op": 1}), "a command has"),
        (msgpack.packb({"v": 1, "kind": "command", "op": "retry", "ids": "abc"}), "'ids'"),
    ],
)
def test_what_is_wrong_is_named(value: bytes, names: str) -> None:
    with pytest.raises(MalformedRecord, match=names):
        decode(value)


@pytest.mark.parametrize(
    "fields",
    [
        {"v": 2, "bodies": [], "deliveries": []},
        {"v": 1, "kind": "poem"},
        {"v": 1, "kind": "command", "op": "explode"},
    ],
)
def test_what_only_a_newer_release_can_read_is_unsupported(fields: dict[str, object]) -> None:
    with pytest.raises(UnsupportedRecord):
        decode(msgpack.packb(fields))


def test_an_empty_batch_and_twice_the_same_id_are_fine() -> None:
    assert decode(encode_batch([])) == Batch(())
    assert decode(encode_batch([PLAIN, PLAIN])) == Batch((PLAIN, PLAIN))


def test_a_batch_is_cut_by_count() -> None:
    records = encode_batches([PLAIN] * 25, chunk_size=10)

    assert [count for count, _ in records] == [10, 10, 5]


def test_a_batch_is_cut_by_size_and_keeps_its_order() -> None:
    wide = [replace(PLAIN, id=f"d{n}", body=bytes([n]) * 300_000) for n in range(10)]

    records = encode_batches(wide, chunk_size=10)

    assert all(len(value) <= MAX_RECORD_BYTES for _, value in records)
    found = [delivery for _, value in records for delivery in decode(value).deliveries]  # type: ignore[union-attr]
    assert found == wide


def test_a_body_that_fits_into_no_record_is_refused() -> None:
    with pytest.raises(BodyTooLarge, match="900000"):
        encode_batches([replace(PLAIN, body=b"x" * MAX_RECORD_BYTES)], chunk_size=10)
