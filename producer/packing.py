"""Record values put together from pieces that were packed before: the bytes of `wire.encode_batch`, sooner.

A msgpack map is a header and then its items, one after the other, so items packed apart can be joined. Most
of what stands in a delivery is the same for all deliveries of one event, or of one subscription; new for each
delivery is its id, and the index of its body among the bodies of its record.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgpack

from producer.wire import VERSION, in_records

#: A delivery, all but packed: header of the map and key of the id, id, items of the event, items of the
#: subscription and key of the body, the body itself (in its place goes an index), items behind it.
Parcel: TypeAlias = tuple[bytes, bytes, bytes, bytes, bytes, bytes]

#: Most items of a map whose header is one byte (msgpack's "fixmap").
_FIXMAP_ITEMS: Final = 15


def packed_items(fields: Mapping[str, Any]) -> bytes:
    """The items of a small map without its header, as they stand in a larger map."""
    assert len(fields) <= _FIXMAP_ITEMS
    packed: bytes = msgpack.packb(fields)
    return packed[1:]


def map_header(items: int) -> bytes:
    """What a map of so many items begins with."""
    header: bytes = msgpack.Packer().pack_map_header(items)
    return header


@lru_cache(maxsize=128)
def _list_header(items: int) -> bytes:
    header: bytes = msgpack.Packer().pack_array_header(items)
    return header


@lru_cache(maxsize=128)
def _packed_index(number: int) -> bytes:
    packed: bytes = msgpack.packb(number)
    return packed


_BEFORE_BODIES: Final = map_header(3) + packed_items({"v": VERSION}) + msgpack.packb("bodies")
_BEFORE_DELIVERIES: Final = msgpack.packb("deliveries")


def join_batch(parcels: Sequence[Parcel]) -> bytes:
    """One record value for these deliveries, equal bodies stored once."""
    indexes: dict[bytes, bytes] = {}
    maps: list[bytes] = []
    for beginning, delivery_id, event, subscription, body, end in parcels:
        index = indexes.get(body)
        if index is None:
            index = indexes[body] = _packed_index(len(indexes))
        maps += (beginning, delivery_id, event, subscription, index, end)
    bodies = msgpack.packb(list(indexes))
    return b"".join((_BEFORE_BODIES, bodies, _BEFORE_DELIVERIES, _list_header(len(parcels)), *maps))


def join_batches(parcels: Sequence[Parcel], chunk_size: int) -> list[tuple[int, bytes]]:
    """As `wire.encode_batches`: record values in order, each with the number of deliveries it carries."""
    return in_records(parcels, chunk_size, join_batch)
