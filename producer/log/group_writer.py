"""The buffer in front of a log that commits a group of records in one blocking step."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

from producer.log.buffer import WriteBuffer
from producer.log.buffer_state import Call, State
from producer.log.contract import NewRecord
from producer.log.process import run_blocking


class GroupWriter(WriteBuffer):
    """A `WriteBuffer` whose calls leave together while the next ones gather.

    Where gevent has patched threads, the log is used from gevent's own thread pool.
    """

    @abstractmethod
    def _write(self, records: Sequence[NewRecord]) -> None:
        """Make all of `records` durable in this order, or none; blocks, raises `LogError` as `_send` does."""

    def _send(self, state: State, calls: Sequence[Call]) -> None:
        records = [record for call in calls for record in call.records]
        if records:
            self._use_log(partial(self._write, records))
        state.refuse_no_more(calls)
        state.settle(calls, None)

    def _use_log(self, work: Callable[[], None]) -> None:
        super()._use_log(partial(run_blocking, work))
