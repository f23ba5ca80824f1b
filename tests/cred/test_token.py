"""Tokens: made at random, and under which name they log in."""

from __future__ import annotations

import pytest

from pbnb.cred.token import TOKEN_USER, new_token, user_of_token


def test_tokens_are_long_and_differ() -> None:
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50 and min(map(len, tokens)) >= 43
    assert not any(" " in token for token in tokens)
    assert not any(token in repr(token) for token in tokens)


def test_a_token_of_an_invitation_says_whose_it_is() -> None:
    assert user_of_token(f"0123abcd.{new_token()}") == f"{TOKEN_USER}.0123abcd"


@pytest.mark.parametrize("token", ["given", "0123abcd.short", "x.y", "0123ABCD." + "x" * 43])
def test_every_other_token_is_the_server_s_own(token: str) -> None:
    assert user_of_token(token) == TOKEN_USER == user_of_token(new_token())
