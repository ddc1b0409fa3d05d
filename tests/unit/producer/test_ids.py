"""Ids: as the standard says, and as a caller may choose them."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import InvalidEvent
from producer.ids import DELIVERY_NAMESPACE, check_event_id, delivery_ids, new_event_id

#: Bits of a UUID, counted from the last one, that version and variant take (RFC 9562 section 4).
FIXED_BITS = (76, 77, 78, 79, 62, 63)


@given(st.text(), st.lists(st.text(), max_size=3))
def test_a_delivery_id_is_the_uuid5_of_event_and_subscription(
    event_id: str, subscription_ids: list[str]
) -> None:
    namespace = uuid.UUID(DELIVERY_NAMESPACE)
    expected = [str(uuid.uuid5(namespace, f"{event_id}/{one}")) for one in subscription_ids]

    assert list(delivery_ids(event_id, subscription_ids)) == expected


def test_a_delivery_id_never_changes() -> None:
    subscription_id = "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"

    assert delivery_ids("order-7", [subscription_id]) == ("2bb12f81-743a-5570-80fe-f54fb0c457f9",)


def test_a_new_event_id_is_a_random_uuid() -> None:
    ids = [uuid.UUID(new_event_id()) for _ in range(100)]

    assert {(one.version, one.variant) for one in ids} == {(4, uuid.RFC_4122)}
    assert len(set(ids)) == 100
    # And no bit stands still but those that say version and variant
    assert all(len({one.int >> bit & 1 for one in ids}) == 2 for bit in range(128) if bit not in FIXED_BITS)


@pytest.mark.parametrize("good", ["a", "order-7", "A_b-9", "x" * 128])
def test_an_id_of_letters_digits_dash_and_underscore_is_fine(good: str) -> None:
    assert check_event_id(good) == good


@pytest.mark.parametrize("bad", ["", "a b", "a.b", "a/b", "é", "x" * 129, "a\n", 7, None])
def test_any_other_is_refused(bad: object) -> None:
    with pytest.raises(InvalidEvent, match="1 to 128 characters"):
        check_event_id(bad)
