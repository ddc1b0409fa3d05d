"""One bad host does not stop the others, and a worker's memory does not grow with what it delivers."""

from pathlib import Path

import pytest

from tests.support.sink import RecordingSink, Rule
from tests.support.system import System
from tests.support.system_log import SystemLog
from tests.support.waiting import wait_for

pytestmark = pytest.mark.e2e

#: What thirty thousand deliveries may leave behind: arenas, connection buffers. 1 KB each would be 30 MB.
GROWTH_BYTES = 12 * 1024 * 1024


def test_a_hanging_host_does_not_stop_the_others(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> None:
    urls = [sink.url(number) for number in range(4)]
    with System(tmp_path, sink, log, subscribers={"order.*": urls}, event_timeout="30s") as system:
        # Given a host that hangs, with far more waiting for it than it may hold slots
        sink.set_rules([Rule(address="127.0.0.1", hang=True)])
        worker = system.worker(max_in_flight=60, max_in_flight_per_host=20)
        system.send(200)

        # When more events come, then the other three get all of theirs while it hangs
        system.send(100)
        wait_for(lambda: len(sink.delivered()) == 900, 20, what="the other hosts' deliveries")

        # And it holds its share of attempts, no more
        assert worker.metric("thorn_in_flight") == 20
        assert sum(request.address == "127.0.0.1" for request in sink.requests()) == 20
        assert worker.ready()


def test_memory_stays_flat(tmp_path: Path) -> None:
    with (
        RecordingSink(tmp_path / "ledger", addresses=8) as sink,
        System(tmp_path, sink, subscribers={"order.*": [sink.url(n) for n in range(8)]}) as system,
    ):
        # Given a worker that is warm
        worker = system.worker()
        system.send(2500, group=250)
        sink.wait_for_count(20_000, 60)
        warm = worker.rss_bytes()

        # When as much again goes through it
        system.send(2500, group=250)
        sink.wait_for_count(40_000, 60)

        # Then it holds no more memory than before
        account = system.settle()
        grown = worker.rss_bytes() - warm
        print(f"rss {warm / 1e6:.0f} MB + {grown / 1e6:.1f} MB; {account}")
        assert grown < GROWTH_BYTES
        assert (account.delivered, account.repeats, account.lost) == (40_000, 0, [])
