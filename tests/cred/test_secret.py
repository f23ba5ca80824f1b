"""A secret is text, and is not seen by accident."""

from __future__ import annotations

import json
import traceback
from typing import Any

from IPython.lib.pretty import pretty

from pbnb.cred import Secret

WORD = "correct horse"


def test_it_is_the_text() -> None:
    secret = Secret(WORD)
    assert secret == WORD and str(secret) == WORD and f"{secret}" == WORD
    assert secret.encode() == WORD.encode() and json.dumps(secret) == json.dumps(WORD)


def test_where_it_is_looked_at_it_is_hidden() -> None:
    secret = Secret(WORD)
    held: list[Any] = [secret, {"token": secret}, (secret,)]
    for shown in (repr(secret), repr(held), pretty(held), f"{secret!r}"):
        assert WORD not in shown and "<hidden>" in shown


def test_a_traceback_with_variables_does_not_show_it() -> None:
    def fail(secret: Secret) -> None:
        raise RuntimeError

    try:
        fail(Secret(WORD))
    except RuntimeError as error:
        found = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(found.format())
    assert "secret = <hidden>" in text and WORD not in text
