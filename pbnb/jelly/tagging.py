"""What the types have in common that PB never had: a name, a state, and memory in it.

``[name, state]`` looks like a copy, so that a program on Twisted refuses it as a type that it
does not know. Memory of less than 64 KiB is copied into the expression. More of it travels
beside the message where the dialect can do that, uncopied, and is read when it is written to the
socket. Where it cannot, a byte string of PB's own holds as much as one may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import BananaError, InsecureJelly
from ..wire.banana import Tree
from ..wire.transfers import OutOfBand

if TYPE_CHECKING:
    from .jelly import Jellier

__all__ = [
    "Foreign",
    "PeerNotAsked",
    "carried",
    "check_reads",
    "check_size",
    "malformed",
    "parts_of",
    "shape_in",
    "tagged",
]

_SMALL = 64 * 1024


class Foreign(NamedTuple):
    """How objects of another library's class are sent.

    Attributes:
        is_atom: Whether they are values, and not shared by identity.
        write: Returns the expression of an atom, or fills in that of another object.
    """

    is_atom: bool
    write: Callable[..., Any]


class PeerNotAsked(InsecureJelly):
    """It is not known yet whether the peer reads a type that PB never had."""


def check_reads(jellier: Jellier, tag: bytes) -> None:
    """Refuses a type that the peer does not read.

    Raises:
        PeerNotAsked: Nobody has asked it yet.
        InsecureJelly: It does not.
    """
    known = jellier.peer_types
    if known is None:
        raise PeerNotAsked(f"it is not known whether the peer reads {tag.decode()}")
    if tag not in known:
        raise InsecureJelly(
            f"a value of the type {tag.decode()} is not sent: this peer speaks plain Perspective "
            "Broker, which has no such type"
        )


def tagged(jellier: Jellier, tag: bytes, state: Any) -> list[Tree]:
    """Returns the expression of a value of a type that the peer has to read."""
    check_reads(jellier, tag)
    return [tag, state]


def carried(jellier: Jellier, data: Any, what: str) -> Any:
    """Returns what stands in an expression for memory.

    Args:
        jellier: Knows what the connection can carry.
        data: The memory, contiguous.
        what: What it belongs to, for the error.

    Raises:
        BananaError: It is too large for the wire.
    """
    view = memoryview(data)
    size = view.nbytes
    if size < _SMALL:
        return bytes(view)
    check_size(jellier, size, what)
    return OutOfBand(view.cast("B")) if jellier.carries_memory else bytes(view)


def check_size(jellier: Jellier, size: int, what: str) -> None:
    """Refuses memory that the connection cannot carry.

    Raises:
        BananaError: It is too large for the wire.
    """
    limits = jellier.limits
    if jellier.carries_memory:
        if size > limits.buffer_bytes:
            raise BananaError(
                f"cannot send {what} of {size} bytes: the limit buffer_bytes is "
                f"{limits.buffer_bytes}"
            )
    elif size > limits.string_bytes:
        raise BananaError(
            f"cannot send {what} of {size} bytes in Perspective Broker's own dialect, whose byte "
            f"strings end at {limits.string_bytes} bytes: let both sides speak pbnb1, or send it "
            "in pages, with a StringPager"
        )


def malformed(tree: list[Tree], why: object) -> InsecureJelly:
    """Returns the error of an expression that makes no sense."""
    tag = tree[0]
    assert isinstance(tag, bytes)
    return InsecureJelly(f"malformed {tag.decode()}: {why}")


def parts_of(tree: list[Tree], *kinds: Any) -> list[Any]:
    """Returns the parts of a state that is a list.

    Args:
        tree: The whole expression.
        *kinds: The type of each part, or a tuple of types.

    Raises:
        InsecureJelly: It is not made so.
    """
    state = tree[1] if len(tree) == 2 else None
    if type(state) is not list or len(state) != len(kinds) + 1 or state[0] != b"list":
        raise malformed(tree, f"its state is a list of {len(kinds)}")
    for part, kind in zip(state[1:], kinds, strict=True):
        if type(part) is not kind and not (type(kind) is tuple and type(part) in kind):
            raise malformed(tree, f"a part of its state is a {type(part).__name__}")
    return state[1:]


def shape_in(tree: list[Tree], shape: Any) -> tuple[int, ...]:
    """Returns the shape that a part of a state says.

    Raises:
        InsecureJelly: It is none, or that of no array.
    """
    if type(shape) is not list or shape[:1] != [b"list"] or len(shape) > 65:
        raise malformed(tree, "its shape is a list of at most 64 numbers")
    for length in shape[1:]:
        if type(length) is not int or not 0 <= length < 2**62:
            raise malformed(tree, "its shape has a length that none can have")
    return tuple(shape[1:])
