"""Looking names up."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.waiting import wait_for
from thorn_worker.http import resolver as module
from thorn_worker.http.addresses import Address
from thorn_worker.http.errors import LocalFailure
from thorn_worker.http.resolver import (
    BAD_S,
    GOOD_S,
    MAX_LOOKUPS,
    MAX_SLOW_LOOKUPS,
    SLOW_S,
    NotResolved,
    Resolver,
    system_lookup,
)


class Nameserver:
    """Answers at once, fails, or holds a look-up until it is told otherwise. The clock is the test's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self.running: set[str] = set()
        self.failing: dict[str, OSError] = {}
        self._lock = threading.Lock()
        self._released = threading.Event()

    def clock(self) -> float:
        return self.now

    def lookup(self, name: str) -> list[str]:
        with self._lock:
            self.asked.append(name)
            self.running.add(name)
        if name.startswith("held"):
            assert self._released.wait(20)
        with self._lock:
            self.running.discard(name)
        if name in self.failing:
            raise self.failing[name]
        return ["192.0.2.1", "2001:db8::1"]

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    nameserver = Nameserver()
    yield nameserver
    nameserver.release()


@pytest.fixture
def resolver(nameserver: Nameserver) -> Iterator[Resolver]:
    resolver = Resolver(nameserver.lookup, nameserver.clock)
    yield resolver
    resolver.close()


def ask(resolver: Resolver, name: str, deadline: float = 1010.0) -> threading.Thread:
    """Somebody who asks and may leave without an answer."""

    def run() -> None:
        try:
            resolver.resolve(name, 443, deadline)
        except (TimeoutError, NotResolved, LocalFailure):
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_all_addresses_come_back_with_the_port(resolver: Resolver) -> None:
    assert resolver.resolve("a.example", 443, 1010.0) == (
        Address("192.0.2.1", 443),
        Address("2001:db8::1", 443),
    )


def test_the_system_knows_localhost() -> None:
    assert "127.0.0.1" in system_lookup("localhost")


def test_good_answers_count_for_30_s_whatever_the_port(resolver: Resolver, nameserver: Nameserver) -> None:
    resolver.resolve("a.example", 443, 1010.0)
    nameserver.now += GOOD_S - 0.1
    assert resolver.resolve("a.example", 80, nameserver.now + 10)[0] == Address("192.0.2.1", 80)
    assert nameserver.asked == ["a.example"]

    nameserver.now += 0.2
    resolver.resolve("a.example", 443, nameserver.now + 10)
    assert nameserver.asked == ["a.example"] * 2


def test_failures_count_for_5_s(resolver: Resolver, nameserver: Nameserver) -> None:
    nameserver.failing["a.example"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    for _ in range(2):
        with pytest.raises(NotResolved, match=r"a\.example can't be resolved: name or service not known"):
            resolver.resolve("a.example", 443, nameserver.now + 10)
    assert nameserver.asked == ["a.example"]

    nameserver.now += BAD_S + 0.1
    del nameserver.failing["a.example"]
    assert resolver.resolve("a.example", 443, nameserver.now + 10)


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), socket.gaierror(socket.EAI_MEMORY, "Memory")]
)
def test_our_own_trouble_is_told_apart_and_not_remembered(
    resolver: Resolver, nameserver: Nameserver, error: OSError
) -> None:
    nameserver.failing["a.example"] = error
    with pytest.raises(LocalFailure):
        resolver.resolve("a.example", 443, nameserver.now + 10)

    del nameserver.failing["a.example"]
    assert resolver.resolve("a.example", 443, nameserver.now + 10)


def test_a_name_is_looked_up_once_for_all_who_wait(resolver: Resolver, nameserver: Nameserver) -> None:
    threads = [ask(resolver, "held.example") for _ in range(20)]
    wait_for(lambda: nameserver.running, what="the look-up to run")
    nameserver.release()
    for thread in threads:
        thread.join(10)

    assert nameserver.asked == ["held.example"]


def test_who_waits_leaves_at_the_deadline_while_the_look_up_goes_on(nameserver: Nameserver) -> None:
    resolver = Resolver(nameserver.lookup)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        resolver.resolve("held.example", 443, started + 0.05)
    assert time.monotonic() - started < 2.0

    nameserver.release()
    assert resolver.resolve("held.example", 443, time.monotonic() + 10)
    assert nameserver.asked == ["held.example"]
    resolver.close()


def test_slow_names_hold_at_most_a_quarter_of_the_places(resolver: Resolver, nameserver: Nameserver) -> None:
    # Given more names than there are places, and none is answered.
    for number in range(MAX_LOOKUPS + 8):
        ask(resolver, f"held{number}.example")
    wait_for(lambda: len(nameserver.running) == MAX_LOOKUPS, what="all places to be taken")

    # When they turn out to be slow, others are served at once.
    nameserver.now += SLOW_S + 0.1
    assert resolver.resolve("quick.example", 443, nameserver.now + 10)

    # And once known to be slow, they get no more than their quarter again.
    nameserver.release()
    wait_for(lambda: not nameserver.running, what="the slow ones to end")
    nameserver.now += GOOD_S + 0.1
    nameserver._released.clear()
    for number in range(MAX_LOOKUPS):
        ask(resolver, f"held{number}.example", nameserver.now + 10)
    wait_for(lambda: len(nameserver.running) == MAX_SLOW_LOOKUPS, what="slow names to fill their quarter")
    assert resolver.resolve("another.example", 443, nameserver.now + 10)
    assert len(nameserver.running) == MAX_SLOW_LOOKUPS


def test_a_name_without_addresses_is_a_failure() -> None:
    resolver = Resolver(lambda name: [])
    with pytest.raises(NotResolved, match="no address"):
        resolver.resolve("a.example", 443, time.monotonic() + 5)
    resolver.close()


def test_a_name_that_cannot_be_encoded_is_a_failure() -> None:
    resolver = Resolver()
    with pytest.raises(NotResolved):
        resolver.resolve("a" * 70 + ".example", 443, time.monotonic() + 5)
    resolver.close()


def test_closing_lets_everybody_go(resolver: Resolver, nameserver: Nameserver) -> None:
    thread = ask(resolver, "held.example")
    wait_for(lambda: nameserver.running, what="the look-up to run")

    resolver.close()

    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(LocalFailure):
        resolver.resolve("other.example", 443, nameserver.now + 10)


def test_memory_is_bounded(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 10)
    for number in range(30):
        resolver.resolve(f"n{number}.example", 443, 1010.0)

    assert "10 names" in repr(resolver)
