"""What one connection may cost: the budgets of everything that a peer sends."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

__all__ = ["Limits"]

_UNLIMITED = 2**62


@dataclass(frozen=True)
class Limits:
    """The budgets of one connection, and of one server.

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
        buffer_bytes: Size of the arrays and large byte strings that are on their way at one time,
            between pbnb peers. They are no part of the message that they belong to.
        shared_bytes: Memory of this side's in which such arrays and byte strings lie for a peer of
            the same user on the same machine, which looks at them there. Where it is full, they
            are sent; 0 sends them all.
        references: Objects lent to the peer at one time, the root not counted; and objects of
            the peer's that are referred to here.
        hash_collisions: Keys of one dict or set that share one hash.
        handshake_bytes: Bytes that the peer may send before a dialect is agreed on.
        running_calls: Calls of the peer's that run at one time.
        queued_calls: Calls of the peer's that wait for their turn: behind those that run, or for
            a serial object. A call beyond them is refused with `PeerBusy`.
        queue_seconds: Longest wait behind the calls that run, before a call is refused in the
            same way. Methods that call each other deeper than ``running_calls`` end by it.
        streams: Generators of this side's that the peer reads at one time, or could.
        write_bytes: Bytes that wait for the peer to read them. Above them calls of this side's
            are held back, and no more calls of the peer's are read.
        connections: Connections of one server, and never more than three quarters of the files
            that the process may have open. When there are as many, the one that has longest not
            opened or not logged in makes room for a new one. Where there is none, the new one is
            refused.
        logged_lines: Warnings in a minute about what peers do wrong, for each server.
        opening_seconds: Longest opening, until a dialect is agreed on.
        login_seconds: Longest time from the connection to the login, where one is asked for.
        call_seconds: How long a call of this side's may take, where neither its reference nor
            `deadline` says otherwise. There is no end by default: a measurement may take a night,
            and a peer that is gone or silent is found by the two that follow.
        keepalive_seconds: How long the peer may say nothing, while an answer of its is awaited,
            until it is asked for a sign of life. The operating system asks for one after the same
            time even where nothing is awaited, and ends a connection whose other machine is gone.
        silence_seconds: How long the peer may say nothing after it was asked. A kernel that
            computes says nothing meanwhile, and is neither gone nor to be given up soon: a day.
    """

    string_bytes: int = 640 * 1024
    list_items: int = 640 * 1024
    prefix_bytes: int = 64
    depth: int = 320
    message_bytes: int = 64 * 1024 * 1024
    message_items: int = 1_000_000
    buffer_bytes: int = 1024 * 1024 * 1024
    shared_bytes: int = 512 * 1024 * 1024
    references: int = 1024
    hash_collisions: int = 64
    handshake_bytes: int = 256
    running_calls: int = 1024
    queued_calls: int = 1024
    queue_seconds: float = 60.0
    streams: int = 64
    write_bytes: int = 16 * 1024 * 1024
    connections: int = 500
    logged_lines: int = 60
    opening_seconds: float = 10.0
    login_seconds: float = 60.0
    call_seconds: float = math.inf
    keepalive_seconds: float = 15.0
    silence_seconds: float = 24 * 3600.0

    @classmethod
    def unlimited(cls) -> Limits:
        """Returns limits that only the protocol itself sets, for benchmarks and trusted peers."""
        return cls(
            message_bytes=_UNLIMITED,
            message_items=_UNLIMITED,
            buffer_bytes=_UNLIMITED,
            references=_UNLIMITED,
            hash_collisions=_UNLIMITED,
            running_calls=_UNLIMITED,
            write_bytes=_UNLIMITED,
            connections=_UNLIMITED,
        )

    def before_login(self) -> Limits:
        """Returns the tighter limits that hold until the peer has logged in."""
        return _before_login(self)


# One for all connections of a server: it takes longer to make than to find.
@functools.lru_cache(maxsize=16)
def _before_login(limits: Limits) -> Limits:
    return dataclasses.replace(
        limits,
        string_bytes=min(limits.string_bytes, 16 * 1024),
        list_items=min(limits.list_items, 1024),
        depth=min(limits.depth, 16),
        message_bytes=min(limits.message_bytes, 64 * 1024),
        message_items=min(limits.message_items, 1024),
        buffer_bytes=0,
        references=min(limits.references, 8),
        running_calls=min(limits.running_calls, 4),
        queued_calls=min(limits.queued_calls, 4),
        streams=0,
        write_bytes=min(limits.write_bytes, 64 * 1024),
    )
