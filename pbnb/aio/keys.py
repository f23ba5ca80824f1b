"""Keys and certificates that are made here, and fingerprints of those of others.

It is imported where TLS is used, and not before: `cryptography` takes its time.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

__all__ = ["SelfSigned", "fingerprint", "self_signed"]

# Those who connect compare the key and not the dates, and a kernel may run for long.
_VALID = timedelta(days=3650)
_CLOCKS_DIFFER = timedelta(days=1)


class SelfSigned(NamedTuple):
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "<a certificate and its key>"


def self_signed(now: datetime) -> SelfSigned:
    """Returns a new key, with a certificate that nobody but itself vouches for.

    Args:
        now: The time, with its zone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pbnb")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + _VALID)
        .sign(key, hashes.SHA256())
    )
    return SelfSigned(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def fingerprint(certificate: bytes) -> str:
    """Returns the fingerprint of a certificate's key: what an invitation holds.

    Args:
        certificate: The certificate, as DER.

    Raises:
        ValueError: It is no certificate, or its key is of a kind that nobody knows.
    """
    key = x509.load_der_x509_certificate(certificate).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(info).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
