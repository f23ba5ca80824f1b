"""Every built-in type that PB sends, with sharing and cycles, there and back."""

from __future__ import annotations

import asyncio

import pytest

import pbnb as pb
from tests.interop.peers import run_twisted, twisted_server
from tests.interop.served import Served, lent
from tests.interop.values import VALUES, describe

SENT = {name: describe(value) for name, value in VALUES.items()}


def test_a_twisted_server_sees_and_returns_what_was_sent() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            seen = {name: await root.callRemote("describe", VALUES[name]) for name in VALUES}
            back = {name: describe(await root.callRemote("echo", VALUES[name])) for name in VALUES}
            await root.broker.close()
        assert seen == SENT
        assert back == SENT

    asyncio.run(main())


def test_a_twisted_client_sees_what_it_sent_arrive_and_return() -> None:
    async def main() -> None:
        async with await pb.serve(Served()) as server:
            found = await run_twisted(server.port, "values")
        assert found == {
            name: {"sent": sent, "seen": sent, "back": sent} for name, sent in SENT.items()
        }

    asyncio.run(main())


def test_both_ends_send_strings_up_to_the_limit() -> None:
    limit = 640 * 1024

    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            assert await root.callRemote("size", b"x" * limit) == limit
            assert await root.callRemote("big", limit) == b"x" * limit
            await root.broker.close()
        async with await pb.serve(Served()) as server:
            found = await run_twisted(server.port, "big")
        refused = found.pop("refused_there")
        assert found == {"there": limit, "back": limit, "refused_here": True, "alive": "alive"}
        assert refused["type"] == "twisted.spread.banana.BananaError"

    asyncio.run(main())


def test_a_string_over_the_limit_fails_here_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            with pytest.raises(pb.BananaError):
                await root.callRemote("echo", [pb.Referenceable(), b"x" * (640 * 1024 + 1)])
            assert lent(root.broker) == {}
            assert root.broker.snapshot().pending == ()
            assert await root.callRemote("echo", "alive") == "alive"
            await root.broker.close()

    asyncio.run(main())


def test_a_twisted_answer_over_the_limit_ends_its_connection() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            with pytest.raises(pb.PBConnectionLost):
                await root.callRemote("big", 640 * 1024 + 1)

    asyncio.run(main())
