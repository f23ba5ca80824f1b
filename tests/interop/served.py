"""What pbnb serves to the Twisted client: the counterpart of its own server's root."""

from __future__ import annotations

import asyncio
from typing import Any

import pbnb as pb
from tests.interop.values import describe


def lent(connection: pb.Connection) -> dict[int, int]:
    """Returns what a connection of ours lends to its peer, the root apart, and how often."""
    return {row.luid: row.count for row in connection.snapshot().lent if type(row.luid) is int}


class MyError(pb.Error):
    """An error that callers expect, by the name it has in the Twisted peer."""

    __module__ = "__main__"


class MyError2(Exception):
    """An error that nobody expects."""

    __module__ = "__main__"


class Unsafe:
    """No flavor of Perspective Broker: not to be sent."""


class Two(pb.Referenceable):
    def __init__(self) -> None:
        self.given: list[Any] = []

    def remote_three(self, arg: Any) -> None:
        self.given.append(arg)

    def remote_print(self, arg: Any) -> None:
        self.given.append(arg)


class Served(pb.Root):
    def __init__(self) -> None:
        self.two = Two()
        self.noted: list[Any] = []
        self.kept: Any = None
        self.server: Any = None

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_describe(self, value: Any) -> str:
        return describe(value)

    def remote_getTwo(self) -> Two:
        return self.two

    def remote_checkTwo(self, two: Any) -> bool:
        return two is self.two

    def remote_takeTwo(self, two: pb.RemoteReference) -> Any:
        return two.callRemote("print", 12)

    def remote_keep(self, ref: Any) -> None:
        self.kept = ref

    def remote_kept(self) -> Any:
        return self.kept

    def remote_drop(self) -> None:
        self.kept = None

    def remote_broken(self) -> None:
        raise MyError("fall down go boom")

    def remote_broken2(self) -> None:
        raise MyError2("hadda owie")

    def remote_divide(self, a: int, b: int) -> float:
        return a / b

    def remote_later(self, value: Any) -> pb.Deferred[Any]:
        d: pb.Deferred[Any] = pb.Deferred()
        asyncio.get_running_loop().call_soon(d.callback, value)
        return d

    async def remote_coroutine(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def remote_laterBroken(self) -> None:
        await asyncio.sleep(0)
        raise MyError("too late")

    def remote_keywords(self, *args: Any, **kw: Any) -> str:
        return describe([args, kw])

    def remote_note(self, value: Any) -> None:
        self.noted.append(value)

    def remote_noted(self) -> list[Any]:
        return self.noted

    def remote_table(self) -> dict[int, int]:
        (connection,) = self.server.connections
        return lent(connection)

    def remote_sendUnsafe(self) -> Any:
        return Unsafe()

    def remote_big(self, size: int) -> bytes:
        return b"x" * size

    def remote_size(self, data: bytes) -> int:
        return len(data)

    async def remote_hang(self) -> None:
        await asyncio.Event().wait()

    async def remote_hangUp(self) -> None:
        (connection,) = self.server.connections
        await connection.close()

    def remote_fooMethod(self, arg: Any) -> str:
        if arg == "panic!":
            raise MyError
        return "response"
