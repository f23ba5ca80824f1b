"""The line of an invitation: what it holds, what it hides, and what is none."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbnb.cred import Invitation

KEY = "k" * 43
TOKEN = "t0ken-" * 7
LINE = f"pbnb:192.0.2.7:8789,key={KEY},token={TOKEN}"


def test_a_line_is_read_and_written() -> None:
    invitation = Invitation.parse(f"  {LINE}\n")
    assert (invitation.address, invitation.key, invitation.token) == ("192.0.2.7:8789", KEY, TOKEN)
    assert invitation.reveal() == LINE
    assert Invitation.parse("pbnb:[::1]:9").reveal() == "pbnb:[::1]:9"


@given(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.none() | st.just(KEY),
    st.none() | st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_any_address_and_token_comes_back(address: str, key: str | None, token: str | None) -> None:
    line = Invitation(address, key, token).reveal()
    assert len(line.split()) == 1 and line.isascii()
    # What IPython would replace, or end the line at, and what a shell would split.
    assert not set("{}$#?&;|'\"\\`<>()!* ") & set(line)
    if len(line) <= 2000:
        found = Invitation.parse(line)
        assert (found.address, found.key, found.token) == (address, key, token)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "192.0.2.7:8789",
        "pbnb:",
        f"pbnb:,key={KEY}",
        f"pbnb:a:1,key={KEY},key={KEY}",
        "pbnb:a:1,key=",
        "pbnb:a:1,token",
        "pbnb:a:1,colour=red",
        f"pbnb:a:1,token={TOKEN}é",
        "pbnb:a:1,token=" + "x" * 3000,
    ],
)
def test_what_is_no_invitation(line: str) -> None:
    with pytest.raises(ValueError, match=r"^that is no invitation: it has to be the whole line"):
        Invitation.parse(line)


@pytest.mark.parametrize("key", [KEY[1:], KEY + "k", "k" * 42 + "!"])
def test_a_key_that_was_copied_badly(key: str) -> None:
    with pytest.raises(ValueError, match=r"^the key of that invitation is not whole") as caught:
        Invitation.parse(f"pbnb:a:1,key={key},token={TOKEN}")
    text = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in text


def test_a_line_that_breaks_the_rules_is_not_quoted() -> None:
    with pytest.raises(ValueError) as caught:
        Invitation.parse(LINE + ",more=1")
    assert TOKEN not in str(caught.value) and caught.value.__context__ is None


def test_nothing_but_reveal_shows_the_token() -> None:
    invitation = Invitation.parse(LINE)
    for shown in (
        repr(invitation),
        str(invitation),
        f"{invitation}",
        invitation._repr_html_(),
        repr(invitation.token),
        repr(invitation.reveal()),
        repr([invitation]),
    ):
        assert TOKEN not in shown and KEY not in shown
    assert str(invitation) == "pbnb:192.0.2.7:8789,key=kkkkkkkk…,token=…"
    assert TOKEN in str(invitation.reveal())


def test_an_address_that_would_steer_a_page_is_escaped() -> None:
    invitation = Invitation("<b>\x1b[2J</b>:1", None, TOKEN)
    assert "\x1b" not in str(invitation) + invitation._repr_html_()
    assert "<b>\\x1b" not in invitation._repr_html_()


def test_what_is_told_of_a_server() -> None:
    alone = Invitation.of("localhost:1", "secret")
    assert (alone.address, alone.key, alone.token) == ("localhost:1", None, "secret")
    whole = Invitation.of(LINE)
    assert whole.token == TOKEN and Invitation.of(whole) is whole
    both = Invitation.of(f"pbnb:a:1,key={KEY}", "secret")
    assert (both.address, both.key, both.token) == ("a:1", KEY, "secret")
    with pytest.raises(TypeError, match="holds a token already"):
        Invitation.of(LINE, "secret")
