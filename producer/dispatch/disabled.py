"""The ``disabled`` dispatcher: matches and encodes, so that mistakes show, and sends nothing."""

from collections.abc import Sequence

from producer.config import Settings
from producer.dispatch.contract import Dispatcher
from producer.sending import Sending


class DisabledDispatcher(Dispatcher):
    """For development and tests of a service. Every Receipt says ``disabled``."""

    name = "disabled"

    def __init__(self, settings: Settings) -> None:
        del settings  # nothing to set

    def dispatch(self, sendings: Sequence[Sending]) -> None:
        for sending in sendings:
            sending.receipt.disabled()
