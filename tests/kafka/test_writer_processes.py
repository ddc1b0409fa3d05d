"""The Kafka writer in whole processes: at their exit, after forks, and patched by gevent."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy.kafka import Cluster
from producer import Producer
from producer.hosts import host_of
from producer.log.buffer_state import BufferLimits
from producer.log.partition import partition_of
from producer.model import Batch
from producer.wire import decode
from tests.contract.writer import Outcomes, record
from tests.support.kafka_world import PARTITIONS, KafkaWriterWorld
from tests.support.waiting import wait_for

pytestmark = pytest.mark.kafka

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def world(broker: Cluster, prefix: str) -> Iterator[KafkaWriterWorld]:
    world = KafkaWriterWorld(broker, prefix)
    yield world
    world.close()


def run(program: str, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def test_a_producer_sends_and_its_receipts_are_resolved(world: KafkaWriterWorld) -> None:
    # Given a producer that knows two subscribers
    urls = ["https://a.example/in", "https://b.example/in"]
    with Producer(log=world.cluster.log_url(world.options.prefix), subscribers={"order.*": urls}) as producer:
        # When it sends
        receipts = [producer.send("order.created", {"id": number}) for number in range(20)]

        # Then the log acknowledges, and holds a batch per event and host, where the host's partition is
        for receipt in receipts:
            receipt.wait(timeout_s=10)
        assert producer.stats().acknowledged == 40
    stored = world.stored()
    assert len(stored) == 40
    for partition, _offset, key, value in stored:
        assert partition == partition_of(key, PARTITIONS)
        batch = decode(value)
        assert isinstance(batch, Batch)
        assert [host_of(delivery.url) for delivery in batch.deliveries] == [key]


SEND_AND_EXIT: Final = """
import sys
import producer

producer.configure(log=sys.argv[1], subscribers={"order.*": ["https://a.example/in"]})
for number in range(500):
    producer.send("order.created", {"id": number})
"""


def test_what_was_sent_just_before_the_exit_arrives(world: KafkaWriterWorld) -> None:
    ended = run(SEND_AND_EXIT, world.cluster.log_url(world.options.prefix))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(world.stored()) == 500


SEND_AND_EXIT_WITHOUT_A_BROKER: Final = """
import atexit, sys
import producer

sends = producer.Producer(
    log=sys.argv[1],
    subscribers={"order.*": ["https://a.example/in"]},
    on_error=lambda receipt, error: print(type(error).__name__),
)
atexit.register(sends.close, 1.0)  # sooner than it would by itself
for number in range(5):
    sends.send("order.created", {"id": number})
print("sent", flush=True)
"""


def test_what_can_not_be_sent_before_the_exit_is_reported(world: KafkaWriterWorld) -> None:
    with world.unavailable():
        ended = run(SEND_AND_EXIT_WITHOUT_A_BROKER, world.cluster.log_url(world.options.prefix))
    assert ended.returncode == 0
    assert ended.stdout.split() == ["sent", *["NotAcknowledged"] * 5]
    assert "Traceback" not in ended.stderr


def test_forks_under_load_lose_and_repeat_nothing(world: KafkaWriterWorld) -> None:
    # Given a process whose threads send all the time, as a web server that has started work before it forks
    writer, done, stop = world.writer(BufferLimits(max_block_s=20.0)), Outcomes(), threading.Event()
    sent = [0, 0]

    def send(name: int) -> None:
        while not stop.is_set():
            writer.append([record(b"parent %d %d" % (name, sent[name]))], done)
            sent[name] += 1
            stop.wait(0.001)

    threads = [threading.Thread(target=send, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(done.told) > 50, what="the first acknowledgements")

        # When it forks again and again, and every child sends too
        children = []
        for number in range(4):
            child = os.fork()
            if child == 0:
                mine = Outcomes()
                for count in range(50):
                    writer.append([record(b"child %d %d" % (number, count))], mine)
                flushed = writer.flush(20.0)
                writer.close(5.0)
                os._exit(0 if flushed and mine.told == [None] * 50 else 1)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    # Then all that anybody sent is there once
    assert writer.flush(20.0)
    assert done.told == [None] * sum(sent)
    expected = [b"parent %d %d" % (name, count) for name in range(2) for count in range(sent[name])]
    expected += [b"child %d %d" % (number, count) for number in range(4) for count in range(50)]
    assert sorted(value for *_rest, value in world.stored()) == sorted(expected)


WITH_GEVENT: Final = """
from gevent import monkey

monkey.patch_all()
import os, sys, time
import gevent
from producer.log.buffer_state import BufferLimits
from producer.log.contract import NewRecord
from producer.log.kafka import KafkaWriter
from producer.log.kafka_options import KafkaOptions

servers, prefix = sys.argv[1:]
writer = KafkaWriter(KafkaOptions(servers=(servers,), prefix=prefix), BufferLimits())
told = []
longest = 0.0


def append(who, count):
    for number in range(count):
        record = NewRecord(f"https://h{number % 9}.example:443", b"%s %d" % (who, number))
        writer.append([record], told.append)


def turn():
    global longest
    while True:
        began = time.monotonic()
        gevent.sleep(0.001)
        longest = max(longest, time.monotonic() - began)


writer.partitions()
turning = gevent.spawn(turn)
gevent.joinall([gevent.spawn(append, b"greenlet-%d" % name, 500) for name in range(4)], raise_error=True)
assert writer.flush(20.0)
assert told == [None] * 2000, (len(told), set(told))
assert longest < 1.0, f"the hub stood still for {longest:g} s"

# A child of a process that is at work: it must leave its parent's connections alone.
append(b"parent", 300)
child = os.fork()
if child == 0:
    assert writer.buffered_bytes == 0
    told.clear()
    gevent.sleep(0.3)  # whatever lives on from the parent gets its chance to do harm
    append(b"child", 100)
    ok = writer.flush(20.0) and told == [None] * 100
    writer.close(5.0)
    os._exit(0 if ok else 1)
while True:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        break
    gevent.sleep(0.01)
assert status == 0, status
assert writer.flush(20.0)
assert told == [None] * 2300, len(told)
writer.close(5.0)
"""


def test_it_works_in_a_process_that_gevent_has_patched_and_in_its_child(world: KafkaWriterWorld) -> None:
    ended = run(WITH_GEVENT, world.cluster.bootstrap, world.options.prefix)
    assert (ended.returncode, ended.stderr) == (0, "")
    values = [value for *_rest, value in world.stored()]
    expected = [b"greenlet-%d %d" % (name, number) for name in range(4) for number in range(500)]
    expected += [b"parent %d" % number for number in range(300)]
    expected += [b"child %d" % number for number in range(100)]
    assert sorted(values) == sorted(expected)


PRE_FORK_SERVER: Final = """
import os, sys
import producer

producer.configure(log=sys.argv[1], subscribers={"order.*": ["https://a.example/in"]})
producer.send("order.created", {"who": "master"}).wait(timeout_s=20)
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        for count in range(20):
            producer.send("order.created", {"who": number}).wait(timeout_s=20)
        sys.exit(0)  # with everything that runs at an exit, as servers end their workers
    children.append(child)
status = [os.waitpid(child, 0)[1] for child in children]
producer.send("order.created", {"who": "master"}).wait(timeout_s=20)
sys.exit(0 if status == [0, 0, 0] else 1)
"""


def test_a_master_that_has_sent_and_its_workers_all_send(world: KafkaWriterWorld) -> None:
    ended = run(PRE_FORK_SERVER, world.cluster.log_url(world.options.prefix))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(world.stored()) == 62
