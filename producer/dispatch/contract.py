"""What a dispatcher is: it carries matched, encoded deliveries one step further, and tells their receipts.

Every dispatcher passes `tests/contract/dispatcher.py`. They are found through the entry point group
``thorn.dispatchers`` or as ``module:Class``; the class is called with the `Settings`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from producer.sending import Sending


class NotDispatched(Exception):
    """Part of a dispatch did not leave. `unsent` holds it in order; ``__cause__`` says why."""

    def __init__(self, unsent: Sequence[Sending]) -> None:
        super().__init__(f"{sum(len(sending.ids) for sending in unsent)} deliveries not sent")
        self.unsent = tuple(unsent)


class Dispatcher(ABC):
    """Takes sendings; each delivery is eventually acknowledged or failed on its receipt."""

    #: What ``Receipt.status`` says once a sending was taken and nothing is left to wait for.
    name: str

    @abstractmethod
    def dispatch(self, sendings: Sequence[Sending]) -> None:
        """Hand over all deliveries, grouped as the dispatcher likes, in order per host.

        A single sending is taken whole or not at all. Of several, those not taken are in
        `NotDispatched.unsent`; the caller keeps them in order. Raises nothing else.
        """

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002
        """Wait until everything dispatched is acknowledged or failed; False if time ran out first."""
        return True

    def close(self, timeout_s: float) -> None:  # noqa: B027
        """Flush within `timeout_s`, fail what is left, release everything."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes taken but not yet acknowledged."""
        return 0

    @property
    def blocked_s(self) -> float:
        """Seconds that callers of `dispatch` have waited for room in a full buffer, in all."""
        return 0.0
