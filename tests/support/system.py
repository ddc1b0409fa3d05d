"""A whole system as users run it: worker and producer processes around one log, and its command line.

    with System(tmp_path, sink, subscribers={"order.*": [sink.url()]}) as system:
        worker = system.worker()
        system.producer(count=100).finish()
        system.settle()
        assert system.account().lost == []

Everything waits with a bound, and only what was started here is ended.
"""

import contextlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.support.ledger import Account, Standing, reconcile
from tests.support.limits import Limit
from tests.support.sink import RecordingSink
from tests.support.system_log import PARTITIONS, SqliteLog, SystemLog
from tests.support.waiting import wait_for

ROOT: Final = Path(__file__).parents[2]

#: What a healthy worker needs to start, and a hundred times more than that.
START_S: Final = 20.0
#: Until it is ready: a group of consumers may wait for the session of one that died.
READY_S: Final = 40.0

_ADMIN: Final = re.compile(r"admin (http://\S+/)")
_SAMPLE: Final = re.compile(r'^(\w+)(?:\{(?:\w+)="([^"]*)"\})? (\S+)$', re.MULTILINE)


def clean_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment without any ``THORN_``, and these settings as a shell would set them."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("THORN_")}
    return plain | {f"THORN_{name.upper()}": _as_text(value) for name, value in settings.items()}


def _as_text(value: object) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value)
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def seed_of_run() -> int:
    """The seed of this run: ``THORN_TEST_SEED`` or a new one; printed, so that a failure can be had again."""
    seed = int(os.environ.get("THORN_TEST_SEED") or random.randrange(1_000_000))
    print(f"THORN_TEST_SEED={seed}")
    return seed


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """What ``--json`` printed."""
        found = json.loads(self.out)
        assert isinstance(found, list), found
        return found


class WorkerProcess:
    """``thorn-worker run`` in a process of its own. log: its standard error, over all of its starts."""

    #: What stands behind ``python`` on its command line.
    arguments: tuple[str, ...] = ("-m", "thorn_worker")

    def __init__(self, settings: Mapping[str, object], log: Path, limit: Limit | None = None) -> None:
        self.settings = dict(settings)
        self.log = log
        self._limit = limit
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0
        self.admin = ""

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """It was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, **settings: object) -> Self:
        """Start it, with other settings than before if there are any; returns when it is ready."""
        return self.launch(**settings).wait_until_ready()

    def wait_until_ready(self) -> Self:
        """It owns what it is going to own, and everything of that is restored."""
        self.wait_until_serving()
        wait_for(self.ready, READY_S, what=f"the worker at {self.admin} to be ready")
        return self

    def wait_until_serving(self) -> None:
        """Its admin server answers."""
        wait_for(self._announced, START_S, what=f"the worker's admin address in {self.log}")

    def launch(self, **settings: object) -> Self:
        """Start it and return at once, for starts that are refused."""
        assert not self.alive, "this worker runs already"
        self.settings.update(settings)
        self._started_at = self.log.stat().st_size if self.log.exists() else 0
        self.admin = ""
        with self.log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *self.arguments],
                cwd=ROOT,
                env=clean_environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                preexec_fn=self._limit,
            )
        return self

    def _announced(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the worker ended at its start:\n{self.said()}"
        found = _ADMIN.search(self.said())
        if found is not None:
            self.admin = found[1]
        return found is not None

    def said(self) -> str:
        """What it has written since its last start."""
        with self.log.open("rb") as file:
            file.seek(self._started_at)
            return file.read().decode("utf-8", "replace")

    # -- signals and the end -----------------------------------------------------------------------

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._signal(signal.SIGTERM)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; its exit code."""
        self.terminate()
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._signal(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """SIGSTOP: it does nothing until `thaw`, and does not know."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def close(self) -> None:
        """Make sure that it is gone."""
        if self.alive:
            self.kill()

    # -- what it says of itself --------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of its admin server."""
        try:
            with urllib.request.urlopen(self.admin + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ready(self) -> bool:
        """``/readyz`` says so."""
        assert self.alive, f"the worker ended:\n{self.said()}"
        return self.get("readyz")[0] == 200

    def metrics(self) -> dict[tuple[str, str], float]:
        """(name, value of its label or "") -> number."""
        found = _SAMPLE.findall(self.get("metrics")[1])
        return {(name, label): float(value) for name, label, value in found}

    def metric(self, name: str, label: str = "") -> float:
        """One number."""
        return self.metrics()[name, label]

    def owned(self) -> int:
        """Partitions that it owns."""
        return int(self.metric("thorn_partitions_owned"))

    def rss_bytes(self) -> int:
        """Its memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()


class ProducerProcess:
    """A service that sends events and writes down, append-only, which deliveries the log has acknowledged."""

    def __init__(self, plan: Mapping[str, object], ledger: Path) -> None:
        self.ledger = ledger
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", "tests.support.sending", json.dumps({**plan, "ledger": str(ledger)})],
            cwd=ROOT,
            env=clean_environment({}),
            stdin=subprocess.DEVNULL,
        )

    @property
    def alive(self) -> bool:
        """It is still sending."""
        return self._process.poll() is None

    def owed(self) -> list[str]:
        """Delivery ids of the acknowledged receipts so far."""
        return self.ledger.read_text().split() if self.ledger.exists() else []

    def finish(self, timeout_s: float = 60.0) -> list[str]:
        """Wait for its end; everything it was acknowledged."""
        code = self._process.wait(timeout_s)
        assert code == 0, f"the producer ended with {code}"
        return self.owed()

    def kill(self) -> None:
        """SIGKILL: what was acknowledged is owed all the same."""
        self._process.kill()
        self._process.wait(10)


class System:
    """One log, the processes around it, and the sink that they deliver to. Ends what it started.

    log: an SQLite file in `folder` if None. subscribers: for producers and workers alike. settings: of every
    worker, beside those that tests need.
    """

    def __init__(
        self,
        folder: Path,
        sink: RecordingSink,
        log: SystemLog | None = None,
        *,
        subscribers: Mapping[str, object],
        **settings: object,
    ) -> None:
        self.folder = folder
        self.sink = sink
        self.log = log or SqliteLog(folder)
        self.subscribers = subscribers
        self.settings: dict[str, object] = {
            **self.log.settings,
            "admin": "127.0.0.1:0",
            "allow_networks": "127.0.0.0/8",
            "subscribers": subscribers,
            **settings,
        }
        self.workers: list[WorkerProcess] = []
        self.producers: list[ProducerProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for producer in self.producers:
            if producer.alive:
                producer.kill()
        for worker in self.workers:
            worker.close()
            if kind is not None and worker.log.exists():
                print(f"--- {worker.log}\n{worker.log.read_text(errors='replace')[-8000:]}")

    def worker(self, **settings: object) -> WorkerProcess:
        """One more worker, ready."""
        return self.new_worker(None, **settings).start()

    def new_worker(self, limit: Limit | None = None, /, **settings: object) -> WorkerProcess:
        """One more worker, not started. limit: what its process may do less than this one."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(WorkerProcess({**self.settings, **settings}, log, limit))
        return self.workers[-1]

    def producer(self, count: int, **plan: object) -> ProducerProcess:
        """A service that sends `count` events; `tests.support.sending` says what else it may be told."""
        ledger = self.folder / f"producer-{len(self.producers)}.ids"
        base = {"log": self.settings["log"], "subscribers": self.subscribers, "count": count}
        self.producers.append(ProducerProcess({**base, **plan}, ledger))
        return self.producers[-1]

    def send(self, count: int = 1, **plan: object) -> list[str]:
        """Send so many events and return the delivery ids that the log acknowledged, in order."""
        return self.producer(count, **plan).finish()

    def cli(self, *arguments: str, timeout_s: float = 60.0) -> Ran:
        """Run one command of ``thorn-worker`` on this system's log."""
        done = subprocess.run(
            [sys.executable, "-m", "thorn_worker", *arguments],
            cwd=ROOT,
            env=clean_environment(self.settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str) -> Ran:
        """`cli`, and it must succeed."""
        ran = self.cli(*arguments)
        assert ran.code == 0, f"{arguments} ended with {ran.code}: {ran.err}{ran.out}"
        return ran

    # -- the ledger --------------------------------------------------------------------------------

    def owed(self) -> list[str]:
        """All delivery ids that any producer was acknowledged."""
        return [one for producer in self.producers for one in producer.owed()]

    def account(self, cancelled: Sequence[str] = ()) -> Account:
        """Owed and delivered, by id."""
        return reconcile(self.owed(), self.sink.delivered(), self.standing(), cancelled)

    def standing(self) -> Standing:
        """What the log and its store hold."""
        return self.log.standing()

    def settle(self, timeout_s: float = 40.0, *, pending: bool = False) -> Account:
        """Wait until every record is committed and, unless `pending`, no delivery waits any more."""

        def settled() -> bool:
            now = self.standing()
            return now.lag == 0 and (pending or not now.pending)

        with contextlib.suppress(AssertionError):  # what is missing then is said by id, in the account
            wait_for(settled, timeout_s, what="everything to be settled", poll_s=self.log.poll_s)
        return self.account()

    def wait_for_owners(self, *workers: WorkerProcess) -> float:
        """Wait until these workers share all partitions, each with some; returns the seconds it took."""
        began = time.monotonic()

        def shared() -> bool:
            owned = [worker.owned() for worker in workers]
            return all(owned) and sum(owned) == PARTITIONS

        wait_for(shared, self.log.move_s, what=f"{len(workers)} workers to share all partitions", poll_s=0.02)
        return time.monotonic() - began
