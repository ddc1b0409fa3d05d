"""Records put together from packed pieces are those that the plain encoder writes, byte for byte."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import BodyTooLarge
from producer.model import FORM, JSON, NOTHING, Delivery, Subscription
from producer.packing import join_batch, join_batches
from producer.receipts import Accounts, Receipt
from producer.recipients import recipients_of
from producer.sending import Sending
from producer.wire import MAX_RECORD_BYTES, decode, encode_batch, encode_batches
from tests.support.sendings import sending

HOSTS = ("https://a.example", "https://b.example:8443")
HEADERS = {f"X-Field-{number}": "value" * number for number in range(20)}

uuids = st.uuids().map(str)
subscriptions = st.builds(
    Subscription,
    pattern=st.just("*"),
    url=st.builds(
        lambda host, length: f"{host}/{'p' * length}",
        st.sampled_from(HOSTS),
        st.sampled_from([0, 5, 12, 240, 2_000]),
    ),
    id=uuids,
    content_type=st.sampled_from([JSON, FORM]),
    hmac_secret=st.none() | st.just("secret"),
    ordered=st.booleans(),
    timeout_s=st.none() | st.floats(0.1, 60),
)
bodies = st.binary(max_size=300)
instants = st.floats(0, 4e9)


@st.composite
def sendings(draw: st.DrawFn) -> Sending:
    recipients = recipients_of(draw(st.lists(subscriptions, min_size=1, max_size=40)))
    ids = tuple(draw(st.lists(uuids, min_size=len(recipients.each), max_size=len(recipients.each))))
    event_id = draw(st.text("ab-_9", min_size=1, max_size=128))
    return Sending(
        event=draw(st.text("abc.", min_size=1, max_size=255)),
        event_id=event_id,
        at=draw(instants),
        bodies={JSON: draw(bodies), FORM: draw(bodies)},
        headers=draw(st.sampled_from([NOTHING, {"X-Tenant": "blue"}, HEADERS])),
        timeout_s=draw(st.none() | st.floats(0.1, 60)),
        expires_at=draw(st.none() | instants),
        recipients=recipients,
        ids=ids,
        receipt=Receipt(event_id, ids, Accounts()),
    )


@given(sendings())
def test_pieces_make_the_record_that_the_plain_encoder_writes(one: Sending) -> None:
    assert join_batch(one.parcels()) == encode_batch(one.deliveries)


@given(st.lists(sendings(), max_size=4), st.integers(1, 20))
def test_so_do_the_deliveries_of_several_sends_in_any_chunks(several: list[Sending], chunk_size: int) -> None:
    parcels = [parcel for one in several for parcel in one.parcels()]
    deliveries = [delivery for one in several for delivery in one.deliveries]

    assert join_batches(parcels, chunk_size) == encode_batches(deliveries, chunk_size)


@pytest.mark.parametrize("count", [1, 15, 16, 127, 128, 129, 300])
def test_so_do_records_of_many_bodies(count: int) -> None:
    several = [_one(body=b"%d" % number) for number in range(count)]

    joined = join_batch([parcel for one in several for parcel in one.parcels()])

    assert joined == encode_batch([delivery for one in several for delivery in one.deliveries])


def test_records_that_are_too_large_are_cut_alike() -> None:
    several = [_one(body=bytes([number]) * 300_000) for number in range(7)]
    parcels = [parcel for one in several for parcel in one.parcels()]

    joined = join_batches(parcels, chunk_size=5)

    assert joined == encode_batches([delivery for one in several for delivery in one.deliveries], 5)
    assert [count for count, _ in joined] == [2, 1, 2, 2]


def test_a_delivery_says_what_event_and_subscription_said() -> None:
    given = Subscription(
        pattern="*", url="https://a.example/x", id="s", content_type=FORM, hmac_secret="x", timeout_s=7.0
    )
    plain = replace_recipients(_one(), given)
    (delivery,) = plain.deliveries
    assert delivery == Delivery(
        id="d" * 36,
        event="order.created",
        event_id="e1",
        at=1_700_000_000.0,
        sub="s",
        url="https://a.example/x",
        type=FORM,
        body=b"a=1",
        lookup=True,
        timeout_s=7.0,
    )

    # And what the event says of itself wins
    (delivery,) = replace(plain, timeout_s=2.0, expires_at=9.0, headers={"X-A": "b"}).deliveries
    assert (delivery.timeout_s, delivery.expires_at, delivery.headers) == (2.0, 9.0, {"X-A": "b"})


@given(sendings(), st.data())
def test_a_part_keeps_the_order_of_the_subscriptions(one: Sending, data: st.DataObject) -> None:
    positions = data.draw(st.sets(st.integers(0, len(one.ids) - 1)))

    part = one.part(positions)

    assert part.deliveries == tuple(one.deliveries[position] for position in sorted(positions))
    assert sorted(position for _, of_host in part.recipients.by_host for position in of_host) == list(
        range(len(positions))
    )


def test_the_largest_body_fits_and_one_byte_more_does_not() -> None:
    around = len(join_batch(_one(body=b"x" * 800_000).parcels())) - 800_000
    largest = MAX_RECORD_BYTES - around
    _one(body=b"x" * largest).check_size()

    with pytest.raises(BodyTooLarge, match=r"'order.created' makes a record of 900001 bytes"):
        _one(body=b"x" * (largest + 1)).check_size()


def test_what_is_packed_can_be_read() -> None:
    one = _one()
    batch = decode(join_batch(one.parcels()))
    assert batch.deliveries == one.deliveries  # type: ignore[union-attr]


def _one(body: bytes = b"{}") -> Sending:
    return sending(Receipt("e1", ("d" * 36,), Accounts()), "https://a.example/hooks", body=body)


def replace_recipients(one: Sending, *subscriptions: Subscription) -> Sending:
    """The same event, owed to these."""
    return replace(one, recipients=recipients_of(subscriptions), bodies={JSON: b"{}", FORM: b"a=1"})
