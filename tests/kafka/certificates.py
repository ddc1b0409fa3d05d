"""Throw-away certificates in the form that brokers read."""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from deploy.kafka import TlsFiles


@dataclass(frozen=True, slots=True)
class Certificates:
    """`brokers`: for `Options.tls`; `ca`, `client_certificate` and `client_key`: PEM files for clients."""

    brokers: TlsFiles
    ca: str
    client_certificate: str
    client_key: str


def issue(folder: Path) -> Certificates:
    """A new authority, and a certificate of it for brokers on loopback and for one client."""
    ca = trustme.CA()
    ca_file = folder / "ca.pem"
    ca.cert_pem.write_to_path(ca_file)
    broker = ca.issue_cert("localhost", "127.0.0.1")
    key_and_chain = folder / "broker.pem"
    key_and_chain.write_bytes(_pkcs8(broker) + b"".join(pem.bytes() for pem in broker.cert_chain_pems))
    client = ca.issue_cert("client@example.com")
    certificate, key = folder / "client.pem", folder / "client-key.pem"
    client.cert_chain_pems[0].write_to_path(certificate)
    client.private_key_pem.write_to_path(key)
    return Certificates(TlsFiles(key_and_chain, ca_file), str(ca_file), str(certificate), str(key))


def _pkcs8(cert: trustme.LeafCert) -> bytes:
    key = load_pem_private_key(cert.private_key_pem.bytes(), password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
