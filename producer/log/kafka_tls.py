"""TLS towards a broker as kafka-python does it, but with the reasons why it fails."""

import re
import ssl
from typing import Final

from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_talk import quoted

#: Of `ssl.SSLCertVerificationError.verify_code`, from OpenSSL's x509_vfy.h: wrong host name, wrong address.
_OTHER_NAME: Final = (62, 64)
_EXPIRED: Final = 10
_CODES: Final = re.compile(r"\[[^]]*\] ?| ?\(_ssl\.c:\d+\)")


class Found(Exception):
    """The reason is found: nothing further needs to be asked."""

    def __init__(self, fact: str, advice: str = "", *, passing: bool = False) -> None:
        super().__init__(fact)
        self.fact = fact
        self.advice = advice
        self.passing = passing


def tls_context(options: KafkaOptions) -> ssl.SSLContext:
    """As kafka-python makes it of the same files. Raises `Found` for one that is no PEM file of its kind."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(options.ca_file)
        except (OSError, ValueError) as error:
            raise Found(
                f"was not asked: kafka_ca_file = {options.ca_file!r} holds no certificate "
                f"({words(str(error))})",
                "name a PEM file of authorities",
            ) from error
    if options.cert_file is not None:
        try:
            context.load_cert_chain(options.cert_file, options.key_file)
        except (OSError, ValueError) as error:
            raise Found(
                f"was not asked: kafka_cert_file = {options.cert_file!r} and kafka_key_file = "
                f"{options.key_file!r} are no certificate with its key ({words(str(error))})",
                "name PEM files that belong together, the key without a passphrase",
            ) from error
    return context


def untrusted(error: ssl.SSLCertVerificationError) -> Found:
    """Why the broker's certificate was refused, and what to do about it."""
    why = error.verify_message.rstrip(".")
    if error.verify_code in _OTHER_NAME:
        advice = "name the server in THORN_LOG as its certificate does"
    elif error.verify_code == _EXPIRED:
        advice = "have it renewed"
    else:
        advice = "set THORN_KAFKA_CA_FILE to the authority that signed it"
    return Found(f"has a certificate that is not to be trusted ({why})", advice)


def words(text: str) -> str:
    """An error's text without what only its programmers need: ``[SSL: X] words (_ssl.c:1006)``."""
    return quoted(_CODES.sub("", text)).replace("_", " ").lower() or "no reason given"
