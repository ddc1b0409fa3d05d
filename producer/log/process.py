"""Facts of the process that a writer lives in: gevent's patches, and forks."""

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from threading import Lock, Thread
from typing import Final, Protocol

#: A fork waits at most this long for a running write, lest the child inherit a library's lock in mid-air.
FORK_WAIT_S: Final = 1.0


def run_blocking(work: Callable[[], None]) -> None:
    """Run `work`, which blocks. Where gevent has patched threads it runs in gevent's own thread pool and the
    greenlet waits, so that the hub never waits for a disk."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        work()
        return
    import gevent

    error = gevent.get_hub().threadpool.apply(_error_of, (work,))
    if error is not None:
        raise error


def _error_of(work: Callable[[], None]) -> BaseException | None:
    """Errors travel as values: the pool would print a raised one as well."""
    try:
        work()
    except BaseException as error:
        return error
    return None


class ForkAware(Protocol):
    """What `follow_forks` needs to know of an object."""

    def lock_in_use(self) -> Lock:
        """Held whenever a library is in use that must not be forked in the middle."""
        ...

    def start_afresh(self) -> None:
        """In the child: drop everything that belongs to the parent."""
        ...


def follow_forks(owner: ForkAware) -> None:
    """Let forks wait for `owner`'s running write and give the child its own state. Holds `owner` weakly."""
    reference = weakref.ref(owner)
    held: list[Lock] = []

    def before() -> None:
        living = reference()
        if living is not None:
            lock = living.lock_in_use()
            if lock.acquire(timeout=FORK_WAIT_S):
                held.append(lock)

    def in_parent() -> None:
        while held:
            held.pop().release()

    def in_child() -> None:
        held.clear()
        living = reference()
        if living is not None:
            living.start_afresh()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def end_inherited(thread: Thread) -> None:
    """In a forked child: end a thread of the parent.

    A native thread is not there any more. A greenlet that gevent runs as a thread is, and would go on at the
    hub's next turn, with the parent's connections; so it ends at that turn, before it sees any of them.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading") or thread.ident is None:
        return
    import gevent
    from greenlet import greenlet

    for one in gc.get_objects():
        # gevent makes the id of its greenlet the ident of a thread, and knows no other way back.
        if isinstance(one, greenlet) and id(one) == thread.ident and not one.dead:
            # A thread takes itself out of this at its end, and fails if the fork has done so before.
            threading._active[thread.ident] = thread  # type: ignore[attr-defined]
            gevent.kill(one, SystemExit)  # which the end of a thread keeps silent about
