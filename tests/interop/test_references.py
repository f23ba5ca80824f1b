"""References in both directions: coming home, being counted, and being let go of."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pbnb as pb
from tests.interop.peers import PATIENCE, run_twisted, twisted_client, twisted_server
from tests.interop.served import Served, Two, lent


def test_a_twisted_object_is_called_and_comes_home_as_itself() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            two = await root.callRemote("getTwo")
            assert isinstance(two, pb.RemoteReference)
            assert await two.callRemote("three", 12) is None
            assert await two.remoteMethod("given")() == [12]
            assert await root.callRemote("checkTwo", two) is True
            again = await root.callRemote("getTwo")
            assert again == two and hash(again) == hash(two)
            assert await root.callRemote("newTwo") != two
            await root.broker.close()

    asyncio.run(main())


def test_our_object_is_called_by_twisted_and_comes_home_as_itself() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            two = Two()
            await root.callRemote("takeTwo", two)
            assert two.given == [12]
            await root.callRemote("keep", two)
            assert await root.callRemote("kept") is two
            await root.broker.close()

    asyncio.run(main())


def test_an_object_echoed_at_once_is_the_object() -> None:
    """The peer's decref overtakes its answer, which then names an object it has let go of."""

    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            two = Two()
            assert await root.callRemote("echo", two) is two
            assert (await root.callRemote("echo", [two, {"two": two}])) == [two, {"two": two}]
            await root.callRemote("echo", None)
            assert lent(root.broker) == {}
            await root.broker.close()

    asyncio.run(main())


async def until_lent(root: Any, table: dict[int, int]) -> None:
    """Waits until the Twisted end's table of what it lends is as given."""
    async with asyncio.timeout(PATIENCE):
        while await root.callRemote("table") != table:
            pass


def test_what_twisted_lends_is_given_back_by_del() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            two = await root.callRemote("getTwo")
            again = await root.callRemote("getTwo")
            assert sum((await root.callRemote("table")).values()) == 2
            del two, again
            gc.collect()
            await until_lent(root, {})
            two = await root.callRemote("getTwo")
            assert await root.callRemote("checkTwo", two) is True
            await root.broker.close()

    asyncio.run(main())


def test_what_twisted_lends_is_given_back_from_any_thread() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            held = [await root.callRemote("newTwo") for _ in range(20)]

            def drop() -> None:
                held.clear()
                gc.collect()

            thread = threading.Thread(target=drop)
            thread.start()
            await asyncio.to_thread(thread.join)
            await until_lent(root, {})
            await root.broker.close()

    asyncio.run(main())


def test_what_we_lend_is_kept_until_twisted_lets_go() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            await root.callRemote("keep", Two())
            assert list(lent(root.broker).values()) == [1]
            assert isinstance(await root.callRemote("kept"), Two)
            await root.callRemote("drop")
            assert lent(root.broker) == {}
            await root.broker.close()

    asyncio.run(main())


def test_a_twisted_client_with_references() -> None:
    async def main() -> None:
        served = Served()
        async with await pb.serve(served) as server:
            served.server = server
            assert await run_twisted(server.port, "pb1") == {"got": "RemoteReference"}
            assert served.two.given == [12]
            assert await run_twisted(server.port, "pb2") == {"same": True, "equal": True}
            assert await run_twisted(server.port, "pb3") == {"given": [12]}
            assert await run_twisted(server.port, "echoed") == {"home": True}
            assert await run_twisted(server.port, "lending") == {"lent": [1], "back": 0}

    asyncio.run(main())


def test_a_twisted_client_gives_back_what_it_was_lent() -> None:
    async def main() -> None:
        served = Served()
        async with await pb.serve(served) as server:
            served.server = server
            assert await run_twisted(server.port, "counting") == {
                "held": {"1": 2},
                "one_left": {"1": 1},
                "released": {},
            }

    asyncio.run(main())


def test_a_lost_connection_gives_everything_back() -> None:
    async def main() -> None:
        served = Served()
        async with await pb.serve(served) as server, asyncio.timeout(PATIENCE):
            async with twisted_client(server.port, "wait") as peer:
                assert await peer.result() == {"kept": True}
                gone: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                served.kept.notifyOnDisconnect(gone.set_result)
                peer.process.kill()
            assert await gone is served.kept
            assert list(server.connections) == []

    asyncio.run(main())
