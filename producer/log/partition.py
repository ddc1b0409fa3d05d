"""Key -> partition, as Kafka's Java client chooses it, so that every log and every client agrees."""

from functools import lru_cache
from typing import Final

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF

#: Hosts whose hash is remembered: a service talks to the same hosts over and over.
_REMEMBERED_KEYS: Final = 16_384


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of `data`, unsigned, with the seed that Kafka's clients use.

    >>> hex(murmur2(b"21"))
    '0xc5f4e8a8'
    """
    whole = len(data) & ~3
    state = _SEED ^ len(data)
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _WORD
        word = (word ^ word >> 24) * _MULTIPLIER & _WORD
        state = state * _MULTIPLIER & _WORD ^ word
    if whole < len(data):
        state = (state ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _WORD
    state = (state ^ state >> 13) * _MULTIPLIER & _WORD
    return state ^ state >> 15


@lru_cache(maxsize=_REMEMBERED_KEYS)
def _positive_hash(key: str) -> int:
    return murmur2(key.encode()) & 0x7FFFFFFF


def partition_of(key: str, partitions: int) -> int:
    """The partition, 0 … `partitions` - 1, of a record with this key."""
    return _positive_hash(key) % partitions
