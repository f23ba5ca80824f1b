"""The opening of a connection: the two sides agree on a dialect.

The side that listens speaks first: a list of dialect names, ``["pb", "none"]``, in the order of
its preference. The side that connected answers with the first of them that it knows, as a bare
byte string; its first messages may follow in the same segment. All of this is plain banana,
whatever dialect comes of it. Then each side sends ``["version", 6]`` and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import RemoteProtocolError
from ..limits import Limits
from ..wire.banana import NEED_DATA, Tree
from ..wire.dialect import Dialect, opening
from .dialects import DIALECTS

__all__ = ["VERSION", "Handshake"]

VERSION = 6


class Handshake:
    """One side's part of the opening.

    Args:
        offered: Names of the dialects that this side speaks, in the order of its preference.
        listening: Whether this is the side that listens, and so speaks first.
        limits: The limits of the connection that is being opened.

    Attributes:
        decoder: The dialect of the opening, to be fed with what the peer says.
    """

    def __init__(self, offered: Sequence[str], *, listening: bool, limits: Limits) -> None:
        self._offered = [name.encode("ascii") for name in offered]
        unknown = [name for name in self._offered if name not in DIALECTS]
        if unknown or not offered:
            known = ", ".join(name.decode() for name in DIALECTS)
            raise ValueError(f"no such dialects: {list(offered)}; there are: {known}")
        self._listening = listening
        self._limits = limits
        self.decoder = opening(limits)

    def greeting(self) -> bytes:
        """Returns what this side says before it has heard anything."""
        return b"".join(self.decoder.encode(self._offered)) if self._listening else b""

    def next(self) -> tuple[Dialect, bytes] | None:
        """Returns the dialect, once it is agreed on, and what to say in reply.

        The dialect has already been fed what the peer sent after its part of the opening.

        Raises:
            RemoteProtocolError: The peer speaks no dialect of ours, or no PB at all.
        """
        tree = self.decoder.next()
        if tree is NEED_DATA:
            return None
        name = self._chosen(tree) if self._listening else self._choose(tree)
        dialect = DIALECTS[name](self._limits)
        rest = self.decoder.unread()
        if rest:
            dialect.feed(rest)
        return dialect, b"" if self._listening else b"".join(self.decoder.encode(name))

    def _chosen(self, tree: Tree | object) -> bytes:
        if type(tree) is not bytes or tree not in self._offered:
            raise RemoteProtocolError(f"the peer chose {tree!r:.80}, a dialect it was not offered")
        return tree

    def _choose(self, tree: Tree | object) -> bytes:
        names = tree if type(tree) is list else []
        for name in names:
            if name in self._offered:
                return name
        raise RemoteProtocolError(f"the peer offers {tree!r:.80}, and no dialect that we speak")
