"""Throw-away certificates: one authority that a test may trust, and receivers' certificates good and bad."""

import datetime
import ssl
from pathlib import Path

import trustme


class Authority:
    """A certificate authority of one test run. `ca_file` is what a client loads to trust it."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.ca_file = str(folder / f"{name}.pem")
        self._ca.cert_pem.write_to_path(self.ca_file)

    def server(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """What a receiver needs to serve TLS as `names` (host names or addresses)."""
        cert = self._issue(names, expired)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cert.configure_cert(context)
        return context

    def pem(self, *names: str) -> str:
        """Path of a file with private key and certificate chain, for receivers in other processes."""
        path = self._folder / f"{names[0].replace(':', '_')}.pem"
        self._issue(names, expired=False).private_key_and_cert_chain_pem.write_to_path(path)
        return str(path)

    def _issue(self, names: tuple[str, ...], expired: bool) -> trustme.LeafCert:
        if not expired:
            return self._ca.issue_cert(*names)
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        return self._ca.issue_cert(*names, not_before=now - 2 * day, not_after=now - day)
