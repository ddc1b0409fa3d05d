"""Data -> body bytes: Thorn's JSON, forms, and bytes as they are."""

import json
from collections import UserString, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs, parse_qsl
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.encoding import encode
from producer.errors import PayloadError
from producer.model import FORM, JSON

_ID = UUID("0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10")
_CET = timezone(timedelta(hours=1))


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "data, body",
    [
        ({"id": 7, "tags": ["a", "b"]}, b'{"id": 7, "tags": ["a", "b"]}'),
        ("\u20ac", b'"\\u20ac"'),
        (None, b"null"),
        ([], b"[]"),
        (1.5, b"1.5"),
        ({1: True, None: 2.5, 0.5: None}, b'{"1": true, "null": 2.5, "0.5": null}'),
        (("a", 1), b'["a", 1]'),
        (Colour.RED, b'"red"'),
        (datetime(2024, 1, 2, 3, 4, 5, 678, UTC), b'"2024-01-02T03:04:05.000678Z"'),
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=_CET), b'"2024-01-02T03:04:05+01:00"'),
        (datetime(2024, 1, 2, 3, 4, 5), b'"2024-01-02T03:04:05"'),
        (date(2024, 1, 2), b'"2024-01-02T00:00:00"'),
        (time(3, 4, 5), b'"03:04:05"'),
        (Decimal("1.10"), b'"1.10"'),
        (_ID, b'"0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"'),
        (UserString("later"), b'"later"'),
        ([{"at": {"day": date(2024, 1, 2)}}], b'[{"at": {"day": "2024-01-02T00:00:00"}}]'),
    ],
)
def test_json_is_written_as_thorn_wrote_it(data: object, body: bytes) -> None:
    assert encode(data, JSON) == body


def test_text_that_a_framework_translates_late_is_text() -> None:
    promise = type("Promise", (), {"__module__": "django.utils.functional"})
    lazy = type(
        "__proxy__",
        (promise,),
        {"__str__": lambda self: "Guten Tag", "__module__": "django.utils.functional"},
    )

    assert encode({"greeting": lazy()}, JSON) == b'{"greeting": "Guten Tag"}'
    with pytest.raises(PayloadError):
        encode(type("Promise", (), {"__module__": "promise"})(), JSON)


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    return cycle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "data, why",
    [
        ({"order": {"lines": [1, {2}]}}, r"data\['order'\]\['lines'\]\[1\] is of type set"),
        (object(), "data is of type object"),
        ({"a": b"x"}, r"data\['a'\] is of type bytes"),
        ({"a": timedelta(1)}, "timedelta"),
        (iter([1]), "iterator"),
        ({"a": float("nan")}, r"data\['a'\] is nan"),
        ([float("inf")], r"data\[0\] is inf"),
        ({"a": {(1, 2): 3}}, r"data\['a'\] has a key of type tuple"),
        ({_ID: 1}, "key of type UUID"),
        ({float("nan"): 1}, "key of type float"),
        (_cycle(), "contains itself"),
        ([10**5000], "too many digits"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(data: object, why: str) -> None:
    with pytest.raises(PayloadError, match=why) as refusal:
        encode(data, JSON)

    assert isinstance(refusal.value, TypeError)


def test_endless_nesting_is_refused() -> None:
    deep = _deep()
    with pytest.raises(PayloadError, match="nested too deeply"):
        encode(deep, JSON)
    while deep:  # taken apart by hand: the interpreter's own way down is as deep
        deep = deep.pop()


@pytest.mark.parametrize(
    "data, body",
    [
        ({"a": "1 & 2", "b": 2}, b"a=1+%26+2&b=2"),
        ({"tag": ["x", "y"], "n": (1, None)}, b"tag=x&tag=y&n=1&n="),
        ({"none": None, "yes": True, "no": False, "f": 1.5}, b"none=&yes=true&no=false&f=1.5"),
        ({"\u00e4": "\u20ac"}, b"%C3%A4=%E2%82%AC"),
        (
            {"at": datetime(2024, 1, 2, tzinfo=UTC), "id": _ID},
            b"at=2024-01-02T00%3A00%3A00Z&id=" + str(_ID).encode(),
        ),
        ({"sum": Decimal("1.10"), 7: Colour.RED}, b"sum=1.10&7=red"),
        ({"empty": []}, b""),
        ({}, b""),
    ],
)
def test_forms_carry_scalars_and_repeat_the_keys_of_lists(data: object, body: bytes) -> None:
    assert encode(data, FORM) == body


@pytest.mark.parametrize(
    "data, why",
    [
        ([("a", 1)], "not from list"),
        ("a=1", "not from str"),
        (None, "not from NoneType"),
        ({"a": {"b": 1}}, r"data\['a'\] holds a dict"),
        ({"a": [[1]]}, r"data\['a'\] holds a list"),
        ({"a": {1}}, "holds a set"),
        ({"a": b"x"}, "holds a bytes"),
        ({"a": float("inf")}, "inf"),
        ({"a": "\ud800"}, "surrogate"),
        ({None: 1}, "key None"),
        ({(1,): 1}, "tuple"),
        ({"a": 10**5000}, "too many digits"),
    ],
)
def test_what_is_no_form_is_refused(data: object, why: str) -> None:
    with pytest.raises(PayloadError, match=why):
        encode(data, FORM)


@pytest.mark.parametrize("content_type", [JSON, FORM, "application/octet-stream"])
@pytest.mark.parametrize("data", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_go_out_untouched_whatever_the_type(data: object, content_type: str) -> None:
    body = encode(data, content_type)

    assert body == b"\x00\xff"
    assert type(body) is bytes


def test_other_types_have_no_encoding() -> None:
    with pytest.raises(PayloadError, match="'text/xml' has no encoding"):
        encode({}, "text/xml")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(_JSON)
def test_json_can_be_read_back(data: object) -> None:
    body = encode(data, JSON)

    assert body.isascii()
    assert json.loads(body) == data


_WORDS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(_WORDS, st.lists(_WORDS, min_size=1, max_size=3)))
def test_forms_can_be_read_back(data: dict[str, list[str]]) -> None:
    body = encode(data, FORM).decode("ascii")

    assert parse_qs(body, keep_blank_values=True, strict_parsing=bool(data)) == data
    assert len(parse_qsl(body, keep_blank_values=True)) == sum(map(len, data.values()))


def test_a_named_tuple_is_a_list_in_json() -> None:
    point = namedtuple("point", "x y")

    assert encode(point(1, 2), JSON) == b"[1, 2]"


@pytest.mark.parametrize("good", ["\U0001f600", "\\ud800 as text", "caf\u00e9"])
def test_pairs_of_surrogates_and_what_only_looks_like_halves_are_fine(good: str) -> None:
    assert json.loads(encode({"text": good}, JSON)) == {"text": good}


@pytest.mark.parametrize("bad", ["\ud800", "a\udcffb"])
def test_half_of_a_surrogate_pair_is_refused(bad: str) -> None:
    with pytest.raises(PayloadError, match="half of a surrogate pair"):
        encode({"text": [bad]}, JSON)
