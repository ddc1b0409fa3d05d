"""Ids: as the standard says, and as a caller may choose them."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import InvalidEvent
from producer.ids import DELIVERY_NAMESPACE, check_event_id, delivery_id


@given(st.text(), st.text())
def test_a_delivery_id_is_the_uuid5_of_event_and_subscription(event_id: str, subscription_id: str) -> None:
    expected = uuid.uuid5(uuid.UUID(DELIVERY_NAMESPACE), f"{event_id}/{subscription_id}")

    assert delivery_id(event_id, subscription_id) == str(expected)


def test_a_delivery_id_never_changes() -> None:
    subscription_id = "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"

    assert delivery_id("order-7", subscription_id) == "2bb12f81-743a-5570-80fe-f54fb0c457f9"


@pytest.mark.parametrize("good", ["a", "order-7", "A_b-9", "x" * 128])
def test_an_id_of_letters_digits_dash_and_underscore_is_fine(good: str) -> None:
    assert check_event_id(good) == good


@pytest.mark.parametrize("bad", ["", "a b", "a.b", "a/b", "é", "x" * 129, "a\n", 7, None])
def test_any_other_is_refused(bad: object) -> None:
    with pytest.raises(InvalidEvent, match="1 to 128 characters"):
        check_event_id(bad)
