"""Generators that a Twisted client reads, and what a Twisted server may be read of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import pbnb as pb
from tests.interop.peers import run_twisted, twisted_server
from tests.interop.served import MyError, Served
from tests.support.serving import tables, until


class Numbers(Served):
    ended = 0

    async def remote_numbers(self, to: int) -> AsyncIterator[int]:
        try:
            for n in range(to):
                yield n
        finally:
            self.ended += 1

    def remote_failing(self) -> Iterator[int]:
        yield 1
        yield 2
        raise MyError("after two")

    def remote_ended(self) -> int:
        return self.ended


def test_a_twisted_client_reads_a_generator() -> None:
    async def main() -> dict[str, Any]:
        async with await pb.serve(Numbers()) as server:
            found = await run_twisted(server.port, "streaming")
            await until(lambda: not tables(*server.connections))
            return found

    found = asyncio.run(main())
    assert found["whole"] == [1000, list(range(1000))]
    # Nothing is sent before something was taken.
    assert found["first"] == list(range(10))
    assert found["ended"] == 2
    assert found["failing"] == ["__main__.MyError", [1, 2], 2]


def test_what_a_twisted_server_returns_is_read_where_it_can_be() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            assert [item async for item in root.stream("echo", [1, "two"])] == [1, "two"]
            assert [item async for item in root.stream("spells", 300)] == list(range(300))
            async with root.stream("spells", 10**6) as stream:
                assert await anext(stream) == 0
            assert await root.callRemote("echo", 1) == 1
            with pytest.raises(TypeError, match=r"getTwo\(\) has returned a reference to some"):
                await anext(root.stream("getTwo"))
            with pytest.raises(TypeError, match=r"echo\(\) has returned a value of type int"):
                await anext(root.stream("echo", 1))
            with pytest.raises(pb.NoSuchMethod):
                await anext(root.stream("nothing"))
            await root.broker.close()

    asyncio.run(main())
