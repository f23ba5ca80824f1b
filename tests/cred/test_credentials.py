"""Credentials: what they hold, and that they do not show it."""

from __future__ import annotations

import pytest

from pbnb.cred.credentials import Anonymous, UsernamePassword, as_bytes


@pytest.mark.parametrize("right", ["secret", b"secret"])
@pytest.mark.parametrize("given", ["secret", b"secret"])
def test_text_and_bytes_are_the_same_password(given: str | bytes, right: str | bytes) -> None:
    assert UsernamePassword("alice", given).checkPassword(right)
    assert not UsernamePassword("alice", given).checkPassword("secrets")
    assert not UsernamePassword("alice", given).checkPassword("")


def test_the_password_is_not_shown() -> None:
    assert repr(UsernamePassword("alice", "secret")) == "UsernamePassword(username='alice')"
    assert "secret" not in str(UsernamePassword("alice", b"secret"))


def test_a_name_that_was_given_as_bytes_is_text() -> None:
    assert UsernamePassword(b"zo\xc3\xab", "x").username == "zoë"  # type: ignore[arg-type]


def test_passwords_that_are_no_ascii() -> None:
    assert as_bytes("ë") == b"\xc3\xab"
    assert UsernamePassword("alice", "ë").checkPassword(b"\xc3\xab")


def test_guests_are_equal() -> None:
    assert Anonymous() == Anonymous()
