"""PB's own challenge and response, in the numbers of its wire."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from pbnb.cred.challenge import Challenge, new_challenge, respond

CHALLENGE = bytes(range(16))
# md5(md5(b"correct horse") + bytes(range(16))), computed with coreutils' md5sum.
RESPONSE = bytes.fromhex("7e345f620793bf8fda58c3aeec8a6e33")


def test_the_response_of_the_wire() -> None:
    assert respond(CHALLENGE, "correct horse") == RESPONSE
    assert respond(CHALLENGE, b"correct horse") == RESPONSE


def test_the_right_response_is_accepted() -> None:
    assert Challenge("alice", CHALLENGE, RESPONSE).checkPassword("correct horse")
    digest = hashlib.md5(b"correct horse", usedforsecurity=False).digest()
    assert Challenge("alice", CHALLENGE, RESPONSE).checkMD5Password(digest)


@pytest.mark.parametrize("response", [b"", RESPONSE[:-1], RESPONSE + b"x", bytes(16)])
def test_another_response_is_not(response: bytes) -> None:
    given = Challenge("alice", CHALLENGE, response)
    assert not given.checked
    assert not given.checkPassword("correct horse")
    assert given.checked


def test_a_response_is_good_for_one_challenge() -> None:
    assert not Challenge("alice", CHALLENGE[::-1], RESPONSE).checkPassword("correct horse")


def test_md5_is_not_asked_for_as_a_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host whose OpenSSL forbids it for security."""
    real = hashlib.md5

    def strict(data: bytes = b"", *, usedforsecurity: bool = True) -> Any:
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return real(data, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "md5", strict)
    assert respond(CHALLENGE, "correct horse") == RESPONSE


def test_a_challenge_is_the_noise_it_is_given() -> None:
    assert new_challenge(b"x" * 20) == b"x" * 16
    with pytest.raises(ValueError, match="16 random bytes, not 15"):
        new_challenge(b"x" * 15)
