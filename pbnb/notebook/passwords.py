"""Asks for a password or an invitation in the notebook, and leaves it nowhere."""

from __future__ import annotations

import getpass

from IPython.core.error import StdinNotImplementedError, UsageError

from ..cred import Secret

__all__ = ["ask_invitation", "ask_password"]


def ask_password(user: str, where: str) -> str:
    """Returns the password that the user types, which is not shown while it is typed.

    It goes from the front end to the kernel as an answer, which is part of no cell, no output and
    no history.

    Args:
        user: Whose password it is.
        where: The server that it is for.

    Raises:
        UsageError: The front end cannot ask, or nothing was typed.
    """
    password = _ask(f"password of {user} at {where}: ")
    if password is None:
        raise UsageError(
            "nobody can be asked for a password here: use pb.connect with a username= and a "
            "password= that come from outside the notebook"
        )
    if not password:
        raise UsageError("no password was typed: there is nothing to log in with")
    return password


def ask_invitation() -> Secret:
    """Returns the line of an invitation that the user pastes, which is not shown either.

    Raises:
        UsageError: The front end cannot ask, or nothing was pasted.
    """
    line = _ask("invitation: ")
    if line is None:
        raise UsageError(
            "nobody can be asked for an invitation here: connect with %pb_connect {variable}, "
            "where the variable has it from outside the notebook"
        )
    if not line.strip():
        raise UsageError("no invitation was pasted: there is nothing to connect to")
    return line


def _ask(prompt: str) -> Secret | None:
    try:
        # Looked up now: the kernel puts its own function there while a cell runs.
        return Secret(getpass.getpass(prompt))
    except StdinNotImplementedError:
        return None
