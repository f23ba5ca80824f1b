"""Failures on the wire: ``["twisted.spread.pb.CopyableFailure", state]``.

The state is a dictionary of, in Twisted's order, ``count``, ``type`` (bytes, the qualified name
of the exception), ``value`` (its text), ``captureVars``, ``tb``, ``unsafeTracebacks``,
``parents`` (the names of all classes the exception is an instance of, which is what a peer's
``trap`` compares), ``frames``, ``stack`` and ``traceback``. Keys and texts go out as text, which
every peer reads; from Python 2 they come as bytes.
"""

from __future__ import annotations

import itertools
from typing import Any

from ..errors import InsecureJelly, wire_name
from ..failure import CopiedFailure, Failure

__all__ = ["FAILURE_TAG", "NO_TRACEBACK", "failure_from_state", "failure_state", "shown_tag"]

FAILURE_TAG = b"twisted.spread.pb.CopyableFailure"
NO_TRACEBACK = "Traceback unavailable\n"

_LONGEST_TEXT = 64 * 1024
_LONGEST_NAME = 1000
_MOST_PARENTS = 100
_counter = itertools.count(1)


def failure_state(failure: Failure, unsafe_tracebacks: bool = False) -> dict[str, Any]:
    """Returns the state under which a failure travels.

    Args:
        failure: A failure of this process, or one of another peer that is passed on.
        unsafe_tracebacks: Send the traceback too, with the paths and lines of this process.
    """
    if isinstance(failure, CopiedFailure):
        # Passed on: type and parents stay, so that the caller can still trap it; the traceback
        # was not written for the peer that gets it now.
        kind, text, traceback = failure.type, failure.value, NO_TRACEBACK
    else:
        kind, text = wire_name(failure.type), failure.getErrorMessage()
        traceback = failure.getTraceback() if unsafe_tracebacks else NO_TRACEBACK
    return {
        "count": next(_counter),
        "type": kind[:_LONGEST_NAME].encode("utf-8", "replace"),
        "value": _sendable(text),
        "captureVars": False,
        "tb": None,
        "unsafeTracebacks": unsafe_tracebacks,
        "parents": [_sendable(name[:_LONGEST_NAME]) for name in failure.parents[:_MOST_PARENTS]],
        "frames": [],
        "stack": [],
        "traceback": _sendable(traceback),
    }


def failure_from_state(state: Any) -> CopiedFailure:
    """Returns the failure that a peer describes.

    Args:
        state: What arrived; only the type, text, traceback and parents are read.

    Raises:
        InsecureJelly: It is no failure's state.
    """
    if type(state) is not dict:
        raise InsecureJelly(f"the state of a failure is a dictionary, not {type(state).__name__}")
    fields = {_text(key): value for key, value in state.items()}
    kind = _text(fields.get("type")) or "an exception without a type"
    parents = fields.get("parents")
    names = [_text(each) for each in parents[:_MOST_PARENTS]] if type(parents) is list else []
    return CopiedFailure(
        type=kind,
        value=_text(fields.get("value")),
        traceback=_text(fields.get("traceback")) or NO_TRACEBACK,
        parents=names or [kind],
    )


def _text(value: Any) -> str:
    if type(value) is bytes:
        return value.decode("utf-8", "replace")
    return value if type(value) is str else ""


def _sendable(text: str) -> str:
    # A failure must always arrive: lone surrogates cannot be encoded, megabytes do not fit.
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shown_tag(tag: object) -> str:
    """Returns a word of the peer's as something that is safe to show."""
    text = tag[:_LONGEST_NAME].decode("utf-8", "replace") if isinstance(tag, bytes) else str(tag)
    text = text if len(text) <= 200 else text[:200] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
