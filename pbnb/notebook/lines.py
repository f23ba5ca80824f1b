"""Reads the lines that users write after the magics."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable
from typing import Any, TypeVar

from IPython.core import magic_arguments
from IPython.core.error import UsageError

__all__ = ["split_serve", "takes", "without_comment"]

F = TypeVar("F", bound=Callable[..., Any])

_NAMES = "port|host|name|output|deadline|certfile|keyfile|client-ca"
_OPTION = (
    r"--(?:(?P<flag>anonymous|legacy-auth|thread|serial|insecure)"
    # An expression cannot begin as a path does.
    r"|unix(?:=(?P<socket>\S+)|\s+(?P<path>(?:/|\./|~/)\S*)|(?P<unix>(?=\s|$)))"
    rf"|(?P<name>{_NAMES})(?:\s*=\s*|\s+)(?P<value>\S+))"
)
_FIRST_OPTION = re.compile(rf"{_OPTION}(?:\s+|$)")
_LAST_OPTION = re.compile(rf"(?:^|\s+){_OPTION}$")
_ANY_OPTION = re.compile(r"(?:^|\s)(--[a-z]\S*)")
_WITHOUT_VALUE = re.compile(rf"(?:^|\s)(--(?:{_NAMES}))$")


def takes(**arguments: dict[str, Any]) -> Callable[[F], F]:
    """Makes a method say in ``%magic?`` what it takes, and gives it a ``parser``.

    Args:
        **arguments: What `argparse` is told of each argument. Those with a ``metavar`` are
            positional, the others are options.
    """
    # IPython's decorators have no types; none of their Any gets out of here.
    untyped: Any = magic_arguments

    def decorate(method: F) -> F:
        for name, told in reversed(arguments.items()):
            flag = name if "metavar" in told else f"--{name.replace('_', '-')}"
            method = untyped.argument(flag, **told)(method)
        decorated: F = untyped.magic_arguments()(method)
        return decorated

    return decorate


def without_comment(line: str) -> str:
    """Returns a line without the comment at its end.

    Args:
        line: What follows the name of a magic.
    """
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            if token.type == tokenize.COMMENT:
                return line[: token.start[1]].strip()
    except (tokenize.TokenError, SyntaxError):
        pass  # not Python, such as a lone bracket; then there is no telling what # means
    return line.strip()


def split_serve(line: str) -> tuple[str, list[str]]:
    """Splits what follows ``%pb_serve`` into an expression, and options before and after it.

    An expression may hold spaces, quotes and dashes, so that it cannot be found by splitting the
    line into words.

    Args:
        line: What follows the name of the magic.

    Raises:
        UsageError: The expression is no Python, and looks as if an option was meant.
    """
    rest = without_comment(line)
    options: list[str] = []
    while found := _FIRST_OPTION.match(rest) or _LAST_OPTION.search(rest):
        options += _words(found)
        rest = (rest[: found.start()] + rest[found.end() :]).strip()
    if wrong := _WITHOUT_VALUE.search(rest) or (not _is_python(rest) and _ANY_OPTION.search(rest)):
        raise UsageError(
            f"{wrong[1]} is not an option with a value that %pb_serve takes: "
            "see %pb_serve? for those that are"
        )
    return rest, options


def _is_python(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True


def _words(option: re.Match[str]) -> list[str]:
    if option["flag"]:
        return [f"--{option['flag']}"]
    if option["name"] is None:
        path = option["socket"] or option["path"]
        return ["--unix", path.strip("'\"")] if path else ["--unix"]
    return [f"--{option['name']}", option["value"].strip("'\"")]
