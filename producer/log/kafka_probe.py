"""Why does this server not serve us? One server, step by step: name, connection, TLS, Kafka, login, cluster.

Plain blocking sockets with timeouts: works in threads, and in a process that gevent has patched.
"""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_talk import (
    ILLEGAL_SASL_STATE,
    METADATA,
    HungUp,
    NotKafka,
    Silent,
    Talk,
    connect,
    quoted,
    unreachable,
)
from producer.log.kafka_tls import Found, tls_context, untrusted, words

#: Seconds for one server, all steps together, and for a second look at it from another side.
PATIENCE_S: Final = 3.0
SECOND_LOOK_S: Final = 1.0
#: Of the brokers that a cluster advertises, so many are tried.
_ADVERTISED: Final = 3

#: Both a client that speaks TLS and one that doesn't are told of TLS by these first bytes of an alert.
_ALERT: Final = b"\x15\x03"
_NOT_KAFKA: Final = "name a broker's own port in THORN_LOG"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one server does, and what to do about it. passing: it may come right without anybody acting."""

    server: str
    fact: str
    advice: str
    passing: bool = False


def look_at(server: str, options: KafkaOptions) -> Trouble | None:
    """What keeps `server` from serving a client with these options, within about 5 s; None if nothing does.

    Raises `ConfigurationError` for a password file that can't be read.
    """
    visit = _Visit(server, options, options.password())
    try:
        visit.look()
    except Found as found:
        return Trouble(server, found.fact, found.advice, found.passing)
    return None


class _Visit:
    """One look at one server; each step raises `Found` where it ends."""

    def __init__(self, server: str, options: KafkaOptions, password: str | None) -> None:
        host, _, port = server.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._options = options
        self._password = password
        self._give_up_at = time.monotonic() + PATIENCE_S

    def look(self) -> None:
        with closing(self._dial()) as connection:
            connection = self._with_tls(connection)
            with closing(connection):
                talk = Talk(connection)
                keys = self._told(talk.api_versions)
                if METADATA not in keys:
                    raise Found("is a controller, which serves no clients", _NOT_KAFKA)
                if self._options.security.startswith("sasl_"):
                    self._log_in(talk)
                elif self._wants_login():
                    raise Found(
                        "asks for a login",
                        "set THORN_KAFKA_SECURITY to sasl_plaintext or sasl_ssl, with user and password",
                    )
                low, high = keys[METADATA]
                brokers = self._told(talk.brokers) if low <= 1 <= high else [(self._host, self._port)]
        if not brokers:
            raise Found("knows of no broker yet", passing=True)
        _check_advertised(brokers)

    def _dial(self) -> socket.socket:
        try:
            return connect(self._host, self._port, self._left())
        except OSError as error:
            raise Found(unreachable(error), passing=True) from error

    def _left(self) -> float:
        return max(self._give_up_at - time.monotonic(), SECOND_LOOK_S)

    def _with_tls(self, connection: socket.socket) -> socket.socket:
        if not self._options.security.endswith("ssl"):
            return connection
        context = tls_context(self._options)
        try:
            return context.wrap_socket(connection, server_hostname=self._host.rstrip("."))
        except ssl.SSLCertVerificationError as error:
            raise untrusted(error) from error
        except TimeoutError:
            raise Found("accepts connections but does not answer", passing=True) from None
        except OSError as error:
            raise (self._alert(error) or self._no_tls(error)) from error

    def _told(self, ask: Callable[[], T]) -> T:
        """The answer to one request, or what its absence means."""
        try:
            return ask()
        except NotKafka as answer:
            raise _not_kafka(answer.start) from answer
        except HungUp as error:
            if not self._options.security.endswith("ssl") and self._speaks_tls():
                raise _wants_tls() from error
            raise Found("hangs up without an answer", passing=True) from error
        except Silent:
            raise Found("accepts connections but does not answer", passing=True) from None
        except OSError as error:
            raise (self._alert(error) or Found(f"breaks off ({words(str(error))})", passing=True)) from error

    def _alert(self, error: OSError) -> Found | None:
        """What a broker means that ends TLS with an alert about our certificate."""
        reason = getattr(error, "reason", None) or ""
        if "CERTIFICATE" not in reason and "UNKNOWN_CA" not in reason:
            return None
        if self._options.cert_file is None:
            return Found(
                "asks for a client certificate", "set THORN_KAFKA_CERT_FILE and THORN_KAFKA_KEY_FILE"
            )
        return Found(
            f"refuses the certificate of THORN_KAFKA_CERT_FILE ({words(reason)})",
            "use one that an authority of the broker has signed",
        )

    def _no_tls(self, error: OSError) -> Found:
        """The handshake failed for another reason than a certificate: perhaps nobody there speaks TLS."""
        why = words(str(error))
        try:
            with closing(connect(self._host, self._port, SECOND_LOOK_S)) as connection:
                Talk(connection).api_versions()
        except NotKafka as answer:
            if not answer.start.startswith(_ALERT):
                return _not_kafka(answer.start)
        except (HungUp, Silent, OSError) as second:
            why = f"{why}; without TLS: {words(str(second))}"
        else:
            return Found(
                "speaks Kafka without TLS",
                "set THORN_KAFKA_SECURITY to plaintext or sasl_plaintext, or name its TLS port",
            )
        return Found(
            f"breaks off the TLS handshake ({why})",
            "check that this is the TLS port of a broker, and the broker's TLS settings",
            passing=isinstance(error, ConnectionError),
        )

    def _speaks_tls(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing is told to it: only whether it shakes hands is asked
        try:
            with closing(connect(self._host, self._port, SECOND_LOOK_S)) as connection:
                context.wrap_socket(connection, server_hostname=self._host.rstrip(".")).close()
        except OSError as error:
            return "ALERT" in (getattr(error, "reason", None) or "")
        return True

    def _wants_login(self) -> bool:
        """A port for logins agrees to talk about one; any other says that it is not the time for it."""
        try:
            with (
                closing(connect(self._host, self._port, SECOND_LOOK_S)) as connection,
                closing(self._with_tls(connection)) as secured,
            ):
                error, _ = Talk(secured).mechanisms("PLAIN")
        except (HungUp, Silent, NotKafka, OSError):
            return False
        return error != ILLEGAL_SASL_STATE

    def _log_in(self, talk: Talk) -> None:
        options = self._options
        wanted = options.sasl_mechanism or ""
        code, offered = self._told(lambda: talk.mechanisms(wanted))
        if code == ILLEGAL_SASL_STATE:
            raise Found(
                "asks for no login", "set THORN_KAFKA_SECURITY to plaintext or ssl, or name its SASL port"
            )
        if code:
            raise Found(
                f"offers the login mechanisms {', '.join(offered) or 'of nobody'}, not {wanted}",
                "set THORN_KAFKA_SASL_MECHANISM to one of them",
            )
        steps = _mechanism(options, self._password)
        while not steps.is_done():
            login = self._told(lambda: talk.authenticate(steps.auth_bytes()))
            if login.error:
                raise Found(
                    f"refuses the login of user {options.sasl_username!r} ({login.says or login.error})",
                    "check THORN_KAFKA_SASL_USERNAME and the file THORN_KAFKA_SASL_PASSWORD_FILE",
                )
            try:
                steps.receive(login.token)
            except (ValueError, KeyError) as error:
                raise Found(
                    "does not prove that it knows the password either", "check that it is your broker"
                ) from error


class _Mechanism(Protocol):
    """The steps of a login, as kafka-python takes them."""

    def is_done(self) -> bool: ...

    def auth_bytes(self) -> bytes: ...

    def receive(self, token: bytes) -> object: ...


def _mechanism(options: KafkaOptions, password: str | None) -> _Mechanism:
    from kafka.net.sasl import get_sasl_mechanism

    steps: _Mechanism = get_sasl_mechanism(options.sasl_mechanism)(
        sasl_mechanism=options.sasl_mechanism,
        sasl_plain_username=options.sasl_username or "",
        sasl_plain_password=password or "",
    )
    return steps


def _not_kafka(start: bytes) -> Found:
    if start.startswith(_ALERT):
        return _wants_tls()
    if start.startswith((b"HTTP", b"<!DOCTYPE", b"<html")):
        return Found("is an HTTP server, not a Kafka broker", _NOT_KAFKA)
    said = quoted(start.decode("latin-1"))
    return Found(f"is no Kafka broker (it answers {said!r})" if said else "is no Kafka broker", _NOT_KAFKA)


def _wants_tls() -> Found:
    return Found("speaks TLS only", "set THORN_KAFKA_SECURITY to ssl or sasl_ssl")


def _check_advertised(brokers: list[tuple[str, int]]) -> None:
    """Clients go where the cluster says its brokers are, which may be where only its own machine can go."""
    reasons = []
    for host, port in brokers[:_ADVERTISED]:
        try:
            connect(host, port, SECOND_LOOK_S).close()
        except OSError as error:
            reasons.append(f"{host}:{port}, which {unreachable(error)}")
        else:
            return
    raise Found(
        f"answers, but says that brokers are at {' and '.join(reasons)}",
        "check advertised.listeners of the brokers",
        passing=True,
    )
