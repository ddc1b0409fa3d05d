"""The bench itself: it counts what it says it counts, and compares like with like. No figure is tested."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from bench.live import live, quantile
from bench.load import BODY_BYTES, Filled, fill, subscribers
from bench.machine import Cores
from bench.memory import memory
from bench.producer_cost import send_cost
from bench.report import Comparison, losses
from bench.runs import PLAIN, WORKER, Run, deliver
from bench.sinks import ADDRESSES, Sink
from tests.support.sink import Received, read_ledger
from thorn_worker.http.signing import hook_hmac, verify

CORES = Cores.of_this_machine()

RUN = Run(
    program=WORKER,
    per_record=1,
    deliveries=1_000,
    seconds=0.5,
    cpu_s=0.2,
    cpu_to_exit_s=0.3,
    sink_cpu_s=0.1,
    peak_rss_bytes=1,
    connections=8,
    warm_connections=1,
    lost=0,
    repeated=0,
)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with Sink(tmp_path, CORES.others) as started:
        yield started


@pytest.mark.e2e
@pytest.mark.parametrize("program", [WORKER, PLAIN])
def test_every_delivery_of_a_run_is_counted_by_id(tmp_path: Path, sink: Sink, program: str) -> None:
    filled = fill(tmp_path / "filled.db", sink.hosts(), 2_000, per_record=10)

    run = deliver(program, filled, sink, CORES)

    assert (run.deliveries, run.lost, run.repeated) == (2_000, 0, 0)
    assert ADDRESSES <= run.connections <= 2_000
    assert run.seconds > 0
    assert run.cpu_to_exit_s >= run.cpu_s > 0


@pytest.mark.e2e
def test_a_delivery_that_never_comes_is_lost(tmp_path: Path, sink: Sink) -> None:
    # Given a log that lacks one delivery that is owed
    whole = fill(tmp_path / "filled.db", sink.hosts(), 64, per_record=1)
    owed = Filled(whole.path, whole.subscribers, whole.ids | {str(uuid4())}, whole.per_record)

    # When the log is delivered
    run = deliver(PLAIN, owed, sink, CORES)

    # Then the run says so, and the bench fails
    assert run.lost == 1
    assert losses([RUN, run]) == ["plain loop: 1 of 65 deliveries were lost"]


@pytest.mark.e2e
def test_both_programs_send_the_same_requests(tmp_path: Path) -> None:
    # Given a sink that keeps what it hears
    with Sink(tmp_path, CORES.others, keep=True) as sink:
        filled = fill(tmp_path / "filled.db", sink.hosts(), 64, per_record=1)

        # When worker and loop deliver the same log
        deliver(WORKER, filled, sink, CORES)
        heard = len(read_ledger(sink.path))
        deliver(PLAIN, filled, sink, CORES)
        worker, plain = _by_id(read_ledger(sink.path)[:heard]), _by_id(read_ledger(sink.path)[heard:])

    # Then bodies and header names are the same, and all signatures are right
    assert worker.keys() == plain.keys() == filled.ids
    own = {"accept-encoding", "connection"}  # what requests adds; no receiver here cares
    for delivery, request in worker.items():
        other = plain[delivery]
        assert request.body == other.body
        assert len(request.body) == BODY_BYTES
        assert _names(request) == _names(other) - own
        for one in (request, other):
            _check_signatures(one, filled)


@pytest.mark.e2e
def test_a_live_run_knows_the_age_of_each_delivery(tmp_path: Path, sink: Sink) -> None:
    ages = live(tmp_path, sink, CORES, per_s=200.0, seconds=0.5)
    assert (ages.deliveries, ages.lost) == (100, 0)
    assert 0 < ages.p50_s <= ages.p99_s <= ages.longest_s


@pytest.mark.e2e
def test_a_memory_run_samples_all_the_way(tmp_path: Path, sink: Sink) -> None:
    found = memory(fill(tmp_path / "filled.db", sink.hosts(), 2_000, per_record=1), sink, CORES)
    assert found.run.lost == 0
    assert min(found.marks_bytes) > 1024 * 1024
    assert not replace(found, first_quarter_bytes=100, last_half_bytes=111).flat
    assert replace(found, first_quarter_bytes=100, last_half_bytes=109).flat


def test_the_cost_of_send_is_split_by_who_pays(tmp_path: Path) -> None:
    cost = send_cost(tmp_path / "thorn.db", subscribers=10, hosts=2, sends=500)
    assert cost.prepare_us > 0
    assert cost.sender_us > 0
    assert cost.caller_us == cost.prepare_us + cost.dispatch_us


def test_a_check_names_each_bound_that_is_missed() -> None:
    # Given a worker of 2,000/s beside a loop of 1,000/s
    slow = Comparison(1, (RUN, replace(RUN, program=PLAIN, seconds=1.0, cpu_s=0.9)))
    assert slow.cpu_ratio == pytest.approx(4.5)
    assert slow.shortfalls() == ["2.00 x the plain loop with 1 per record: 2.5 x is asked for"]

    # When it does 1,000/s as well, and opens a connection for each fiftieth
    worse = Comparison(1, (replace(RUN, seconds=1.0, connections=20), *slow.runs[1:]))

    # Then all bounds are named
    assert worse.shortfalls() == [
        "1000 deliveries/s with 1 per record: 1200 are asked for",
        "1.00 x the plain loop with 1 per record: 2.5 x is asked for",
        "98.00% of requests reused a connection with 1 per record: 99% are asked for",
    ]


def test_half_and_nearly_all_of_four_values() -> None:
    assert [quantile([1, 2, 3, 4], share) for share in (0.5, 0.99)] == [2, 4]


def _by_id(received: list[Received]) -> dict[str, Received]:
    return {one.id: one for one in received}


def _names(request: Received) -> set[str]:
    return {line.partition(":")[0].lower() for line in request.head.split("\r\n")[1:]}


def _check_signatures(request: Received, filled: Filled) -> None:
    table = filled.subscribers[request.event]
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    message_id, timestamp, signature = (request.header(name) or "" for name in names)
    assert verify(table["secrets"][0], (message_id, timestamp, signature), request.body, request.at) is None
    assert request.header("Hook-HMAC") == hook_hmac("sha256", table["hmac_secret"], request.body)


def test_each_host_has_a_subscriber_with_secrets_of_its_own() -> None:
    tables = subscribers(["http://127.0.0.1:1", "http://127.0.0.2:1"]).values()
    assert len({table["secrets"][0] for table in tables}) == 2
