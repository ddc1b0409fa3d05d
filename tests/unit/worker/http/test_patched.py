"""The same tests once more where threads are greenlets: what runs unpatched in any service must run in the
worker too.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[3]

PATCH_AND_RUN = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_receivers_tls_pools_and_resolver_under_gevent() -> None:
    files = [str(HERE / f"test_{name}.py") for name in ("receivers", "tls", "pools", "resolver")]
    done = subprocess.run(
        [sys.executable, "-c", PATCH_AND_RUN, *files], cwd=ROOT, capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_attempts_do_not_wait_for_each_other_under_gevent() -> None:
    script = """
        from gevent import monkey
        monkey.patch_all()
        import time, gevent
        from tests.support import rude
        from tests.unit.worker.http.sending import Sender
        from thorn_worker.outcome import Outcome

        hanging, healthy = rude.RudeServer(rude.hang_before_headers), rude.RudeServer(rude.answer(rude.OK))
        with hanging, healthy, Sender() as sender:
            started = time.monotonic()
            stuck = [gevent.spawn(sender.attempt, hanging.url(), b"{}", 1.0) for _ in range(50)]
            busy = [gevent.spawn(sender.attempt, healthy.url(), b"{}", 5.0) for _ in range(50)]
            assert {job.get().outcome for job in busy} == {Outcome.DELIVERED}
            assert time.monotonic() - started < 0.9
            assert {job.get().outcome for job in stuck} == {Outcome.UNREACHABLE}
            assert time.monotonic() - started < 2.5
            assert sender.pools.connections == sender.pools.idle == healthy.connections
        print("done")
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.stdout == "done\n", done.stderr


def test_nothing_here_loads_gevent() -> None:
    script = """
        import sys, thorn_worker.http
        print([name for name in sys.modules if name.partition(".")[0] in ("gevent", "cryptography")])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.stdout == "[]\n", done.stderr
