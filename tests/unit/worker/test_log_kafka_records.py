"""Batches as a broker sends them -> records; damaged ones become one record that no decoder takes."""

import time
from collections.abc import Sequence

import pytest
from kafka import TopicPartition
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from producer.errors import MalformedRecord
from producer.wire import decode
from thorn_worker.log.contract import RawRecord
from thorn_worker.log.kafka_records import Records, Unreadable

LZ4 = 3
ZSTD = 4
EPOCH = 65_536

#: Places in a batch's header, from the protocol guide of Apache Kafka.
CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT = 17, 21, 23


def batch(first: int, values: Sequence[bytes | None], codec: int = 0) -> bytearray:
    """One batch with these values at the offsets from `first` on."""
    no_producer = {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1}
    builder = DefaultRecordBatchBuilder(2, codec, is_transactional=False, **no_producer, batch_size=10**6)
    for index, value in enumerate(values):
        assert builder.append(index, 1_700_000_000_500 + index, b"key" if value else None, value, [])
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8, "big")
    return data


def damaged(data: bytearray, at: int = -1) -> bytearray:
    data[at] ^= 0x01
    return data


class Fetched:
    """What a fetch from `offset` on brought."""

    def __init__(self, offset: int, *batches: bytearray) -> None:
        self.unreadable = Unreadable()
        records = MemoryRecords(bytes(b"".join(batches)))
        self.part = Records({1: EPOCH}, self.unreadable, offset, TopicPartition("t", 1), records)

    def take(self, count: int = 1000) -> list[RawRecord]:
        """As `poll` does it: until nothing is left."""
        found: list[RawRecord] = []
        while self.part and (some := self.part.take(count)):
            found += some
        return found

    @property
    def next_offset(self) -> int:
        """Where the next fetch begins."""
        return int(self.part.next_fetch_offset)


@pytest.mark.parametrize("codec", [0, LZ4])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_records_come_as_they_were_written(codec: int, count: int) -> None:
    fetched = Fetched(20, batch(20, [b"a", b"b", None], codec), batch(23, [b"c"], codec))
    records = fetched.take(count)
    assert [(record.offset, record.key, record.value) for record in records] == [
        (20, b"key", b"a"),
        (21, b"key", b"b"),
        (22, b"", None),
        (23, b"key", b"c"),
    ]
    assert records[0].appended_at == 1_700_000_000.5
    assert {(record.partition, record.epoch) for record in records} == {(1, EPOCH)}
    assert fetched.next_offset == 24
    assert not fetched.part


def test_a_fetch_may_begin_inside_of_a_batch() -> None:
    fetched = Fetched(21, batch(20, [b"a", b"b", b"c"], LZ4))
    assert [record.offset for record in fetched.take()] == [21, 22]


def test_rule_5_a_batch_with_a_wrong_checksum_becomes_one_record_that_says_so() -> None:
    # Given 3 good records, a damaged batch of 50, and 2 good records
    broken = damaged(batch(23, [b"x"] * 50, LZ4))
    fetched = Fetched(20, batch(20, [b"a"] * 3), broken, batch(73, [b"b"] * 2))

    # When all of it is taken
    records = fetched.take()

    # Then the good ones are there, and the damaged batch stands as one record at its first offset
    assert [record.offset for record in records] == [20, 21, 22, 23, 73, 74]
    stand_in = records[3]
    assert stand_in.value is not None
    assert stand_in.value.startswith(b"unreadable up to offset 72: CorruptRecordError")
    assert stand_in.value.endswith(bytes(broken))
    assert abs(stand_in.appended_at - time.time()) < 60
    with pytest.raises(MalformedRecord):
        decode(stand_in.value)
    assert (fetched.unreadable.batches, fetched.next_offset) == (1, 75)


def test_rule_5_a_batch_of_an_unknown_codec_becomes_one_record_that_says_so() -> None:
    data = batch(20, [b"a", b"b"], LZ4)
    data[ATTRIBUTES_AT + 1] = 7  # no codec has this number
    records = Fetched(20, resealed(data), batch(22, [b"c"])).take()
    assert [record.offset for record in records] == [20, 22]
    assert b"UnsupportedCodecError" in (records[0].value or b"")


def test_records_before_a_broken_one_are_kept() -> None:
    # Given a batch whose second record is garbage under a right checksum
    data = batch(20, [b"aaaa", b"bbbb", b"cccc"])
    at = data.index(b"bbbb") - 5
    data[at] = 0x7F
    records = Fetched(20, resealed(data), batch(23, [b"d"])).take()
    assert [record.offset for record in records] == [20, 21, 23]
    assert records[0].value == b"aaaa"
    assert (records[1].value or b"").startswith(b"unreadable up to offset 22: ")


def test_a_damaged_header_is_not_believed_and_skips_one_offset_only() -> None:
    # Given a batch of 3 whose header says 259, and a good one behind it
    data = damaged(batch(20, [b"a"] * 3), LAST_DELTA_AT + 2)
    fetched = Fetched(20, data, batch(23, [b"b"]))
    # When it is read, then only its first offset is skipped, and nothing behind it is read in this fetch
    assert [record.offset for record in fetched.take()] == [20]
    assert fetched.next_offset == 21
    # When the broker sends it again, then the next one, until its end is passed
    again = Fetched(22, damaged(batch(20, [b"a"] * 3), LAST_DELTA_AT + 2), batch(23, [b"b"]))
    assert [record.offset for record in again.take()] == [22]
    assert again.next_offset == 23
    assert [record.value for record in Fetched(23, batch(23, [b"b"])).take()] == [b"b"]


def test_a_batch_without_a_readable_header_skips_one_offset_only() -> None:
    fetched = Fetched(20, bytearray((20).to_bytes(8, "big") + (3).to_bytes(4, "big") + b"abc"))
    records = fetched.take()
    assert [record.offset for record in records] == [20]
    assert fetched.next_offset == 21


def resealed(data: bytearray) -> bytearray:
    """With the checksum that fits what it says now."""
    from kafka.record.util import calc_crc32c

    data[CRC_AT : CRC_AT + 4] = calc_crc32c(memoryview(data)[ATTRIBUTES_AT:]).to_bytes(4, "big")
    return data
