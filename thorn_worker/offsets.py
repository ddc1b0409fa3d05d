"""Which offsets of a partition are complete, and what of that is committed. Pure: no I/O, no clock.

The watermark is the lowest incomplete offset. Complete 5, 6, 8 and incomplete 7 -> commit 7; then 7 completes
-> commit 9.

What is complete above the watermark (the gap map) travels in the commit's metadata, so that a crash repeats
about one commit interval of work and not the whole window. Metadata is one line of at most 4,096 characters
(Kafka's default limit):

    1 <topic id> <state id> <gap> <partials>

gap: base64url without padding of a little-endian bit set; bit i says that offset ``watermark + i`` is
complete. partials: comma-separated ``<i>.<hex>``, the done positions of the incomplete record at ``watermark
+ i`` as a bit mask. ``-`` stands for an empty field.

    watermark 7, complete 8 and 10, of 9's three deliveries the first is done  ->  gap bits 1 and 3 = 0x0a,
    partials "2.1"
"""

from base64 import b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: Offsets from the watermark to the highest read, at most: a bit set of it always fits into commit metadata.
WINDOW_OFFSETS: Final = 16_384

#: Kafka's ``offset.metadata.max.bytes``, counted in characters.
MAX_METADATA_CHARACTERS: Final = 4_096

_FORMAT: Final = "1"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a commit's metadata says: the ids of both topics, and what is done above the watermark.

    complete: bit i: offset ``watermark + i``. partial: i -> mask of done positions.
    """

    topic_id: str = ""
    state_id: str = ""
    complete: int = 0
    partial: Mapping[int, int] = field(default_factory=dict)

    def encode(self) -> str:
        """The metadata line.

        Partials that do not fit are left out (their deliveries may then be repeated).
        """
        gap = self.complete.to_bytes((self.complete.bit_length() + 7) // 8, "little")
        bits = urlsafe_b64encode(gap).decode().rstrip("=")
        head = f"{_FORMAT} {self.topic_id or '-'} {self.state_id or '-'} {bits or '-'} "
        parts: list[str] = []
        room = MAX_METADATA_CHARACTERS - len(head)
        for index, mask in self.partial.items():
            part = f"{index}.{mask:x}"
            if len(part) + 1 > room:
                break
            parts.append(part)
            room -= len(part) + 1
        return head + (",".join(parts) or "-")


def decode(metadata: str) -> Progress:
    """The progress that a metadata line describes.

    Nothing done, if it is empty, foreign or of another format.

    Ignoring what can't be read is safe: the work is only repeated.
    """
    fields = metadata.split(" ")
    if len(fields) != 5 or fields[0] != _FORMAT:
        return Progress()
    _, topic_id, state_id, gap, partials = (text if text != "-" else "" for text in fields)
    try:
        complete = int.from_bytes(
            b64decode(gap + "=" * (-len(gap) % 4), altchars=b"-_", validate=True), "little"
        )
        pairs = (part.split(".") for part in partials.split(",") if part)
        partial = {int(index): int(mask, 16) for index, mask in pairs}
    except ValueError:
        return Progress(topic_id, state_id)
    return Progress(topic_id, state_id, complete, partial)


class Tracker:
    """Completion of one partition in one epoch.

    Records are announced with `read` in offset order; offsets may have holes (compaction, transaction
    markers), which count as complete. A record is complete when each of its positions is; one without
    positions is complete when read. All operations are O(1) amortised.
    """

    __slots__ = ("_highest", "_incomplete", "_order", "_restored", "_restored_base", "_sizes", "size_bytes")

    def __init__(self, committed: int, progress: Progress | None = None) -> None:
        self._highest = committed - 1
        self._incomplete: dict[int, int] = {}  # offset -> mask of positions not done
        self._sizes: dict[int, tuple[int, int]] = {}  # offset -> (number of positions, bytes)
        self._order: deque[int] = deque()  # offsets as read, complete ones dropped lazily from the left
        self._restored = progress or Progress()
        self._restored_base = committed
        self.size_bytes = 0

    @property
    def watermark(self) -> int:
        """The lowest incomplete offset; one past the highest read if all is complete."""
        order, incomplete = self._order, self._incomplete
        while order and order[0] not in incomplete:
            order.popleft()
        return order[0] if order else self._highest + 1

    @property
    def window(self) -> int:
        """Offsets from the watermark to the highest read, both included."""
        return self._highest + 1 - self.watermark

    @property
    def gap(self) -> int:
        """Offsets in the window that are complete, or were never there: what a commit's gap map tells."""
        return self.window - len(self._incomplete)

    @property
    def incomplete(self) -> int:
        """Number of records read and not complete."""
        return len(self._incomplete)

    def read(self, offset: int, positions: int, size_bytes: int = 0) -> int:
        """A record was read.

        Returns the mask of positions that an earlier owner already completed: skip those.

        `size_bytes` counts in `self.size_bytes` until the record is complete. Raises ValueError if offsets go
        backwards.
        """
        if offset <= self._highest:
            raise ValueError(f"offset {offset} was read after {self._highest}")
        self._highest = offset
        every = (1 << positions) - 1
        done = self._done_before(offset, every)
        if done != every:
            self._incomplete[offset] = every & ~done
            self._sizes[offset] = (positions, size_bytes)
            self._order.append(offset)
            self.size_bytes += size_bytes
        return done

    def _done_before(self, offset: int, every: int) -> int:
        index = offset - self._restored_base
        if self._restored.complete >> index & 1:
            return every
        return self._restored.partial.get(index, 0) & every

    def complete(self, offset: int, position: int) -> bool:
        """One position of a record is done; True if the record became complete by it.

        Done twice is done once.
        """
        left = self._incomplete.get(offset)
        if left is None:
            return False
        left &= ~(1 << position)
        if left:
            self._incomplete[offset] = left
            return False
        del self._incomplete[offset]
        self.size_bytes -= self._sizes.pop(offset)[1]
        return True

    def progress(self, topic_id: str = "", state_id: str = "") -> Progress:
        """What is done above the watermark; what a restored map says of offsets not read yet is kept."""
        watermark = self.watermark
        window = self._highest + 1 - watermark
        bits = bytearray(b"\xff") * (window // 8 + 1)  # an int would be copied whole for each bit
        partial: dict[int, int] = {}
        for offset in self._incomplete:
            index = offset - watermark
            bits[index >> 3] &= ~(1 << (index & 7))
            done = ((1 << self._sizes[offset][0]) - 1) & ~self._incomplete[offset]
            if done:
                partial[index] = done
        complete = int.from_bytes(bits, "little") & ((1 << window) - 1)
        return self._with_unread(Progress(topic_id, state_id, complete, partial), watermark)

    def _with_unread(self, progress: Progress, watermark: int) -> Progress:
        """Add what the restored map says beyond the highest offset read."""
        unread = self._highest + 1 - self._restored_base
        beyond = self._restored.complete >> unread
        later = {index: mask for index, mask in self._restored.partial.items() if index >= unread}
        if not beyond and not later:
            return progress
        shift = self._highest + 1 - watermark
        moved = {index - unread + shift: mask for index, mask in later.items()}
        return Progress(
            progress.topic_id,
            progress.state_id,
            progress.complete | beyond << shift,
            {**progress.partial, **moved},
        )
