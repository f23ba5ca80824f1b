"""Calls of every kind: Deferred results, keywords, no answer, and calls cut off."""

from __future__ import annotations

import asyncio

import pytest

import pbnb as pb
from tests.interop.peers import PATIENCE, run_twisted, twisted_client, twisted_server
from tests.interop.served import Served, Two
from tests.interop.values import describe

KEYWORDS = describe([(1, "two"), {"three": 3, "name": [4]}])


def test_calls_to_a_twisted_server() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            assert await root.callRemote("later", ["in", "time"]) == ["in", "time"]
            assert await root.callRemote("keywords", 1, "two", three=3, name=[4]) == KEYWORDS
            assert root.remote_only("note", "heard") is None
            assert root.remote_only("broken2") is None
            assert await root.callRemote("noted") == ["heard"]
            many = [root.callRemote("echo", number) for number in range(100)]
            assert await asyncio.gather(*many) == list(range(100))
            assert root.broker.snapshot().pending == ()
            await root.broker.close()

    asyncio.run(main())


def test_calls_from_a_twisted_client() -> None:
    async def main() -> None:
        async with await pb.serve(Served()) as server:
            found = await run_twisted(server.port, "deferred")
            assert found == {way: describe(["in", "time"]) for way in ("later", "coroutine")}
            assert await run_twisted(server.port, "keywords") == {"seen": KEYWORDS}
        async with await pb.serve(Served()) as server:
            assert await run_twisted(server.port, "no_answer") == {
                "returned": None,
                "noted": ["heard"],
            }

    asyncio.run(main())


async def assert_cut_off(root: pb.RemoteReference, *pending: pb.Deferred) -> None:
    """Asserts that calls end in PBConnectionLost, and that the reference is dead afterwards."""
    for call in pending:
        with pytest.raises(pb.PBConnectionLost):
            await call
    assert root.broker.lost
    with pytest.raises(pb.DeadReferenceError):
        root.callRemote("echo", "too late")


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_twisted_server_goes_away(how: str) -> None:
    async def main() -> None:
        async with twisted_server() as peer, asyncio.timeout(PATIENCE):
            root = await pb.connect(peer.address)
            gone: asyncio.Future[pb.RemoteReference] = asyncio.get_running_loop().create_future()
            root.notifyOnDisconnect(gone.set_result)
            root.notifyOnDisconnect(never := [].append)
            root.dontNotifyOnDisconnect(never)
            pending = root.callRemote("hang")
            if how == "closed":
                await assert_cut_off(root, root.callRemote("hangUp"), pending)
            else:
                await root.callRemote("echo", "the call before this one has arrived")
                peer.process.kill()
                await assert_cut_off(root, pending)
            assert await gone is root

    asyncio.run(main())


def test_this_end_goes_away() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            await root.callRemote("watch", Two())
            pending = root.callRemote("hang")
            await root.broker.close()
            await assert_cut_off(root, pending)
            assert await peer.result() == {"lost": True}

    asyncio.run(main())


def test_a_twisted_client_is_cut_off() -> None:
    async def main() -> None:
        served = Served()
        async with await pb.serve(served) as server:
            served.server = server
            found = await run_twisted(server.port, "hung_up")
        for call in ("pending", "also_pending"):
            assert found[call]["trapped"] == ["PBConnectionLost"]
        assert found["stale"] == "Calling Stale Broker"
        assert found["notified"] is True

    asyncio.run(main())


def test_a_server_that_closes_ends_its_connections() -> None:
    async def main() -> None:
        server = await pb.serve(Served())
        async with twisted_client(server.port, "wait") as peer:
            assert await peer.result() == {"kept": True}
            (connection,) = server.connections
            await server.close()
            assert connection.lost
            assert list(server.connections) == []
            with pytest.raises(pb.ConnectError):
                await pb.connect(server.address)

    asyncio.run(main())
