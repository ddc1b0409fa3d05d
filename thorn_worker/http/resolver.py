"""Names to addresses, on a pool of our own.

A look-up is a call that nobody can interrupt and that may take half a minute. So it runs beside its callers:
they leave at their deadline, it goes on, and its answer serves those who come later. Works with threads, or
with greenlets where `threading` is patched; what really does the look-up is a parameter, because a patched
`getaddrinfo` shares its threads with everything else in the process.
"""

import errno
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from thorn_worker.http.addresses import Address
from thorn_worker.http.errors import LOCAL_ERRNOS, LocalFailure, describe

#: Look-ups at once.
MAX_LOOKUPS: Final = 32
#: A look-up that takes longer makes its name slow, until a quicker one.
SLOW_S: Final = 1.0
#: How many places slow names may hold: a quarter.
MAX_SLOW_LOOKUPS: Final = MAX_LOOKUPS // 4
#: Look-ups of slow names that lost their place but still run; beyond this they keep their places.
MAX_OVERDUE_LOOKUPS: Final = 96
#: How long an answer counts, good and bad.
GOOD_S: Final = 30.0
BAD_S: Final = 5.0
#: Names remembered.
MAX_NAMES: Final = 50_000
#: How often somebody who waits looks whether a place has become free meanwhile.
_GLANCE_S: Final = 0.25

#: Name -> IP addresses as text, in the order in which to try them. Raises `OSError` (`socket.gaierror`) if
# there are none.
Lookup: TypeAlias = Callable[[str], list[str]]


class NotResolved(Exception):
    """A name has no address just now. The text is one sentence."""


def system_lookup(name: str) -> list[str]:
    """What the system's resolver says, IPv4 and IPv6, in the order of RFC 6724."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for family, _, _, _, sockaddr in found if family in _FAMILIES))


_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


@dataclass(slots=True)
class _Answer:
    ips: tuple[str, ...]
    error: str
    local: bool
    until: float


@dataclass(slots=True)
class _Job:
    """One look-up: waiting for a place (`started_at` None), running, or done (`answer` set)."""

    name: str
    slow: bool
    started_at: float | None = None
    answer: _Answer | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Resolver:
    """Resolves names, at most `MAX_LOOKUPS` at once and each name once at a time; remembers answers."""

    def __init__(self, lookup: Lookup = system_lookup, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._slow_names: OrderedDict[str, None] = OrderedDict()
        self._jobs: dict[str, _Job] = {}
        self._queue: deque[_Job] = deque()
        self._running: set[str] = set()
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"Resolver({len(self._answers)} names, {len(self._running)} running, {len(self._queue)} queued)"
        )

    def resolve(self, name: str, port: int, deadline: float) -> tuple[Address, ...]:
        """The addresses of `name`, waiting until `deadline` (monotonic seconds) at most.

        Raises `NotResolved`; `LocalFailure` if the look-up failed for want of files, memory or threads;
        `TimeoutError` at the deadline, while the look-up goes on for whoever asks next.
        """
        with self._lock:
            answer = self._remembered(name)
            job = None if answer is not None else self._job(name)
        if job is not None:
            answer = self._wait(job, deadline)
        if answer is None:
            raise TimeoutError(f"looking up {name} took longer than the attempt may")
        if answer.local:
            raise LocalFailure(answer.error)
        if not answer.ips:
            raise NotResolved(answer.error)
        return tuple(Address(ip, port) for ip in answer.ips)

    def close(self) -> None:
        """Start no more look-ups and let everybody go who waits.

        Running ones end by themselves; their threads are daemons.
        """
        with self._lock:
            self._closed = True
            self._queue.clear()
            jobs = list(self._jobs.values())
        for job in jobs:
            job.done.set()

    def _remembered(self, name: str) -> _Answer | None:
        answer = self._answers.get(name)
        if answer is None or answer.until > self._clock():
            return answer
        del self._answers[name]
        return None

    def _job(self, name: str) -> _Job:
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = _Job(name, slow=name in self._slow_names)
            if self._closed:
                job.done.set()
            else:
                self._queue.append(job)
        return job

    def _wait(self, job: _Job, deadline: float) -> _Answer | None:
        while True:
            self._start_what_fits()
            remaining_s = deadline - self._clock()
            # Nobody tells when a running look-up turns slow and gives its place back: those who wait look
            # again.
            glance_s = _GLANCE_S if job.started_at is None else remaining_s
            if job.done.wait(max(min(remaining_s, glance_s), 0.0)):
                return job.answer or _Answer((), "the worker is stopping", True, 0.0)
            if self._clock() >= deadline:
                return None

    def _start_what_fits(self) -> None:
        with self._lock:
            chosen = self._choose()
        for job in chosen:
            try:
                threading.Thread(
                    target=self._run, args=(job,), name=f"lookup {job.name}", daemon=True
                ).start()
            except RuntimeError as error:  # the system gives no more threads
                self._finish(job, _Answer((), f"no thread for a look-up: {error}", True, 0.0))

    def _choose(self) -> list[_Job]:
        """Jobs that may start now, in order; a slow name waits where a quick one behind it may go."""
        now = self._clock()
        running = [self._jobs[name] for name in self._running]
        slow = sum(1 for job in running if job.slow or _overdue(job, now))
        # Slow ones beyond their quarter no longer count: the rest of the pool stays with the quick.
        excused = min(max(slow - MAX_SLOW_LOOKUPS, 0), MAX_OVERDUE_LOOKUPS)
        free = MAX_LOOKUPS - (len(running) - excused)
        chosen: list[_Job] = []
        waiting: deque[_Job] = deque()
        while self._queue and free > 0:
            job = self._queue.popleft()
            if job.slow and slow >= MAX_SLOW_LOOKUPS:
                waiting.append(job)
                continue
            slow += job.slow
            free -= 1
            job.started_at = now
            self._running.add(job.name)
            chosen.append(job)
        waiting.extend(self._queue)
        self._queue = waiting
        return chosen

    def _run(self, job: _Job) -> None:
        try:
            ips = self._lookup(job.name)
        except OSError as error:
            self._finish(job, self._failed(job.name, error))
        except UnicodeError:
            self._finish(job, self._bad(f"{job.name} is not a name that can be looked up"))
        else:
            if ips:
                self._finish(job, _Answer(tuple(ips), "", False, self._clock() + GOOD_S))
            else:
                self._finish(job, self._bad(f"{job.name} has no address"))
        self._start_what_fits()

    def _failed(self, name: str, error: OSError) -> _Answer:
        gai = isinstance(error, socket.gaierror)
        if (
            (gai and error.errno == socket.EAI_MEMORY)
            or (not gai and error.errno in LOCAL_ERRNOS)
            or _out_of_files()
        ):
            return _Answer((), f"looking up {name}: {describe(error)}", True, 0.0)
        return self._bad(f"{name} can't be resolved: {describe(error)}")

    def _bad(self, error: str) -> _Answer:
        return _Answer((), error, False, self._clock() + BAD_S)

    def _finish(self, job: _Job, answer: _Answer) -> None:
        with self._lock:
            job.answer = answer
            del self._jobs[job.name]
            self._running.discard(job.name)
            self._slow_names.pop(job.name, None)
            if job.started_at is not None and _overdue(job, self._clock()):
                self._slow_names[job.name] = None
            if not answer.local:
                self._answers[job.name] = answer
                self._answers.move_to_end(job.name)
            for memory in (self._answers, self._slow_names):
                if len(memory) > MAX_NAMES:
                    memory.popitem(last=False)
        job.done.set()


def _overdue(job: _Job, now: float) -> bool:
    return job.started_at is not None and now - job.started_at > SLOW_S


def _out_of_files() -> bool:
    """True if this process can't open a socket: glibc then says that a name is unknown."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
