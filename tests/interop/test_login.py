"""PB's own login between pbnb and Twisted, in both roles."""

from __future__ import annotations

import asyncio

import pytest

import pbnb as pb
from tests.interop.peers import PASSWORD, run_twisted, twisted_client, twisted_server
from tests.interop.served import Served


def test_logging_in_at_a_twisted_server() -> None:
    async def main() -> None:
        async with twisted_server(PASSWORD) as peer:
            avatar = await pb.connect(peer.address, token=PASSWORD, legacy_auth=True)
            assert await avatar.callRemote("whoami") == "pbnb"
            assert await avatar.callRemote("echo", ["text", b"bytes"]) == ["text", b"bytes"]
            await avatar.broker.close()
            assert await peer.result() == {"logout": "pbnb"}

    asyncio.run(main())


def test_a_twisted_server_refuses_a_wrong_token() -> None:
    async def main() -> None:
        async with twisted_server(PASSWORD) as peer:
            with pytest.raises(pb.UnauthorizedLogin):
                await pb.connect(peer.address, token="wrong", legacy_auth=True)

    asyncio.run(main())


def test_a_twisted_client_logs_in_with_the_token() -> None:
    async def main() -> None:
        served = Served()
        async with await pb.serve(served, anonymous=False, legacy_auth=True) as server:
            served.server = server
            assert len(server.token) >= 20
            assert await run_twisted(server.port, "pb2", server.token) == {
                "same": True,
                "equal": True,
            }

    asyncio.run(main())


def test_a_twisted_client_with_a_wrong_token_is_refused() -> None:
    async def main() -> None:
        served = Served()
        async with await pb.serve(served, anonymous=False, legacy_auth=True) as server:
            found = await run_twisted(server.port, "pb1", "wrong")
        assert found["refused"]["trapped"] == ["UnauthorizedLogin"]
        assert served.two.given == []

    asyncio.run(main())


def test_without_logging_in_nothing_is_reached() -> None:
    async def main() -> None:
        served = Served()
        async with await pb.serve(served, anonymous=False, legacy_auth=True) as server:
            async with twisted_client(server.port, "pb1") as peer:
                assert await peer.results() == {}
        assert served.two.given == []

    asyncio.run(main())
