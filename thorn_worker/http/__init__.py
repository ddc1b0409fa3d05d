"""One HTTP attempt: what is sent, to whom it may go, over which connection, and what the answer means.

Runs in plain threads inside any service and in the worker's greenlets alike: nothing here imports gevent,
everything that waits does so through `socket`, `select` and `threading`, which the worker patches before it
imports this.
"""

from thorn_worker.http.blocking import Client
from thorn_worker.http.guard import Guard, Refused
from thorn_worker.http.pools import PoolLimits, Pools
from thorn_worker.http.request import Profile, Request, request_for, user_agent
from thorn_worker.http.resolver import Resolver

__all__ = [
    "Client",
    "Guard",
    "PoolLimits",
    "Pools",
    "Profile",
    "Refused",
    "Request",
    "Resolver",
    "request_for",
    "user_agent",
]
