"""Exit 0 if the worker in this container answers /healthz at the address that THORN_ADMIN says, else 1."""

import http.client
import os
import sys

#: The worker listens on all addresses of the container; it is asked on the one that is always there.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be told from others, not to be bound


def main() -> int:
    """Ask once, for at most four seconds."""
    host, _, port = os.environ.get("THORN_ADMIN", "127.0.0.1:9464").rpartition(":")
    host = host.strip("[]")
    connection = http.client.HTTPConnection(_ANY.get(host, host), int(port), timeout=4)
    try:
        connection.request("GET", "/healthz")
        return int(connection.getresponse().status != http.client.OK)
    except OSError as error:
        sys.stderr.write(f"the worker does not answer: {error}\n")
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
