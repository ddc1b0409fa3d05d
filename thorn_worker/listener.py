"""A listening socket for the worker's own small HTTP servers."""

from typing import Final

from gevent import socket

#: Connections that the kernel keeps while we are busy.
BACKLOG: Final = 128


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket on the first address that `host` stands for; port 0 takes any free one.

    Raises OSError with nothing left open (gevent's own helper would leave the socket to the garbage
    collector).
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for old connections to expire; a listener that lives still refuses us.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
