from __future__ import annotations

import html
import re

import pytest

from pbnb.cards import card


def words(made: str) -> list[str]:
    return [html.unescape(word) for word in re.findall(r">([^<]+)<", made)]


def test_a_card_names_what_is_known() -> None:
    made = card("Server", of="Echoer", on="127.0.0.1:1", state="", user=None)
    assert words(made) == ["Server", "of", " Echoer", "on", " 127.0.0.1:1"]


@pytest.mark.parametrize(
    "word",
    ["<img src=x onerror=alert(1)>", "</script><script>", "\"'><b>", "&lt;", "x" * 200],
)
def test_a_word_is_only_text(word: str) -> None:
    made = card(word, fact=word)
    assert words(made) == [word, "fact", " " + word]
    assert set(re.findall(r"<(/?\w+)", made)) == {"div", "/div", "b", "/b", "span", "/span"}


def test_ten_megabytes_are_cut() -> None:
    assert len(card("x" * 10_000_000, fact="<" * 10_000_000)) < 2500
