"""How old a delivery is when it arrives, while a worker has time to spare."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.load import data_of, environment, event_of, subscribers
from bench.machine import Cores
from bench.runs import Program
from bench.sinks import Ledger, Sink
from producer import Producer

_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds from the call of `send` to the arrival at the receiver. lost: deliveries that never came."""

    deliveries: int
    per_s: float
    p50_s: float
    p99_s: float
    longest_s: float
    lost: int


def live(log: str, sink: Sink, cores: Cores, per_s: float, seconds: float) -> Ages:
    """Send at a steady pace to a running worker. log: URL of an empty one."""
    hosts = sink.hosts()
    wanted = subscribers(hosts)
    surroundings = environment(log, wanted, sink.path.with_name("state"))
    ledger = Ledger(sink.path)
    sent_at: dict[str, float] = {}
    with (
        Producer(log=log, subscribers=wanted) as producer,
        Program(["thorn_worker"], surroundings, cores, sink.path.with_name("live.log")) as worker,
    ):
        # A first delivery to each host, not counted: the worker is up then and has its connections.
        warm = [producer.send(event_of(host), data_of(host)).delivery_ids[0] for host in range(len(hosts))]
        _wait_for(ledger, worker, warm)
        began = time.time()
        for number in range(round(per_s * seconds)):
            time.sleep(max(0.0, began + number / per_s - time.time()))
            at = time.time()
            receipt = producer.send(event_of(number % len(hosts)), data_of(number))
            sent_at[receipt.delivery_ids[0]] = at
        took_s = time.time() - began
        _wait_for(ledger, worker, list(sent_at))
        worker.finish(stop=True)
    came = {delivery: ledger.arrived_at[delivery] for delivery in sent_at if delivery in ledger.arrived_at}
    ages = sorted(at - sent_at[delivery] for delivery, at in came.items())
    return Ages(
        deliveries=len(sent_at),
        per_s=len(sent_at) / took_s,
        p50_s=quantile(ages, 0.5),
        p99_s=quantile(ages, 0.99),
        longest_s=ages[-1],
        lost=len(sent_at) - len(came),
    )


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value that `share` of all values do not exceed: of 1, 2, 3, 4 it is 2 for 0.5 and 4 for 0.99."""
    return ascending[max(0, -int(-share * len(ascending) // 1) - 1)]


def _wait_for(ledger: Ledger, worker: Program, ids: Sequence[str]) -> None:
    """Until all of `ids` came, or patience ends; what is missing then is for the caller to count."""
    give_up_at = time.monotonic() + _PATIENCE_S
    while ledger.read() < len(ids) or not ledger.ids.keys() >= set(ids):
        assert worker.is_running(), "the worker ended during the live run"
        if time.monotonic() > give_up_at:
            return
        time.sleep(0.01)
