"""What we are measured against: the loop a good engineer writes in an afternoon, with gevent and requests.

It reads the records of an SQLite log, each partition in the order of its offsets, and posts each delivery
with the same body, headers and signatures as the worker, over one keep-alive session per host. Wherever there
was a choice it has the cheaper one: no look-up of proxies and netrc, keys decoded once, nothing durable at
all: no commits, no retries, no metrics, no limits.

    python -m bench.plain_loop LOG DELIVERIES [--concurrency N]

Subscribers come from THORN_SUBSCRIBERS, as for a worker.
"""
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()  # before anything that opens sockets is imported

import argparse
import base64
import hashlib
import hmac
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import requests
from gevent.pool import Pool
from requests.adapters import HTTPAdapter

from producer.config import load
from producer.log.sqlite_schema import record_id
from producer.model import Batch, Delivery, Subscription
from producer.subscriptions.settings import Subscribers
from producer.wire import decode
from thorn_worker import __version__
from thorn_worker.http import user_agent

#: Records of a partition that are read at a time.
CHUNK_RECORDS: Final = 50

#: Posts at once. From 16 to 500 its speed is the same: its CPU is the limit.
CONCURRENCY: Final = 64

TIMEOUT_S: Final = 15.0


def deliveries_of(path: str) -> Iterator[Delivery]:
    """Every delivery of the log, once."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    (partitions,) = connection.execute("SELECT partitions FROM log").fetchone()
    positions = {number: record_id(number, 0) for number in range(partitions)}
    while positions:
        for number, position in list(positions.items()):
            rows = connection.execute(
                "SELECT id, value FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (position, record_id(number + 1, 0), CHUNK_RECORDS),
            ).fetchall()
            if not rows:
                del positions[number]
                continue
            positions[number] = rows[-1][0] + 1
            for _, value in rows:
                batch = decode(value)
                assert isinstance(batch, Batch)
                yield from batch.deliveries
    connection.close()


class PlainLoop:
    """Posts deliveries. failed: those that were not answered with 2xx."""

    def __init__(self, subscriptions: Mapping[str, Subscription]) -> None:
        self.failed = 0
        self._keys = {
            sub: (
                [base64.b64decode(secret.removeprefix("whsec_")) for secret in one.secrets],
                one.hmac_secret,
            )
            for sub, one in subscriptions.items()
        }
        self._sessions: dict[str, requests.Session] = {}

    def deliver(self, delivery: Delivery) -> None:
        """Make one attempt."""
        try:
            response = self._session(delivery.url).post(
                delivery.url,
                data=delivery.body,
                headers=self._headers(delivery),
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
            self.failed += not response.ok
        except requests.RequestException as error:
            self.failed += 1
            print(f"{delivery.id}: {error}", file=sys.stderr)

    def _session(self, url: str) -> requests.Session:
        host = urlsplit(url).netloc
        session = self._sessions.get(host)
        if session is None:
            session = self._sessions[host] = requests.Session()
            session.trust_env = False
            session.headers.clear()
            session.headers.update({"User-Agent": user_agent(__version__), "Accept": "*/*"})
            session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=CONCURRENCY))
        return session

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        at = int(time.time())
        secrets, hmac_secret = self._keys[delivery.sub]
        message = f"{delivery.id}.{at}.".encode() + delivery.body
        headers = {
            "Hook-Event": delivery.event,
            "Hook-Delivery": delivery.id,
            "Hook-Subscription": delivery.sub,
            "Hook-Attempt": "1",
            "Content-Type": delivery.type,
            "webhook-id": delivery.id,
            "webhook-timestamp": str(at),
            "webhook-signature": " ".join("v1," + _base64_hmac(key, message) for key in secrets),
        }
        if hmac_secret is not None:
            headers["Hook-HMAC"] = _base64_hmac(hmac_secret.encode(), delivery.body)
        return headers


def _base64_hmac(key: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode()


def main() -> int:
    """Deliver the first DELIVERIES of the log; 1 if any of them failed."""
    parser = argparse.ArgumentParser(description="A plain gevent and requests loop over an SQLite log.")
    parser.add_argument("log")
    parser.add_argument("deliveries", type=int)
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY)
    arguments = parser.parse_args()
    loop = PlainLoop(Subscribers(load().settings.subscribers).known())
    pool = Pool(arguments.concurrency)
    for _, delivery in zip(range(arguments.deliveries), deliveries_of(arguments.log), strict=False):
        pool.spawn(loop.deliver, delivery)
    pool.join()
    return 1 if loop.failed else 0


if __name__ == "__main__":
    sys.exit(main())
