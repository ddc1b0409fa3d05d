"""Writes of the Kafka store on their way to the topics.

A write waits, not yet encoded, while too much is unacknowledged, and while it is uncertain whether its
partition is still ours: what is sent in that time may land behind the restore of its next owner.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import gevent
from gevent.event import Event

from producer.errors import LogError
from producer.log.kafka_options import MAX_MESSAGE_BYTES, KafkaOptions
from producer.log.kafka_sender import KafkaSender, Outgoing
from thorn_worker.logs import RateLimited
from thorn_worker.store.kafka_changes import Mark
from thorn_worker.store.kafka_hold import Burial, Write

#: Bytes that Kafka has not acknowledged, per worker.
OUTSTANDING_BYTES: Final = 8 * 1024 * 1024
#: So many may be outstanding when one more message is sent: it may be of the largest size.
_ROOM_BYTES: Final = OUTSTANDING_BYTES - MAX_MESSAGE_BYTES
#: What is held back is looked at again after this long.
LOOK_AGAIN_S: Final = 0.1
#: The sender is looked after this often.
CHECK_S: Final = 1.0

_log: Final = logging.getLogger("thorn_worker.store")

#: Called with what was sent and (offset, None) or (None, error); must not block.
OnSent = Callable[[Write | Burial, int | None, LogError | None], None]


class Outbox:
    """Sends what is put into it, in order.

    may_write: False while it is uncertain whether what is held is still ours. on_defect: called with what
    can't be encoded. `send_all` and `tend` are loops for greenlets of their own.
    """

    def __init__(
        self,
        options: KafkaOptions,
        sender: KafkaSender,
        writer: str,
        may_write: Callable[[], bool],
        on_sent: OnSent,
        on_defect: Callable[[Write | Burial], None],
    ) -> None:
        self._options = options
        self._sender = sender
        self._writer = writer
        self._may_write = may_write
        self._on_sent = on_sent
        self._on_defect = on_defect
        self._complaints = RateLimited(_log)
        self._waiting: deque[Write | Burial] = deque()
        self._more = Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Write | Burial) -> None:
        """Send it when its turn comes; returns at once."""
        self._waiting.append(item)
        self._more.set()

    def look_again(self) -> None:
        """Something was acknowledged: there may be room."""
        self._more.set()

    def send_all(self) -> None:
        """For ever: send what waits, as far as it may be sent."""
        while True:
            self._more.wait()
            self._more.clear()
            while self._waiting:
                if self._waiting[0].hold.alive and not self._has_room():
                    self._more.wait(LOOK_AGAIN_S)
                    self._more.clear()
                else:
                    self._send(self._waiting.popleft())

    def tend(self) -> None:
        """For ever: keep the sender alive."""
        while True:
            gevent.sleep(CHECK_S)
            try:
                self._sender.check()
            except LogError as error:
                self._complaints.warning("check", "the state can't be written just now: %s", error)

    def _has_room(self) -> bool:
        return self._sender.unacknowledged_bytes <= _ROOM_BYTES and self._may_write()

    def _send(self, item: Write | Burial) -> None:
        hold = item.hold
        if not hold.alive:
            return
        try:
            value = item.encode()
        except Exception:
            # It would fail for ever. Its caller never hears of it, so its offset stays incomplete.
            _log.critical("a write to the store can't be encoded: a defect, report it", exc_info=True)
            self._on_defect(item)
            return
        header = Mark(self._writer, hold.epoch, hold.written).header()
        topic, key = self._options.dead, item.key
        if isinstance(item, Burial):
            key = item.letter_key
        else:
            topic = self._options.state
            item.value, item.number, item.sent_at = value, hold.written, time.time()
            hold.written += 1
        message = Outgoing(topic, hold.partition, key, value, (header,))
        self._sender.send(message, partial(self._on_sent, item))
