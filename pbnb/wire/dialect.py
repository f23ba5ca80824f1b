"""Dialects: the ways to write a message as bytes, and the contract that each of them meets.

A connection opens in banana without vocabulary: the listener offers the names of its dialects
in order of preference, and the connector answers with the first that it knows. Both then go on
in that dialect, and bytes that arrived behind the choice are handed over with `Dialect.unread`.
A peer that does not know a name passes it over, so new dialects can be offered to every peer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from ..limits import Limits
from .banana import Decoder, NeedData, Tree, encode
from .transfers import Transfer

__all__ = ["BananaDialect", "Buffer", "Dialect", "opening"]

#: What a dialect writes and reads: a message is a list of these, so that large ones need no copy.
Buffer: TypeAlias = bytes | bytearray | memoryview


class Dialect(Protocol):
    """What a connection asks of the dialect it speaks: trees to buffers, bytes to trees."""

    @property
    def name(self) -> bytes:
        """The name by which the dialect is offered and chosen."""

    @property
    def limits(self) -> Limits:
        """What one message of the peer may cost; may be set at any time."""

    @limits.setter
    def limits(self, limits: Limits) -> None: ...

    @property
    def readable(self) -> bool:
        """Whether something has come at which `next` has not looked."""

    @property
    def carries_memory(self) -> bool:
        """Whether memory may stand in an expression, to travel beside it."""

    def call(self, message: list[Any]) -> list[Any] | None:
        """Returns a call, to be written in this order; None where a value is not plain.

        Args:
            message: ``[b"message", request, luid, name, wants answer, args, keywords]``, the name
                as text and the arguments and keywords as they are.

        Raises:
            BananaError: It goes over a limit.
        """

    def answer(self, request_id: Any, value: object) -> list[Any] | None:
        """Returns an answer, to be written in this order; None where the value is not plain.

        Raises:
            BananaError: It goes over a limit.
        """

    def encode(self, tree: object, ordered: bool = False) -> list[Any]:
        """Returns one message, to be written in this order.

        Args:
            tree: The message.
            ordered: Whether nothing that is encoded later may overtake it.

        Raises:
            BananaError: The tree cannot be sent. Nothing was changed.
        """

    @property
    def sending(self) -> bool:
        """Whether `pieces` has parts of messages that were encoded."""

    @property
    def in_place(self) -> bool:
        """Whether `room` may say where the next bytes are wanted; else few are wanted at once."""

    def pieces(self) -> list[Any]:
        """Returns some of those parts, to be written behind what `encode` has returned so far."""

    def drop(self, label: tuple[bytes, int]) -> list[Any] | None:
        """Gives a message up, by its command and number, while parts of it wait to be sent.

        Returns:
            What is to be written for it; None where nothing was given up.
        """

    def transfers(self) -> list[Transfer]:
        """Returns which messages are sent or received in parts, and how far they are."""

    def feed(self, data: Buffer) -> None:
        """Stores bytes from the peer; reads nothing yet."""

    def room(self) -> memoryview | None:
        """Returns where the next bytes are wanted, in place of `feed`, if anywhere."""

    def filled(self, count: int) -> None:
        """Counts bytes that were received into the last `room`."""

    def next(self) -> Tree | NeedData:
        """Returns the next complete tree, or `NEED_DATA`.

        Whoever handles a tree may feed and read further ones before coming back.

        Raises:
            RemoteProtocolError: The stream can no longer be followed; raised again from now on.
        """

    def unread(self) -> bytes:
        """Returns the bytes behind the last tree, and forgets them."""

    #: What the dialect itself answers to what it has read, to be written, and then to be emptied.
    replies: Sequence[Any]

    def share(self, note: Callable[[], object], written: Callable[[], object]) -> None:
        """Lets large buffers lie in memory that both ends reach, where that works.

        Args:
            note: Called, from any thread, when `released` has something.
            written: Called when `trim` will have something to give back.
        """

    def released(self) -> list[Any]:
        """Returns what the peer is to be told of its memory that nobody looks at any more."""

    def trim(self) -> bool:
        """Gives shared memory back that was not in use lately; returns whether there is more."""

    @property
    def awaits(self) -> bool:
        """Whether the peer is about to answer the dialect itself."""

    def close(self) -> None:
        """Ends what is shared."""


class BananaDialect(Decoder):
    """Banana, with a vocabulary or without: each message is a tree and nothing else.

    Args:
        name: The name by which it is offered.
        words: The vocabulary, or None.
        limits: What one message may cost. They hold for all that is sent; for what is received
            until ``limits`` is set, as before a login: tighter limits there bind the peer only.
    """

    def __init__(self, name: bytes, words: Sequence[bytes] | None, limits: Limits) -> None:
        super().__init__(limits, words)
        self._name = name
        self._sending = limits

    carries_memory = False
    sending = False
    awaits = False
    replies: Sequence[Any] = ()

    @property
    def name(self) -> bytes:
        """The name by which the dialect is offered and chosen."""
        return self._name

    def call(self, message: list[Any]) -> list[Any] | None:
        """Returns None: a tree holds no plain values."""
        return None

    def answer(self, request_id: Any, value: object) -> list[Any] | None:
        """Returns None, as `call` does."""
        return None

    def encode(self, tree: object, ordered: bool = False) -> list[Any]:
        """Returns one message, whole, so that none overtakes another.

        Raises:
            BananaError: The tree holds what banana cannot send, or goes over a limit.
        """
        return [encode(tree, self.words, self._sending)]

    def pieces(self) -> list[Any]:
        """Returns nothing: `encode` has returned everything."""
        return []

    def drop(self, label: tuple[bytes, int]) -> list[Any] | None:
        """Returns None: everything is sent."""
        return None

    def transfers(self) -> list[Transfer]:
        """Returns nothing: messages are sent whole."""
        return []

    def share(self, note: Callable[[], object], written: Callable[[], object]) -> None:
        """Shares nothing: strings have no place but in their message."""

    def released(self) -> list[Any]:
        """Returns nothing."""
        return []

    def trim(self) -> bool:
        """Has nothing to give back."""
        return False

    def close(self) -> None:
        """Has nothing to end."""


def opening(limits: Limits) -> BananaDialect:
    """Returns the dialect of the opening, in which the offer and the choice are made.

    Args:
        limits: The connection's limits; the opening may take ``handshake_bytes`` of them.
    """
    return BananaDialect(b"none", None, _of_opening(limits))


# One for all connections of a server: it takes longer to make than to find.
@functools.lru_cache(maxsize=16)
def _of_opening(limits: Limits) -> Limits:
    most = limits.handshake_bytes
    return dataclasses.replace(
        limits,
        string_bytes=min(limits.string_bytes, most),
        list_items=min(limits.list_items, most),
        depth=1,
        # Nothing in an opening needs more, and most of what is no PB is refused at once.
        prefix_bytes=min(limits.prefix_bytes, 2),
        message_bytes=min(limits.message_bytes, most),
    )
