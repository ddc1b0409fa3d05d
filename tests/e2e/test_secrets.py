"""What the worker has no secrets for is kept, never sent unsigned, and delivered once it learns them."""

from base64 import b64encode
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from tests.support.sink import Received, RecordingSink
from tests.support.system import System
from tests.support.system_log import SystemLog
from tests.support.waiting import wait_for

SUB = "7c1e2a34-9d0b-4f6a-8f0e-2a3f4f1f5f22"
SECRET = "whsec_" + b64encode(b"a secret of thirty-two bytes ....").decode()

pytestmark = pytest.mark.e2e


def verify(request: Received, secret: str = SECRET) -> None:
    """An independent implementation finds the signature good."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: request.header(name) or "" for name in names}
    Webhook(secret).verify(request.body, headers)
    assert headers["webhook-id"] == request.id


def system_of(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> System:
    """Producers know the subscription and its secret; workers know nothing of it."""
    system = System(
        tmp_path, sink, subscribers={"order.*": {"url": sink.url(), "id": SUB, "secrets": [SECRET]}}
    )
    del system.settings["subscribers"]
    return system


def test_an_unknown_subscription_waits_and_is_delivered_signed_once_it_is_known(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with system_of(tmp_path, sink, log) as system:
        # Given a worker that does not know the subscription
        worker = system.worker()
        owed = system.send(10)

        # When deliveries come, then they wait in the store, nothing is sent, and the gauge shows it
        wait_for(lambda: len(system.standing().pending) == 10, what="ten rows in the store")
        assert worker.metric("thorn_unresolved") == 1
        rows = system.ok("pending", "list", "--json").rows()
        assert {row["reason"] for row in rows} == {"unresolved"}
        assert {row["attempts"] for row in rows} == {0}
        assert worker.said().count("has secrets or headers that this worker does not know") == 1

        # When an operator tries to force it, then nothing is sent either
        system.ok("pending", "retry", "--subscription", SUB, "--wait")
        assert sink.requests() == []

        # When the worker is restarted as ignorant as it was, then they wait on
        assert worker.stop() == 0
        worker.start()
        wait_for(lambda: worker.metric("thorn_unresolved") == 1, what="the gauge after a restart")
        assert len(system.standing().pending) == 10
        assert sink.requests() == []

        # When it learns the secret, then all are delivered and signed, as first attempts
        assert worker.stop() == 0
        worker.start(secrets={SUB: [SECRET]})
        sink.wait_for_ids(owed)
        for request in sink.requests():
            verify(request)
            assert request.attempt == 1
        account = system.settle()
        assert (account.delivered, account.repeats) == (10, 0)
        assert worker.metric("thorn_unresolved") == 0


def test_a_worker_that_knows_secrets_signs_with_each_of_them(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with system_of(tmp_path, sink, log) as system:
        # Given a key that is being rotated
        new = "whsec_" + b64encode(b"another secret of thirty-two bytes").decode()
        system.worker(secrets={SUB: [new, SECRET]})

        # When a delivery arrives, then it verifies with the old key and with the new one
        sink.wait_for_ids(system.send(1))
        (request,) = sink.requests()
        verify(request)
        verify(request, new)
        assert (request.header("webhook-signature") or "").count("v1,") == 2


def test_a_function_that_knows_secrets_is_asked(
    tmp_path: Path, sink: RecordingSink, log: SystemLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given secrets_of, a function of the operator's
    (tmp_path / "operators_secrets.py").write_text(
        f"def secrets_of(sub):\n    return [{SECRET!r}] if sub == {SUB!r} else None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with system_of(tmp_path, sink, log) as system:
        system.worker(secrets_of="operators_secrets:secrets_of")
        sink.wait_for_ids(system.send(20))
        for request in sink.requests():
            verify(request)
