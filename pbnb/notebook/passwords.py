"""Asks for a password in the notebook, and leaves it nowhere."""

from __future__ import annotations

import getpass

from IPython.core.error import StdinNotImplementedError, UsageError

from ..cred import Secret

__all__ = ["ask_password"]


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
    try:
        # Looked up now: the kernel puts its own function there while a cell runs.
        password = getpass.getpass(f"password of {user} at {where}: ")
    except StdinNotImplementedError:
        raise UsageError(
            "nobody can be asked for a password here: use pb.connect with a username= and a "
            "password= that come from outside the notebook"
        ) from None
    if not password:
        raise UsageError("no password was typed: there is nothing to log in with")
    return Secret(password)
