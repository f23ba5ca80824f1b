from __future__ import annotations

import pytest
from IPython.core.error import UsageError

from pbnb.notebook.lines import split_serve, takes, without_comment


@pytest.mark.parametrize(
    ("line", "expression", "options"),
    [
        ("Echoer()", "Echoer()", []),
        ("", "", []),
        ("  Echoer()  --port 8800 ", "Echoer()", ["--port", "8800"]),
        ("Echoer() --port=8800", "Echoer()", ["--port", "8800"]),
        ("--port 8800 Echoer()", "Echoer()", ["--port", "8800"]),
        ("--anonymous Echoer() --name foo", "Echoer()", ["--anonymous", "--name", "foo"]),
        ("--legacy-auth Echoer()", "Echoer()", ["--legacy-auth"]),
        ("Echoer() --name 'foo'", "Echoer()", ["--name", "foo"]),
        ("Echoer() --host ::1", "Echoer()", ["--host", "::1"]),
        ("--anonymous", "", ["--anonymous"]),
        ("a --thread --serial", "a", ["--thread", "--serial"]),
        ("--deadline=30 a", "a", ["--deadline", "30"]),
        ("a --insecure --client-ca ca.pem", "a", ["--insecure", "--client-ca", "ca.pem"]),
        ("a --unix", "a", ["--unix"]),
        ("--unix a", "a", ["--unix"]),
        ("--unix a() --name b", "a()", ["--unix", "--name", "b"]),
        ("a --unix /run/desk", "a", ["--unix", "/run/desk"]),
        ("--unix ~/desk a", "a", ["--unix", "~/desk"]),
        ("--unix=desk a", "a", ["--unix", "desk"]),
        # An expression is left as it is.
        ("Echoer('a  b', {1: 2})", "Echoer('a  b', {1: 2})", []),
        ("Echoer('--port 1')", "Echoer('--port 1')", []),
        ("a --b", "a --b", []),
        ("(a --anonymous)", "(a --anonymous)", []),
        ("Echoer('#')  # --port 1", "Echoer('#')", []),
        ("Echoer() --port 8800  # a comment", "Echoer()", ["--port", "8800"]),
        ("Echoer(", "Echoer(", []),
    ],
)
def test_an_expression_between_options(line: str, expression: str, options: list[str]) -> None:
    found, words = split_serve(line)
    assert found == expression
    pairs = {word: words[at + 1 : at + 2] for at, word in enumerate(words) if word[:2] == "--"}
    wanted = {word: options[at + 1 : at + 2] for at, word in enumerate(options) if word[:2] == "--"}
    assert sorted(pairs) == sorted(wanted)
    assert sorted(words) == sorted(options)


@pytest.mark.parametrize("line", ["Echoer() --prot 80", "--nmae foo Echoer()", "Echoer() --port"])
def test_an_unknown_option_is_named(line: str) -> None:
    with pytest.raises(UsageError, match="--(prot|nmae|port) is not an option with a value"):
        split_serve(line)


@pytest.mark.parametrize(
    ("line", "without"),
    [
        ("127.0.0.1:8789          # another notebook", "127.0.0.1:8789"),
        ("foo", "foo"),
        ("# only that", ""),
        ("'#' # x", "'#'"),
        ("[::1]:8789", "[::1]:8789"),
        ("'open", "'open"),
    ],
)
def test_a_comment_is_left_out(line: str, without: str) -> None:
    assert without_comment(line) == without


def test_a_magic_says_what_it_takes() -> None:
    @takes(target={"nargs": "?", "metavar": "TARGET", "help": "where to"}, port={"type": int})
    def pb_try(self: object, line: str) -> None:
        """Tries."""

    parsed = pb_try.parser.parse_args(["here", "--port", "8"])  # type: ignore[attr-defined]
    assert (parsed.target, parsed.port) == ("here", 8)
    text = pb_try.__doc__ or ""
    assert "%pb_try [--port PORT] [TARGET]" in text
    assert "where to" in text
