"""`python -m deploy.kafka start`: the command line. Exit 0, 1 with a sentence, 2 for wrong arguments."""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from deploy.kafka.cluster import Cluster
from deploy.kafka.errors import ClusterError
from deploy.kafka.layout import read_layout
from deploy.kafka.options import Options, Security, TlsFiles

_FAULTS: Final = {
    "kill": "SIGKILL brokers, as a crash",
    "term": "SIGTERM brokers: they hand over, then end",
    "freeze": "SIGSTOP brokers: connections stay open, nothing answers",
    "thaw": "SIGCONT brokers",
    "up": "start brokers that ended, and wait until they answer",
}

#: The one user of a cluster with SASL. No secret: the brokers listen on loopback only.
_USER: Final = ("thorn", "thorn-secret")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        return _start(given) if given.command == "start" else _command(given)
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--dir", type=Path, default=Path(".kafka"), help="data, settings and logs (./.kafka)")
    shared.add_argument(
        "--cache", type=Path, help="where the class path is remembered (the user's cache folder)"
    )
    parser = argparse.ArgumentParser(
        prog="python -m deploy.kafka", description="Apache Kafka on loopback, for development and tests."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("start", parents=[shared], help="start brokers and wait until they answer")
    start.add_argument("--brokers", type=int, choices=(1, 3), help="how many (1)")
    start.add_argument("--port", type=int, help="first of three ports per broker (free ones)")
    start.add_argument(
        "--security", type=Security, choices=list(Security), help="how clients connect (plaintext)"
    )
    start.add_argument(
        "--key-and-chain", type=Path, help="PEM: PKCS#8 key and certificate of the brokers, for TLS"
    )
    start.add_argument("--ca", type=Path, help="PEM: who signed the certificates, for TLS")
    for name, meaning in (
        ("stop", "end the brokers; the data stays"),
        ("wipe", "kill the brokers and remove their data"),
        ("status", "what each broker does; exit 1 unless all answer"),
    ):
        commands.add_parser(name, parents=[shared], help=meaning)
    for name, meaning in _FAULTS.items():
        fault = commands.add_parser(name, parents=[shared], help=meaning)
        fault.add_argument("broker", type=int, nargs="+", help="number of a broker, from 1")
    return parser


def _start(given: argparse.Namespace) -> int:
    cluster = Cluster(given.dir, _options(given), cache=given.cache)
    began = time.monotonic()
    cluster.start()
    _say(f"{cluster.bootstrap} answers after {time.monotonic() - began:.1f} s, data in {cluster.folder}")
    options = cluster.options
    if options.security.has_sasl:
        for name, password in options.users.items():
            _say(f"user {name} with password {password}; PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    if options.tls is not None:
        _say(f"certificates signed by {options.tls.ca}")
    _say(f"export THORN_LOG={cluster.log_url()}")
    _say(f"to stop it: python -m deploy.kafka stop --dir {given.dir}")
    return 0


def _options(given: argparse.Namespace) -> Options:
    """What isn't given is as the folder's cluster has it."""
    held = read_layout(given.dir)
    base = held.options if held is not None else Options()
    if (given.key_and_chain is None) != (given.ca is None):
        raise ClusterError("--key-and-chain and --ca belong together: give both or none")
    security = given.security or base.security
    return replace(
        base,
        brokers=given.brokers or base.brokers,
        port=given.port or base.port,
        security=security,
        tls=TlsFiles(given.key_and_chain, given.ca) if given.ca is not None else base.tls,
        users=base.users or (dict([_USER]) if security.has_sasl else {}),
    )


def _command(given: argparse.Namespace) -> int:
    cluster = Cluster(given.dir, cache=given.cache)
    if given.command == "status":
        return _status(cluster)
    if given.command in _FAULTS:
        getattr(cluster, given.command)(*given.broker)
    elif given.command == "stop":
        cluster.stop()
    else:
        cluster.wipe()
    return 0


def _status(cluster: Cluster) -> int:
    brokers = cluster.status()
    for broker in brokers:
        _say(f"{broker.number}  {broker.state:8}  port {broker.port}  pid {broker.pid or '-'}  {broker.log}")
    return 0 if all(broker.state == "answers" for broker in brokers) else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
