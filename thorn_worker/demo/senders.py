"""One service that sends events: ``python -m thorn_worker.demo.senders FOLDER NUMBER SERVICES EVENTS``.

It uses the library as any service does, and writes down what it sends and what the log has acknowledged.
"""

import sys
import time
from pathlib import Path
from typing import Final

from producer import Producer, Receipt
from thorn_worker.demo.cast import event_name
from thorn_worker.demo.records import SETTINGS, Acknowledged, Recorder, Sent, event_line, events_file

#: All events are sent, evenly, within this time.
SENDING_S: Final = 7.0
#: Events that a service collects before it lets them go.
_BUFFERED: Final = 20
#: Patience with the log.
_WAIT_S: Final = 15.0


def send(folder: Path, number: int, services: int, events: int) -> None:
    """Send every `services`-th event, beginning with `number`. Raises the `LogError` of a refused one."""
    mine = range(number, events, services)
    recorder = Recorder(events_file(folder, number))
    began = time.monotonic()
    with Producer(settings=str(folder / SETTINGS)) as service:
        for start in range(0, len(mine), _BUFFERED):
            _send_some(service, recorder, mine[start : start + _BUFFERED], events)
            due = began + SENDING_S * (start + _BUFFERED) / len(mine)
            time.sleep(max(0.0, due - time.monotonic()))
    recorder.close()


def _send_some(service: Producer, recorder: Recorder, numbers: range, events: int) -> None:
    sent: list[Sent] = []
    receipts: list[Receipt] = []
    with service.buffer_events():
        for number in numbers:
            now = time.time()
            receipt = service.send(event_name(number, events), _data(number))
            sent.append(Sent(receipt.event_id, now))
            receipts.append(receipt)
    recorder.write(event_line(one) for one in sent)
    for receipt in receipts:
        receipt.wait(_WAIT_S)
    recorder.write(event_line(Acknowledged(one.event_id, one.delivery_ids)) for one in receipts)


def _data(number: int) -> object:
    """About 500 bytes, as webhooks often have."""
    return {
        "number": number,
        "customer": {"id": f"cus_{number % 97:05d}", "name": "Ada Lovelace", "city": "London"},
        "items": [
            {"sku": f"sku-{number % 13:04d}-{item}", "quantity": item + 1, "price": "19.90"}
            for item in range(6)
        ],
    }


if __name__ == "__main__":
    send(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
