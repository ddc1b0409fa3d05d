"""Connects clients, one after another, and says why that fails."""

import time
from typing import Final

from producer.errors import ConfigurationError, LogError, LogUnusable
from producer.log.kafka_client import Client, Outgoing
from producer.log.kafka_flight import is_refusal
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import explain, obstacle, quiet_client_logs

#: Pauses between two tries to connect a new client.
FIRST_RECONNECT_S: Final = 0.5
LONGEST_RECONNECT_S: Final = 5.0


class Connector:
    """Makes clients of one kind. trouble: why the last try failed, None if it did not."""

    def __init__(self, options: KafkaOptions, linger_s: float, delivery_timeout_s: float) -> None:
        self.trouble: LogError | None = None
        self._options = options
        self._linger_s = linger_s
        self._delivery_timeout_s = delivery_timeout_s
        self._due_at = 0.0
        self._pause_s = FIRST_RECONNECT_S

    def __repr__(self) -> str:
        return f"<Connector {self._options.place} trouble={self.trouble}>"

    @property
    def is_due(self) -> bool:
        """Whether the pause after the last failure is over."""
        return time.monotonic() >= self._due_at

    def connect(self) -> Client | None:
        """A new client, after some seconds at most; None if that failed."""
        quiet_client_logs()
        try:
            # kafka-python would take seconds to say that it can't connect, and never says why.
            self.trouble = obstacle(self._options)
            if self.trouble is None:
                return self._made()
        except Exception as error:
            self.trouble = self.explain(error, "connecting")
        self._due_at = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_RECONNECT_S)
        return None

    def refusal(self, out: Outgoing, error: Exception) -> LogError | None:
        """What `error` means for a message for ever; None if another client may fare better with it."""
        return self.explain(error, f"writing to {out.topic}") if is_refusal(error) else None

    def explain(self, error: Exception, doing: str) -> LogError:
        """`error` as the user should see it."""
        if isinstance(error, ConfigurationError):
            return LogUnusable(str(error))
        return explain(error, self._options, doing)

    def _made(self) -> Client:
        client = Client.connect(
            self._options, linger_s=self._linger_s, delivery_timeout_s=self._delivery_timeout_s
        )
        self._pause_s = FIRST_RECONNECT_S
        return client
