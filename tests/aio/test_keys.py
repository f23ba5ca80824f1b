"""Keys that are made here, and the fingerprints of certificates."""

from __future__ import annotations

import base64
import hashlib
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pbnb.aio.keys import fingerprint, self_signed
from tests.support.certificates import Authority

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_each_key_is_another() -> None:
    one, other = (ssl.PEM_cert_to_DER_cert(self_signed(NOW).certificate.decode()) for _ in "12")
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(one)


def test_a_key_is_not_shown() -> None:
    made = self_signed(NOW)
    assert b"BEGIN PRIVATE KEY" in made.key
    assert "PRIVATE" not in repr(made) + str(made)


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_a_fingerprint_is_what_other_programs_make_of_a_key(kind: str, tmp_path: Path) -> None:
    """As in RFC 7469, section 2.4, where openssl makes a pin."""
    certificate, _ = Authority(tmp_path).issue("server", kind=kind)
    public = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-pubkey"], capture_output=True
    ).stdout
    info = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "der"], input=public, capture_output=True
    ).stdout
    pin = base64.urlsafe_b64encode(hashlib.sha256(info).digest()).decode().rstrip("=")
    assert fingerprint(ssl.PEM_cert_to_DER_cert(certificate.read_text())) == pin
    assert len(pin) == 43


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"nothing"])
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError):
        fingerprint(data)
