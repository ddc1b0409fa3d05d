"""The bench itself: it counts what it says it counts, and compares like with like. No figure is tested."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from bench.live import live, quantile
from bench.load import BODY_BYTES, Filled, fill, subscribers
from bench.logs import SqliteLogs
from bench.machine import Cores
from bench.memory import memory
from bench.producer_cost import SendCost, send_cost
from bench.report import Comparison, losses, send_shortfalls
from bench.runs import KAFKA_WORKER, PLAIN, WORKER, Run, deliver
from bench.sampled_worker import Sampler, Shares, shares
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
    filled = fill(_url(tmp_path), sink.hosts(), 2_000, per_record=10)

    run = deliver(program, filled, sink, CORES)

    assert (run.deliveries, run.lost, run.repeated) == (2_000, 0, 0)
    assert ADDRESSES <= run.connections <= 2_000
    assert run.seconds > 0
    assert run.cpu_to_exit_s >= run.cpu_s > 0


@pytest.mark.e2e
def test_a_delivery_that_never_comes_is_lost(tmp_path: Path, sink: Sink) -> None:
    # Given a log that lacks one delivery that is owed
    whole = fill(_url(tmp_path), sink.hosts(), 64, per_record=1)
    owed = replace(whole, ids=whole.ids | {str(uuid4())})

    # When the log is delivered
    run = deliver(PLAIN, owed, sink, CORES)

    # Then the run says so, and the bench fails
    assert run.lost == 1
    assert losses([RUN, run]) == ["plain loop: 1 of 65 deliveries were lost"]


@pytest.mark.e2e
def test_both_programs_send_the_same_requests(tmp_path: Path) -> None:
    # Given a sink that keeps what it hears
    with Sink(tmp_path, CORES.others, keep=True) as sink:
        logs = SqliteLogs(tmp_path)

        # When worker and loop deliver the same log
        filled = logs.filled(sink.hosts(), 64, per_record=1)
        deliver(WORKER, filled, sink, CORES)
        heard = len(read_ledger(sink.path))
        deliver(PLAIN, logs.filled(sink.hosts(), 64, per_record=1), sink, CORES)
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
    ages = live(_url(tmp_path), sink, CORES, per_s=200.0, seconds=0.5)
    assert (ages.deliveries, ages.lost) == (100, 0)
    assert 0 < ages.p50_s <= ages.p99_s <= ages.longest_s


@pytest.mark.e2e
def test_a_memory_run_samples_all_the_way(tmp_path: Path, sink: Sink) -> None:
    found = memory(fill(_url(tmp_path), sink.hosts(), 2_000, per_record=1), sink, CORES)
    assert found.run.lost == 0
    assert min(found.marks_bytes) > 1024 * 1024
    assert not replace(found, first_quarter_bytes=100, last_half_bytes=111).flat
    assert replace(found, first_quarter_bytes=100, last_half_bytes=109).flat


def test_the_cost_of_send_is_split_by_who_pays(tmp_path: Path) -> None:
    cost = send_cost(f"sqlite:///{tmp_path}/thorn.db", subscribers=10, hosts=2, sends=500)
    assert cost.prepare_us > 0
    assert cost.log_us > 0
    assert cost.ours_us == cost.prepare_us + cost.pack_us
    assert cost.caller_us == cost.ours_us + cost.hand_over_us


def test_a_send_that_costs_too_much_is_named() -> None:
    cheap = SendCost(1, 1, 10, prepare_us=30.0, pack_us=9.0, hand_over_us=500.0, log_us=500.0)
    dear = replace(cheap, prepare_us=31.5)
    assert send_shortfalls([cheap, replace(dear, subscribers=7)]) == []
    assert send_shortfalls([dear]) == [
        "a send to 1 subscribers on 1 hosts costs 40.5 us without the log: at most 40 are asked for"
    ]


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


def test_cpu_is_told_apart_by_who_spends_it(tmp_path: Path) -> None:
    # Given a sampler, and code that lies where kafka-python's does, where our reader's does, and elsewhere
    sampler = Sampler()
    began_at = time.time()
    sampler.start()
    try:
        _spend(0.3, sampler.kafka_folder)
        _spend(0.15, sampler.log_files[0])
        _spend(0.15, str(tmp_path))
    finally:
        sampler.stop()
    file = tmp_path / "samples"

    # When the samples are counted
    sampler.write(file)
    found = shares(file, began_at, time.time())

    # Then half of the CPU was kafka-python's
    assert found.kafka == pytest.approx(0.5, abs=0.15)
    assert found.log == pytest.approx(0.25, abs=0.15)
    with pytest.raises(AssertionError, match="no sample"):
        shares(file, began_at - 2, began_at - 1)


def test_what_kafka_python_may_take_is_bounded_per_delivery() -> None:
    dear = replace(RUN, program=KAFKA_WORKER, shares=Shares(samples=100, kafka=0.11, log=0.02))
    assert (dear.kafka_us, dear.log_us) == pytest.approx((22.0, 4.0))
    assert Comparison(1, (dear,)).shortfalls() == [
        "kafka-python takes 22.0 us of CPU per delivery with 1 per record: at most 20 are asked for"
    ]
    assert Comparison(1, (replace(dear, shares=Shares(100, kafka=0.1, log=0.5)),)).shortfalls() == []


def _url(folder: Path) -> str:
    return SqliteLogs(folder).fresh()


def _spend(seconds: float, where: str) -> None:
    """Use so much CPU in code that says it lies there."""
    code = compile("while time.process_time() < until: pass", f"{where}x.py", "exec")
    exec(code, {"time": time, "until": time.process_time() + seconds})


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
