"""Workers that die or freeze at any instant: nothing is lost, and what is repeated is bounded.

What a SIGKILL may repeat: one commit interval (1 s) of the worker's completions, and what was in flight.
"""

import random
import time
from pathlib import Path

import pytest

from tests.support.sink import RecordingSink, Rule
from tests.support.system import System, seed_of_run
from tests.support.system_log import SystemLog
from tests.support.waiting import wait_for

#: One event goes to each of the sink's four addresses.
HOSTS = 4
#: Attempts at once to one host of the worker that is frozen.
WIDTH = 5
PER_S = 150.0
#: What one kill may repeat: a commit interval (1 s) of deliveries, even if all were the dead worker's.
REPEATS_PER_KILL = int(HOSTS * PER_S)

pytestmark = pytest.mark.e2e


def system_of(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> System:
    """Two hosts that answer, one that fails every first attempt, one that is slow."""
    sink.set_rules(
        [
            Rule(address="127.0.0.2", statuses=(500, 200)),
            Rule(address="127.0.0.3", delay_s=0.1),
            Rule(address="127.0.0.4", statuses=(500, 503, 200)),
        ]
    )
    return System(
        tmp_path,
        sink,
        log,
        subscribers={"order.*": [sink.url(number) for number in range(HOSTS)]},
        retry_schedule=["0.3s", "0.5s", "1s", "2s", "2s", "2s"],
        drain_timeout="5s",
    )


def kill_at_random(system: System, rounds: int, seed: int) -> int:
    """Kill random workers at random instants and start them again; returns how many died."""
    dice = random.Random(seed)
    killed = 0
    for _ in range(rounds):
        # The instant is what is tried here, so no condition stands for it.
        time.sleep(dice.uniform(0.05, 1.0))
        victims = dice.sample(system.workers, dice.choice([1, 1, 1, len(system.workers)]))
        for victim in victims:
            victim.kill()
        for victim in victims:
            victim.start()
        killed += len(victims)
    return killed


def ledger_holds(system: System, kills: int) -> None:
    account = system.settle(60)
    print(f"{kills} kills: {account}")
    assert account.lost == []
    assert account.unknown == []
    assert account.dead == {}
    assert account.delivered == account.owed
    assert account.repeats <= kills * REPEATS_PER_KILL
    assert max(account.repeated.values(), default=0) <= kills


def test_nothing_is_lost_when_workers_are_killed_at_random_instants(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    seed = seed_of_run()
    with system_of(tmp_path, sink, log) as system:
        # Given two workers on one log, and two services that keep sending
        system.worker()
        system.worker()
        producers = [system.producer(count=600, per_s=PER_S / 2, group=10) for _ in range(2)]

        # When workers are killed at random instants, and once a service too
        kills = kill_at_random(system, 4, seed)
        producers[0].kill()
        producers[1].finish()

        # Then every acknowledged delivery arrives
        ledger_holds(system, kills)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_nothing_is_lost_in_many_rounds_of_kills(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> None:
    seed = seed_of_run()
    with system_of(tmp_path, sink, log) as system:
        for _ in range(3):
            system.worker()
        producers = [system.producer(count=9_000, per_s=PER_S / 2, group=10) for _ in range(2)]

        kills = kill_at_random(system, 40, seed)
        for producer in producers:
            producer.finish(300)

        ledger_holds(system, kills)


def test_a_frozen_worker_loses_its_partitions_and_commits_nothing_of_them(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with System(tmp_path, sink, log, subscribers={"order.*": [sink.url(n) for n in range(4)]}) as system:
        # Given a worker that is frozen with a few deliveries in flight, and many behind them
        sink.set_rules([Rule(delay_s=1.0)])
        frozen = system.worker(max_in_flight_per_host=WIDTH)
        system.send(100)
        wait_for(lambda: len(sink.requests()) >= HOSTS * WIDTH, what="deliveries in flight")
        system.log.freeze(frozen)
        sink.set_rules([])

        # When another one takes over after its lease, and settles everything
        taker = system.worker()
        system.send(200)
        assert system.settle(30).lost == []
        wait_for(lambda: taker.owned() == 12, what="the other worker to own everything")
        committed = [status.committed for status in system.standing().partitions]

        # And the frozen one wakes up with its old epochs
        frozen.thaw()
        wait_for(lambda: "lost partitions" in frozen.said(), what="the frozen worker to find out")

        # Then nothing of them was committed: no watermark has gone back, nothing was lost
        after = [status.committed for status in system.standing().partitions]
        assert all(now >= before for now, before in zip(after, committed, strict=True))
        system.wait_for_owners(frozen, taker)
        account = system.settle(20)
        print(account)
        assert account.lost == []
        # Only what was in flight is repeated: it starts nothing before it knows what is still its own.
        assert account.repeats <= HOSTS * WIDTH

        # And both deliver on
        system.send(40)
        assert system.settle(20).lost == []
        assert system.account().owed == system.account().delivered
