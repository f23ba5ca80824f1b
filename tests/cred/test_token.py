"""Tokens: made at random, and the portal behind which one object stands."""

from __future__ import annotations

import pytest

import pbnb as pb
from pbnb.cred.token import TOKEN_USER, new_token, token_portal
from tests.support.coroutines import finished


def test_tokens_are_long_and_differ() -> None:
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50 and min(map(len, tokens)) >= 43
    assert not any(" " in token for token in tokens)


def test_the_token_leads_to_the_object() -> None:
    root = pb.Root()
    portal = token_portal("given", lambda: root)
    _, avatar, _ = finished(portal.login(pb.UsernamePassword(TOKEN_USER, "given")))
    assert avatar is root
    for name, token in [(TOKEN_USER, "other"), ("alice", "given")]:
        with pytest.raises(pb.UnauthorizedLogin):
            finished(portal.login(pb.UsernamePassword(name, token)))
    with pytest.raises(pb.UnauthorizedLogin):
        finished(portal.login(pb.Anonymous()))


def test_an_object_of_its_own_logout_is_not_logged_out() -> None:
    """What is served to many is not theirs to end."""

    class Served(pb.Root):
        def logout(self) -> None:
            raise AssertionError("somebody logged the served object out")

    _, _, logout = finished(
        token_portal("given", Served).login(pb.UsernamePassword(TOKEN_USER, "given"))
    )
    logout()
