"""Ten thousand events of real shapes to servers that nobody here wrote, counted by id where they arrived."""

import time
from base64 import b64encode
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import producer
from tests.support.certs import Authority
from tests.support.ledger import reconcile
from tests.support.receivers import Receiver, go_server, nginx, node_server
from tests.support.sink import RecordingSink
from tests.support.system import System
from tests.support.waiting import wait_for

EVENTS = 10_000
SECRET = "whsec_" + b64encode(b"a secret of thirty-two bytes ....").decode()

pytestmark = [pytest.mark.real, pytest.mark.e2e]


def push_event() -> dict[str, object]:
    """What a forge sends for a push: about 10 KB of nested JSON."""
    commits = [
        {
            "id": f"{number:040x}",
            "message": f"Zeile {number}: größere Änderung\n\nSigned-off-by: someone",
            "timestamp": "2026-01-01T12:00:00+01:00",
            "author": {"name": "Renée", "email": "renee@example.com"},
            "added": [f"src/module_{number}/file_{part}.py" for part in range(3)],
            "removed": [],
            "modified": ["README.md"],
        }
        for number in range(27)
    ]
    return {"ref": "refs/heads/main", "forced": False, "commits": commits}


#: Shape -> content type and payload.
SHAPES: dict[str, tuple[str, object]] = {
    "push": ("application/json", push_event()),
    "form": ("application/x-www-form-urlencoded", {"name": "Søren & co", "amount": "12.50", "note": "a=b&c"}),
    "byte": ("application/json", b"7"),
}


def subscribers(receivers: list[Receiver]) -> dict[str, object]:
    """Every shape at every receiver, signed: ``push.nginx``, ``push.go`` ..."""
    return {
        f"{shape}.{receiver.name}": {
            "url": f"{receiver.url}/{shape}",
            "content_type": content_type,
            "secrets": [SECRET],
        }
        for shape, (content_type, _) in SHAPES.items()
        for receiver in receivers
    }


def test_nothing_is_lost_on_the_way_to_real_receivers(tmp_path: Path, sink: RecordingSink) -> None:
    folders = [tmp_path / name for name in ("nginx", "go", "node")]
    for folder in folders:
        folder.mkdir()
    authority = Authority(tmp_path)
    with ExitStack() as stack:
        # Given nginx over TLS with an authority of our own, a Go server and a Node server, and a worker
        receivers = [
            stack.enter_context(nginx(folders[0], authority)),
            stack.enter_context(go_server(folders[1], SECRET)),
            stack.enter_context(node_server(folders[2], SECRET)),
        ]
        wishes = subscribers(receivers)
        system = stack.enter_context(
            System(
                tmp_path,
                sink,
                subscribers=wishes,
                ca_file=authority.ca_file,
                allow_hosts="localhost",
                retry_schedule=["0.5s", "1s", "2s", "5s"],
            )
        )
        worker = system.worker()

        # When ten thousand events are sent and acknowledged
        began = time.monotonic()
        names = list(wishes)
        service = stack.enter_context(producer.Producer(log=system.settings["log"], subscribers=wishes))
        receipts = [
            service.send(names[number % 9], SHAPES[names[number % 9].split(".")[0]][1])
            for number in range(EVENTS)
        ]
        for receipt in receipts:
            receipt.wait(timeout_s=30)
        owed = [one for receipt in receipts for one in receipt.delivery_ids]

        # Then each arrived, by the ledgers of the receivers
        def arrived() -> Counter[str]:
            return sum((receiver.delivered() for receiver in receivers), Counter[str]())

        wait_for(lambda: len(arrived()) >= EVENTS, 60, what="ten thousand ids at the receivers", poll_s=0.2)
        took_s = time.monotonic() - began
        system.settle()
        account = reconcile(owed, arrived(), system.standing())
        shares = {receiver.name: len(receiver.delivered()) for receiver in receivers}
        print(f"{account}; {shares}; {EVENTS / took_s:.0f} events/s")
        assert (account.owed, account.delivered, account.lost) == (EVENTS, EVENTS, [])
        assert account.unknown == []
        assert account.repeats == 0

        # And whole: the sizes that the receivers saw are those of the three shapes, TLS or not
        sizes = [{line[1] for line in receiver.lines()} for receiver in receivers]
        assert sizes[0] == sizes[1] == sizes[2]
        assert len(sizes[0]) == 3
        assert "1" in sizes[0]
        assert any(9_000 < int(size) < 12_000 for size in sizes[0])

        # And over few connections: keep-alive holds with all three
        opened = worker.metric("thorn_connections_opened_total")
        reused = worker.metric("thorn_connections_reused_total")
        print(f"connections opened {opened:.0f}, reused {reused / (opened + reused):.2%}")
        assert reused > 0.9 * (opened + reused)


def test_a_receiver_whose_authority_is_unknown_gets_nothing(tmp_path: Path, sink: RecordingSink) -> None:
    with nginx(tmp_path, Authority(tmp_path)) as receiver:
        # Given a worker that trusts the system's authorities only
        settings: dict[str, Any] = {"allow_hosts": "localhost", "retry_schedule": ["30s"]}
        with System(tmp_path, sink, subscribers={"*": receiver.url}, **settings) as system:
            system.worker()
            (one,) = system.send(1)

            # Then the delivery fails in the handshake and waits
            wait_for(lambda: one in system.standing().pending, what="a row in the store")
            (row,) = system.ok("pending", "show", one, "--json").rows()
            assert (row["reason"], row["phase"]) == ("unreachable", "tls")
            assert "certificate" in row["error"].lower()
            assert receiver.lines() == []
