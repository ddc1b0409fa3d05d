"""`Event`: a kind of event with its options said once, sent many times."""

from typing import Unpack

from producer import default
from producer.client import Producer, SendOptions
from producer.matching import validate_event_name
from producer.receipts import Receipt


class Event:
    """``Event("order.created", timeout_s=5).send({...})``. Options given to `send` win over those given here.

    producer: the `Producer` to send with; None means the one of `producer.configure`, looked up at each send.
    """

    def __init__(
        self, name: str, *, producer: Producer | None = None, **options: Unpack[SendOptions]
    ) -> None:
        validate_event_name(name)
        self.name = name
        self._producer = producer
        self._options = options

    def send(self, data: object = None, **options: Unpack[SendOptions]) -> Receipt:
        """As `Producer.send`, under this event's name."""
        merged: SendOptions = {**self._options, **options}
        return (self._producer or default.get()).send(self.name, data, **merged)

    def __repr__(self) -> str:
        return f"Event({self.name!r})"
