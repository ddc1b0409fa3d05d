"""Keys choose partitions as with Kafka's Java client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.log.partition import murmur2, partition_of

#: From Kafka's own UtilsTest: the signed 32-bit results of Utils.murmur2.
PUBLISHED = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize("data,signed", PUBLISHED)
def test_murmur2_agrees_with_kafkas_published_values(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


@given(st.binary(max_size=64))
def test_murmur2_agrees_with_another_client(data: bytes) -> None:
    kafka = pytest.importorskip("kafka.partitioner.default")
    assert murmur2(data) & 0x7FFFFFFF == kafka.murmur2(data) & 0x7FFFFFFF


def test_a_partition_is_the_positive_hash_modulo_their_number() -> None:
    assert partition_of("21", 12) == (-973932308 & 0x7FFFFFFF) % 12
    assert partition_of("21", 1) == 0


@given(st.text(), st.integers(1, 1000))
def test_every_key_has_a_partition(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
