"""Checkers: who is let in, and that the rest take the same work."""

from __future__ import annotations

import pytest

import pbnb as pb
from pbnb.cred.credentials import PasswordCredentials, UsernamePassword


class Counted(PasswordCredentials):
    """Credentials that count how often they are checked."""

    def __init__(self, username: str, password: str) -> None:
        self.username = username
        self.tried: list[str | bytes] = []
        self._password = password.encode()

    def checkPassword(self, password: str | bytes) -> bool:
        self.tried.append(password)
        return password == self._password


def test_the_right_password_gives_the_name() -> None:
    checker = pb.PasswordChecker({"alice": "secret", "with space": b"other"}, bob="third")
    assert checker.requestAvatarId(UsernamePassword("alice", "secret")) == "alice"
    assert checker.requestAvatarId(UsernamePassword("with space", "other")) == "with space"
    assert checker.requestAvatarId(UsernamePassword("bob", "third")) == "bob"


def test_wrong_passwords_and_unknown_names_are_refused_alike() -> None:
    checker = pb.PasswordChecker(alice="secret")
    said = set()
    for name, password in [("alice", "wrong"), ("mallory", "secret"), ("", ""), ("alice", "")]:
        with pytest.raises(pb.UnauthorizedLogin) as caught:
            checker.requestAvatarId(UsernamePassword(name, password))
        said.add(str(caught.value))
    assert len(said) == 1


def test_an_unknown_name_takes_one_check_as_a_known_one_does() -> None:
    checker = pb.PasswordChecker(alice="secret")
    known, unknown = Counted("alice", "wrong"), Counted("mallory", "wrong")
    for credentials in (known, unknown):
        with pytest.raises(pb.UnauthorizedLogin):
            checker.requestAvatarId(credentials)
    assert known.tried == [b"secret"]
    assert len(unknown.tried) == 1 and len(unknown.tried[0]) == 32


def test_users_can_be_added_and_changed() -> None:
    checker = pb.checkers.InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(b"alice", b"secret")
    assert checker.requestAvatarId(UsernamePassword("alice", "secret")) == "alice"
    checker.addUser("alice", "changed")
    with pytest.raises(pb.UnauthorizedLogin):
        checker.requestAvatarId(UsernamePassword("alice", "secret"))


@pytest.mark.parametrize(("name", "password"), [("", "x"), ("alice", ""), ("alice", b"")])
def test_empty_names_and_passwords_are_no_users(name: str, password: str | bytes) -> None:
    with pytest.raises(ValueError, match="not empty"):
        pb.PasswordChecker({name: password})


def test_passwords_are_not_shown() -> None:
    assert repr(pb.PasswordChecker(alice="secret")) == "<PasswordChecker of 1 users>"


def test_guests_have_no_name() -> None:
    checker = pb.AllowAnonymousAccess()
    assert checker.requestAvatarId(pb.Anonymous()) is pb.checkers.ANONYMOUS
