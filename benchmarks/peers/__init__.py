"""The peers: who is measured. Each is one class that derives from `Peer`, in a file of its own."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol

__all__ = ["HOST", "Peer", "Root", "Serving", "load"]

HOST = "127.0.0.1"


class Root(Protocol):
    """The client's end of a connection: the served object, as references to objects look."""

    def callRemote(self, name: str, /, *args: Any) -> Awaitable[Any]:
        """Calls one of the methods that `benchmarks.peers.objects` lists."""


class Serving(Protocol):
    """What a server counts, so that nobody takes the rate of calls that were never made."""

    answered: int


class Peer(ABC):
    """One way to call objects of another process.

    Args:
        variant: What stands behind the colon in the peer's name, such as a dialect.
    """

    def __init__(self, variant: str) -> None:
        self.variant = variant

    @abstractmethod
    def serve(self, ready: Callable[[int, Serving], object]) -> None:
        """Serves on `HOST` until the process is interrupted.

        Args:
            ready: To be called once, with the port and the object that counts.
        """

    @abstractmethod
    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a client to its end, in the event loop that the peer has."""

    @abstractmethod
    async def connect(self, port: int) -> Any:
        """Connects to a server and returns its `Root`."""

    @abstractmethod
    async def close(self, root: Any) -> None:
        """Closes the connection of a root."""

    @abstractmethod
    async def gather(self, work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Runs coroutines at once and returns their results in order."""

    @abstractmethod
    def pinged(self) -> Any:
        """Returns an object of the client's with the method ``ping``, for the server to call."""

    def outgoing(self, value: Any) -> Any:
        """Returns what is sent to have a value echoed: the value itself, for all but the floor."""
        return value


def load(name: str) -> Peer:
    """Returns a peer. Nothing is imported for the others: a process's memory is measured, too.

    Args:
        name: ``floor``, ``twisted``, or ``pbnb:`` and a dialect.
    """
    kind, _, variant = name.partition(":")
    peer: Peer = importlib.import_module(f"{__name__}.{kind}").PEER(variant)
    return peer
