"""A record as read -> lanes, store, or dead letters. Nothing that a record holds can stop its partition."""

import hashlib
import logging
from typing import Final

from producer.errors import SubscriptionError, UnsupportedRecord, WireError
from producer.hosts import host_of
from producer.model import Batch, Command, Delivery, Life
from producer.wire import decode
from thorn_worker.dispatcher import Dispatcher
from thorn_worker.log.contract import RawRecord
from thorn_worker.logs import RateLimited
from thorn_worker.orders import Orders
from thorn_worker.outcome import Death
from thorn_worker.parts import Parts
from thorn_worker.store.contract import NOT_BEFORE, DeadLetter
from thorn_worker.work import DELIVERY_BYTES, Home, Work

#: What may not start within this time goes to the store at once.
SOON_S: Final = 5.0

#: Bytes of an unreadable record that its dead letter keeps.
RAW_KEPT_BYTES: Final = 512 * 1024

_logger = logging.getLogger("thorn_worker.intake")


class Intake:
    """Takes records of owned partitions, in the order of their offsets."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher, orders: Orders) -> None:
        self._dispatcher = dispatcher
        self._orders = orders
        self._handover = parts.handover
        self._directory = parts.directory
        self._policy = parts.policy
        self._clock = parts.clock
        self._tally = parts.tally
        self._complaints = RateLimited(_logger)

    def take(self, home: Home, record: RawRecord) -> None:
        """Register one record with its tracker and see to each of its deliveries."""
        self._tally.records.value += 1
        if not record.value:
            home.tracker.read(record.offset, 0)  # a null or empty value carries nothing: complete when read
            return
        try:
            content = decode(record.value)
        except WireError as error:
            self._unreadable(home, record, record.value, error)
            return
        if isinstance(content, Command):
            if not home.tracker.read(record.offset, 1):
                self._orders.take(home, record.offset, content)
        else:
            self._batch(home, record, content)

    def _batch(self, home: Home, record: RawRecord, batch: Batch) -> None:
        deliveries = batch.deliveries
        bodies = {id(delivery.body): len(delivery.body) for delivery in deliveries}
        size_bytes = sum(bodies.values()) + DELIVERY_BYTES * len(deliveries)
        done = home.tracker.read(record.offset, len(deliveries), size_bytes)
        for index, delivery in enumerate(deliveries):
            if not done >> index & 1:
                self._delivery(
                    home, Life(home.topic_id, home.partition, record.offset, index), delivery, record
                )

    def _delivery(self, home: Home, life: Life, delivery: Delivery, record: RawRecord) -> None:
        if (life.offset, life.index) in home.stored:  # its row was written before a crash, its offset not yet
            home.tracker.complete(life.offset, life.index)
            return
        if self._dispatcher.delivered_late(life):
            home.tracker.complete(life.offset, life.index)
            return
        if self._dispatcher.adopt(life, home, stored=False):
            return
        try:
            host = host_of(delivery.url)
        except SubscriptionError as error:
            work = Work(
                life, home, record.key.decode("utf-8", "replace"), delivery, record.appended_at, True, False
            )
            self._handover.bury(work, Death.BLOCKED, str(error))
            return
        work = Work(life, home, host, delivery, record.appended_at, source=True, row=False)
        if home.disabled(delivery.sub):
            self._handover.bury(work, Death.DISABLED)
        elif delivery.not_before is not None and delivery.not_before > self._clock.now() + SOON_S:
            # A row that is never due would never end either.
            dies_at = self._policy.dies_at(record.appended_at, delivery.expires_at)
            self._handover.put(work, min(delivery.not_before, dies_at), NOT_BEFORE)
        elif (
            delivery.lookup
            and self._directory.equipped(delivery.sub) is None
            and not self._directory.may_resolve
        ):
            self._handover.put_unresolved(work)
        else:
            self._dispatcher.queue(work)

    def _unreadable(self, home: Home, record: RawRecord, value: bytes, error: WireError) -> None:
        if home.tracker.read(record.offset, 1, min(len(value), RAW_KEPT_BYTES)):
            return
        reason = Death.UNSUPPORTED if isinstance(error, UnsupportedRecord) else Death.MALFORMED
        letter = DeadLetter(
            life=Life(home.topic_id, home.partition, record.offset, 0),
            host=record.key.decode("utf-8", "replace"),
            delivery=None,
            appended_at=record.appended_at,
            died_at=self._clock.now(),
            reason=reason,
            raw=value[:RAW_KEPT_BYTES],
            raw_bytes=len(value),
            raw_sha256=hashlib.sha256(value).hexdigest(),
            error=str(error),
        )
        self._complaints.error(
            reason, "record %d of partition %d is %s: %s", record.offset, home.partition, reason.value, error
        )
        self._handover.bury_letter(home, letter, lambda: self._done(home, record.offset))

    @staticmethod
    def _done(home: Home, offset: int) -> None:
        home.tracker.complete(offset, 0)
