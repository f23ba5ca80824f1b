"""The login's calls, one by one, with whatever a peer may send for an argument."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import pbnb as pb
from pbnb.cred import scram
from pbnb.cred.challenge import respond
from pbnb.cred.login import LoginRoot, Salts
from pbnb.cred.scram import client_proof, derive, server_proof, transcript
from pbnb.cred.session import Session
from tests.support.coroutines import finished

HERE = "127.0.0.1:8789"
NONCE = b"n" * 32
REFUSED = "^the login was refused$"


class User(pb.Avatar):
    def __init__(self, name: Any, mind: Any) -> None:
        self.name = name
        self.mind = mind


def root(
    checker: Any = None, *, legacy_auth: bool = False, realm: Any = User, guests: bool = False
) -> LoginRoot:
    portal = pb.Portal(realm, [checker or pb.PasswordChecker(alice="secret")])
    if guests:
        portal.registerChecker(pb.AllowAnonymousAccess())
    salts = Salts(b"of this server")
    return LoginRoot(portal, salts, HERE, legacy_auth=legacy_auth, advice="do it so")


def call(obj: pb.Referenceable, name: str, *args: Any) -> Any:
    return obj.find_remote(name)(*args)


def prove(
    login: LoginRoot, user: Any = b"alice", password: str = "secret", channel: str = HERE
) -> tuple[Any, bytes]:
    """Returns what comes of a proof, and the proof of the server that is due."""
    server_nonce, salt, rounds, challenger = call(login, "login_scram", user, NONCE)
    sent = user if isinstance(user, bytes) else str(user).encode()
    said = transcript(sent, NONCE, server_nonce, salt, rounds, channel.encode())
    keys = derive(password, salt, rounds)
    answer = finished(call(challenger, "prove", client_proof(keys, said), channel))
    return answer, server_proof(keys, said)


def named(session: Any) -> tuple[Any, Any]:
    assert isinstance(session, Session)
    user = session.avatar.perspective
    assert session.avatar_id == user.name
    return user.name, user.mind


# The proof


@pytest.mark.parametrize("user", [b"alice", "alice"])
def test_both_sides_prove_the_password(user: Any) -> None:
    (proof, gate), due = prove(root(), user)
    assert proof == due
    assert named(finished(call(gate, "enter", "mind"))) == ("alice", "mind")


def test_no_avatar_is_made_before_the_gate() -> None:
    made: list[Any] = []

    class Counted(User):
        def __init__(self, name: Any, mind: Any) -> None:
            super().__init__(name, mind)
            made.append(name)

    (_, gate), _ = prove(root(realm=Counted))
    assert made == []
    finished(call(gate, "enter"))
    assert made == ["alice"]
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        finished(call(gate, "enter"))
    assert made == ["alice"]


@pytest.mark.parametrize(
    ("user", "password"),
    [(b"alice", "wrong"), (b"mallory", "secret"), (b"", "secret"), (b"\xff", "secret"), (5, "x")],
)
def test_a_wrong_proof_is_refused_in_the_same_words(user: Any, password: str) -> None:
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        prove(root(), user, password)


def test_what_is_sent_of_an_unknown_user_looks_like_that_of_a_known_one() -> None:
    login = root()
    known = [call(login, "login_scram", b"alice", NONCE) for _ in range(2)]
    unknown = [call(login, "login_scram", b"mallory", NONCE) for _ in range(2)]
    for one, other in (known, unknown):
        assert one[0] != other[0]  # the nonce is new each time
        assert one[1:3] == other[1:3]  # and the salt never: a new one would tell
    assert known[0][1] != unknown[0][1]
    assert [type(part) for part in known[0]] == [type(part) for part in unknown[0]]
    assert [len(part) for part in known[0][:2]] == [len(part) for part in unknown[0][:2]]
    assert Salts(b"of another").of(b"alice") != Salts(b"of this server").of(b"alice")


def test_a_proof_for_another_address_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody passes on what a client has proved to them (attack 45)."""
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        prove(root(), channel="127.0.0.1:6666")
    assert "'alice'" in caplog.text and "6666" in caplog.text
    assert "server_address='127.0.0.1:8789'" in caplog.text


def test_the_address_cannot_be_changed_on_the_way() -> None:
    login = root()
    server_nonce, salt, rounds, challenger = call(login, "login_scram", b"alice", NONCE)
    said = transcript(b"alice", NONCE, server_nonce, salt, rounds, b"127.0.0.1:6666")
    proof = client_proof(derive("secret", salt, rounds), said)
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        finished(call(challenger, "prove", proof, HERE))


def test_a_challenger_may_be_tried_once() -> None:
    server_nonce, salt, rounds, challenger = call(root(), "login_scram", b"alice", NONCE)
    said = transcript(b"alice", NONCE, server_nonce, salt, rounds, HERE.encode())
    proof = client_proof(derive("secret", salt, rounds), said)
    for given in (b"x" * 32, proof):
        with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
            finished(call(challenger, "prove", given, HERE))


@pytest.mark.parametrize("proof", [None, "", 5, b"", b"x" * 10_000, [b"x"]])
@pytest.mark.parametrize("channel", [HERE, None, b"", 5])
def test_what_is_no_proof_at_all(proof: Any, channel: Any) -> None:
    _, _, _, challenger = call(root(), "login_scram", b"alice", NONCE)
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        finished(call(challenger, "prove", proof, channel))


@pytest.mark.parametrize("nonce", [b"", b"n" * 31, "n" * 32, None, 5])
def test_a_nonce_that_is_none(nonce: Any) -> None:
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        call(root(), "login_scram", b"alice", nonce)


# Checkers of the user's own


class Tripping:
    def requestAvatarId(self, credentials: Any) -> Any:
        raise KeyError(credentials.username)


class Trusting:
    def requestAvatarId(self, credentials: Any) -> Any:
        return credentials.username


def test_what_a_checker_trips_over_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        prove(root(Tripping()))
    assert "the checker failed at the login of 'alice'" in caplog.text
    assert "KeyError" in caplog.text


def test_a_checker_that_gives_up_early_takes_as_much_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worked: list[Any] = []

    def counted(*args: Any) -> Any:
        worked.append(args)
        return derive(*args)

    monkeypatch.setattr(scram, "derive", counted)
    for checker in (Tripping(), pb.PasswordChecker(bob="x"), pb.PasswordChecker(alice="x")):
        worked.clear()
        with pytest.raises(pb.UnauthorizedLogin):
            prove(root(checker))
        assert len(worked) == 1, checker


def test_a_checker_that_checks_nothing_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        prove(root(Trusting()))
    assert "without checkPassword" in caplog.text


def test_a_realm_without_an_avatar_says_so() -> None:
    (_, gate), _ = prove(root(realm=lambda name, mind: None))
    with pytest.raises(TypeError, match="no avatar for 'alice'"):
        finished(call(gate, "enter"))


# PB's own login


def test_pbs_own_login() -> None:
    challenge, challenger = call(root(legacy_auth=True), "login", b"alice")
    session = finished(call(challenger, "respond", respond(challenge, "secret"), "mind"))
    assert named(session) == ("alice", "mind")
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        finished(call(challenger, "respond", respond(challenge, "secret"), "mind"))


@pytest.mark.parametrize(
    ("user", "password"), [(b"alice", "wrong"), (b"mallory", "secret"), (b"\xff", "x"), (None, "x")]
)
def test_a_wrong_response_is_refused_in_the_same_words(user: Any, password: str) -> None:
    challenge, challenger = call(root(legacy_auth=True), "login", user)
    assert type(challenge) is bytes and len(challenge) == 16
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        finished(call(challenger, "respond", respond(challenge, password), None))


@pytest.mark.parametrize("response", [None, "", 5, b"", [b"x"]])
def test_what_is_no_response_at_all(response: Any) -> None:
    _, challenger = call(root(legacy_auth=True), "login", b"alice")
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        finished(call(challenger, "respond", response, None))


def test_md5_is_offered_only_where_it_was_asked_for() -> None:
    with pytest.raises(pb.UnauthorizedLogin, match="legacy_auth=True"):
        call(root(), "login", b"alice")


# Guests, and everything else


def test_guests_are_let_in_where_there_are_guests() -> None:
    login = root(guests=True)
    session = finished(call(login, "loginAnonymous", "mind"))
    assert named(session) == (pb.checkers.ANONYMOUS, "mind")
    with pytest.raises(pb.UnauthorizedLogin, match="no anonymous logins"):
        finished(call(root(), "loginAnonymous", None))


@pytest.mark.parametrize("name", ["echo", "", "authenticate", "admit", "rootObject", "login\n"])
def test_nothing_else_can_be_called(name: str) -> None:
    with pytest.raises(pb.UnauthorizedLogin, match="asks for a login first: do it so"):
        root().find_remote(name)


def test_a_refusal_says_more_to_this_side_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="pbnb")
    with pytest.raises(pb.UnauthorizedLogin, match=REFUSED):
        prove(root(), password="wrong")
    assert "refused the login of 'alice': the name or the password is wrong" in caplog.text
    assert "secret" not in caplog.text
