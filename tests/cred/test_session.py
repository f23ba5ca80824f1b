"""Sessions: what the peer is given, and the one end."""

from __future__ import annotations

import pytest

import pbnb as pb
from pbnb.cred.session import Session


class User(pb.Avatar):
    def perspective_name(self) -> str:
        return "alice"


def test_an_avatar_is_lent_by_its_perspective_methods() -> None:
    user = User()
    session = Session(user, lambda: None)
    assert isinstance(session.avatar, pb.AsReferenceable)
    assert session.avatar.perspective is user
    assert session.avatar.find_remote("name")() == "alice"
    with pytest.raises(pb.NoSuchMethod, match="perspective_find_remote"):
        session.avatar.find_remote("find_remote")


def test_each_login_has_a_reference_of_its_own() -> None:
    user = User()
    one, other = Session(user, lambda: None), Session(user, lambda: None)
    assert one.avatar.processUniqueID() != other.avatar.processUniqueID()


def test_what_can_be_sent_is_sent_as_it_is() -> None:
    for avatar in (pb.Referenceable(), pb.Copyable()):
        assert Session(avatar, lambda: None).avatar is avatar


def test_a_viewable_is_seen_by_nobody_in_particular() -> None:
    viewed = pb.Viewable()
    avatar = Session(viewed, lambda: None).avatar
    assert isinstance(avatar, pb.ViewPoint)
    assert (avatar.perspective, avatar.object) == (None, viewed)


def test_a_session_ends_once() -> None:
    ended: list[str] = []

    def logout() -> str:
        ended.append("logout")
        return "what it returned"

    session = Session(User(), logout)
    assert session.end() == "what it returned"
    assert session.end() is None
    assert ended == ["logout"]


def test_a_logout_that_fails_is_not_tried_again() -> None:
    session = Session(User(), [].pop)
    with pytest.raises(IndexError):
        session.end()
    assert session.end() is None
