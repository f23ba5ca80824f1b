"""The guests of a server: who is let in, to what, and until when."""

from __future__ import annotations

from typing import Any

import pytest

import pbnb as pb
from pbnb.cred.guests import OWNER, Guest, Guests, Only, guest_portal
from pbnb.cred.token import TOKEN_USER
from tests.support.coroutines import finished


class Desk(pb.Root):
    pb_concurrency = "serial"

    def remote_read(self) -> str:
        return "read"

    def remote_write(self) -> str:
        return "written"

    def logout(self) -> None:
        raise AssertionError("somebody logged the served object out")


class Holder:
    """Stands for a connection."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def login(guests: Guests, guest: Guest, token: str | None = None, user: str | None = None) -> Any:
    portal = guest_portal(guests, Holder(), Desk)
    name, word = user or guest.user, guest.token if token is None else token
    _, avatar, logout = finished(portal.login(pb.UsernamePassword(name, word)))
    logout()
    return avatar


def test_the_token_leads_to_the_object() -> None:
    guests = Guests()
    owner = guests.add(OWNER, "given")
    assert owner.user == TOKEN_USER
    assert isinstance(login(guests, owner), Desk)


def test_each_guest_has_a_token_of_their_own() -> None:
    guests = Guests()
    one, other = guests.add("one"), guests.add("other", obj=Desk())
    assert login(guests, one) is not other.obj
    assert login(guests, other) is other.obj
    for guest, wrong in ((one, other), (other, one)):
        with pytest.raises(pb.UnauthorizedLogin):
            login(guests, guest, token=wrong.token)
    for user in ("alice", TOKEN_USER, "one"):
        with pytest.raises(pb.UnauthorizedLogin):
            login(guests, one, user=user)


def test_whoever_is_not_invited_is_checked_as_those_who_are() -> None:
    """As much work, and the same words, whatever is wrong."""
    clock = Clock()
    guests = Guests(clock)
    over, gone = guests.add("over", expires=clock.now + 1), guests.add("gone")
    clock.now += 1
    guests.remove(gone)
    checked: list[Any] = []

    class Credentials(pb.UsernamePassword):
        def checkPassword(self, password: str | bytes) -> bool:
            checked.append(password)
            return super().checkPassword(password)

    said = set()
    for user, token in ((over.user, over.token), (gone.user, gone.token), ("pbnb.none", "x")):
        with pytest.raises(pb.UnauthorizedLogin) as caught:
            guests.requestAvatarId(Credentials(user, token))
        said.add(str(caught.value))
    assert len(said) == 1 and len(checked) == 3
    assert not {over.token, gone.token} & {str(each) for each in checked}


def test_an_invitation_ends_at_its_time() -> None:
    clock = Clock()
    guests = Guests(clock)
    guest = guests.add("alice", expires=clock.now + 60)
    clock.now += 59
    assert isinstance(login(guests, guest), Desk)
    assert guests.pop_expired() == []
    clock.now += 1
    assert list(guests) == [] and guests.find("alice") is None
    with pytest.raises(pb.UnauthorizedLogin):
        login(guests, guest)
    again = guests.add("alice")
    assert guests.pop_expired() == [guest]
    assert list(guests) == [again]


def test_what_was_taken_back_between_proof_and_entrance_does_not_open() -> None:
    guests = Guests()
    guest = guests.add("alice")
    portal = guest_portal(guests, holder := Holder(), Desk)
    known = finished(portal.authenticate(pb.UsernamePassword(guest.user, guest.token)))
    guests.remove(guest)
    guests.add("alice")
    with pytest.raises(pb.UnauthorizedLogin):
        finished(portal.avatar(known))
    # It is known all the same, for whoever took it back in another thread meanwhile.
    assert holder in guest.holders


def test_names() -> None:
    guests = Guests()
    assert guests.add().name == "guest-1"
    guests.add("alice")
    with pytest.raises(ValueError, match="there is an invitation alice already"):
        guests.add("alice")
    for name in ("", "1", "a b", "x" * 65, "<b>"):
        with pytest.raises(ValueError, match="cannot be the name of an invitation"):
            guests.add(name)
    assert [each.name for each in guests] == ["guest-1", "alice"]


def test_no_secret_is_shown() -> None:
    guests = Guests()
    guest = guests.add("alice")
    assert repr(guest) == "<Guest alice>"
    assert guest.token not in repr(vars(guests)) + repr(guest.token)


def test_only_some_methods() -> None:
    only = Only(desk := Desk(), frozenset({"read", "nothing"}))
    assert only.find_remote("read")() == "read"
    with pytest.raises(pb.NoSuchMethod, match="'write' is not among the methods of this inv"):
        only.find_remote("write")
    with pytest.raises(pb.NoSuchMethod):
        only.find_remote("nothing")
    # A serial object has one line of calls, by whatever door they come.
    assert (only.object, only.pb_concurrency) == (desk, "serial")


def test_a_guest_with_less_to_call() -> None:
    guests = Guests()
    avatar = login(guests, guests.add("alice", methods=["read"]))
    assert isinstance(avatar, Only) and avatar.find_remote("read")() == "read"
