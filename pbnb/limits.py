"""What one connection may cost: the budgets of everything that a peer sends."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

__all__ = ["Limits"]

_UNLIMITED = 2**62


@dataclass(frozen=True)
class Limits:
    """The budgets of one connection.

    A peer that goes over one is answered with a typed error, or disconnected where the stream
    can no longer be followed. The first three are PB's own: a Twisted peer disconnects when they
    are passed. What banana limits, up to ``message_items``, holds for what is sent as well, so
    that a message that is too large is an error of its sender and not the end of a connection.

    Attributes:
        string_bytes: Longest byte string, in bytes.
        list_items: Longest list, in items.
        prefix_bytes: Longest integer or length, in base-128 digits; 64 allow integers up to
            ``2**448 - 1``.
        depth: Deepest nesting of lists in one message.
        message_bytes: Size of one message, in bytes.
        message_items: Number of tokens in one message, lists included.
        references: Objects lent to the peer at one time, the root not counted; and objects of
            the peer's that are referred to here.
        hash_collisions: Keys of one dict or set that share one hash.
        handshake_bytes: Bytes that the peer may send before a dialect is agreed on.
    """

    string_bytes: int = 640 * 1024
    list_items: int = 640 * 1024
    prefix_bytes: int = 64
    depth: int = 320
    message_bytes: int = 64 * 1024 * 1024
    message_items: int = 1_000_000
    references: int = 1024
    hash_collisions: int = 64
    handshake_bytes: int = 256

    @classmethod
    def unlimited(cls) -> Limits:
        """Returns limits that only the protocol itself sets, for benchmarks and trusted peers."""
        return cls(
            message_bytes=_UNLIMITED,
            message_items=_UNLIMITED,
            references=_UNLIMITED,
            hash_collisions=_UNLIMITED,
        )

    def before_login(self) -> Limits:
        """Returns the tighter limits that hold until the peer has logged in."""
        return dataclasses.replace(
            self,
            string_bytes=min(self.string_bytes, 16 * 1024),
            list_items=min(self.list_items, 1024),
            depth=min(self.depth, 16),
            message_bytes=min(self.message_bytes, 64 * 1024),
            message_items=min(self.message_items, 1024),
            references=min(self.references, 8),
        )
