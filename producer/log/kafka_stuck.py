"""When to give up a client that is silent.

An outage looks the same from inside as a client that will never send again. The difference: its brokers
answer other questions, the partition has a leader, and still nothing is acknowledged. Too few replicas look
like that too, so a client that was replaced in vain is given ever more time.
"""

import time
from typing import Final

from producer.log.kafka_client import Answer, Client
from producer.log.kafka_flight import Attempt

#: A client that acknowledges nothing for this long is looked into: are there answers to other questions?
SILENT_S: Final = 5.0
#: It is replaced after this long, if the last so many seconds of it brought answers. The next one gets twice
#: the time, up to the last.
STUCK_S: Final = 60.0
ANSWERED_S: Final = 15.0
LONGEST_STUCK_S: Final = 900.0


class StuckWatch:
    """Looks at the oldest attempt again and again."""

    def __init__(self) -> None:
        self._patience_s = STUCK_S
        self._attempt: Attempt | None = None
        self._answer: Answer | None = None
        #: Since when every question was answered, while the oldest attempt was the same.
        self._answered_since: float | None = None

    def __repr__(self) -> str:
        return f"<StuckWatch patience {self._patience_s:g} s, answered since {self._answered_since}>"

    def look(self, client: Client, oldest: Attempt | None, connected_at: float) -> Exception | None:
        """Why `client` has to be replaced, if it has to be. connected_at: since when there is this client."""
        now = time.monotonic()
        if oldest is None or oldest.since > connected_at:
            self._patience_s = STUCK_S
        if oldest is None or oldest is not self._attempt:
            self._start_over(oldest)
        if oldest is None or (silent_s := now - max(oldest.since, connected_at)) < SILENT_S:
            return None
        answer = self._answer
        if answer is not None and answer.is_due:
            return None
        self._answer = client.ask_again()
        if answer is None or not answer.has_come or not client.leads(oldest.out.topic, oldest.out.partition):
            self._answered_since = None
            return None if answer is None else answer.refused
        if self._answered_since is None:
            self._answered_since = now
        if silent_s < self._patience_s or now - self._answered_since < ANSWERED_S:
            return None
        self._patience_s = min(self._patience_s * 2, LONGEST_STUCK_S)
        return TimeoutError(f"no acknowledgement for {now - oldest.since:.0f} s, while brokers answer")

    def _start_over(self, oldest: Attempt | None) -> None:
        self._attempt = oldest
        self._answer = None
        self._answered_since = None
