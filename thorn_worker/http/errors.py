"""How a connection fails to come about, and which failures are our own machine's."""

import errno
import os
import socket
import ssl
from typing import Final

from thorn_worker.outcome import Phase

#: Our own machine is out of files, memory or ports: says nothing about a host.
LOCAL_ERRNOS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
)


class LocalFailure(Exception):
    """Our own machine failed. The text is one sentence."""


class NotConnected(Exception):
    """No connection came about. phase: where it ended. blocked: the guard refused. One sentence of text."""

    def __init__(self, phase: Phase, error: str, *, blocked: bool = False) -> None:
        super().__init__(error)
        self.phase = phase
        self.blocked = blocked


def describe(error: OSError) -> str:
    """An operating system's or TLS library's error in its own few words, without numbers and source lines."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS error").replace("_", " ").lower()
    if isinstance(error, socket.gaierror):
        return (error.strerror or "look-up failed").lower()
    return os.strerror(error.errno).lower() if error.errno else (str(error) or type(error).__name__).lower()
