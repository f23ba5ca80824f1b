"""What a server makes of each connection: its root, its limits, and how many there may be."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.factory import check_root
from pbnb.wire.banana import encode
from tests.support.serving import until


class Echoer(pb.Root):
    def remote_echo(self, value: Any) -> Any:
        return value


def test_what_can_be_served() -> None:
    check_root(Echoer())
    check_root(pb.Portal(lambda name, mind: Echoer()))
    with pytest.raises(TypeError, match="Echoer is a class: serve an instance"):
        check_root(Echoer)

    class Late(pb.Root):
        async def rootObject(self, broker: object) -> pb.Referenceable:  # type: ignore[override]
            return self

    with pytest.raises(TypeError, match=r"Late.rootObject may not be async"):
        check_root(Late())


def test_each_connection_may_have_a_root_of_its_own() -> None:
    class Doorman(pb.Root):
        def __init__(self) -> None:
            self.guests = 0

        def rootObject(self, broker: object) -> pb.Referenceable:
            self.guests += 1
            return Room(self.guests)

    class Room(pb.Referenceable):
        def __init__(self, number: int) -> None:
            self.number = number

        def remote_number(self) -> int:
            return self.number

    async def main() -> None:
        for anonymous in (True, False):
            async with await pb.serve(Doorman(), anonymous=anonymous) as server:
                for number in (1, 2):
                    ref = await pb.connect(server.address, token=server.token)
                    assert await ref.callRemote("number") == number
                    await ref.broker.close()

    asyncio.run(main())


def test_a_factory_works_with_create_server() -> None:
    async def main() -> None:
        factory = pb.PBServerFactory(Echoer())
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(factory, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        ref = await pb.connect(f"127.0.0.1:{port}")
        assert await ref.callRemote("echo", 1) == 1
        assert len(factory.connections) == 1
        await ref.broker.close()
        await until(lambda: not factory.connections)
        listener.close()

    asyncio.run(main())


def test_before_the_login_a_peer_may_only_send_little() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer(), anonymous=False) as server:
            ref = await pb.connect(server.address)
            with pytest.raises(pb.PBConnectionLost):
                await ref.callRemote("login", b"x" * 70_000)
            full = await pb.connect(server.address, token=server.token)
            assert len(await full.callRemote("echo", b"x" * 600_000)) == 600_000
            await full.broker.close()

    asyncio.run(main())


async def silent(server: pb.Server, said: bytes = b"") -> tuple[Any, asyncio.StreamWriter]:
    """Connects without logging in, and says something."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(said)
    return reader, writer


async def hung_up(reader: asyncio.StreamReader) -> bool:
    """Waits until the server ends a connection."""
    with suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(1000), 20):
            pass
    return True


FEW = pb.Limits(connections=3)


@pytest.mark.parametrize("said", [b"", b"garbage", encode(b"pb", None)])
def test_who_has_not_logged_in_makes_room_the_oldest_first(said: bytes) -> None:
    async def main() -> None:
        async with await pb.serve(Echoer(), anonymous=False, limits=FEW) as server:
            ref = await pb.connect(server.address, token=server.token)
            others = [await silent(server, said) for _ in range(10)]
            for reader, _ in others[:8]:
                assert await hung_up(reader)
            assert len(server.connections) <= 3
            # Those who know the token get in, past whoever does not, and stay.
            more = [await pb.connect(server.address, token=server.token) for _ in range(2)]
            for each in (ref, *more):
                assert await each.callRemote("echo", 7) == 7
            for reader, writer in others:
                assert await hung_up(reader)
                writer.close()
            for each in (ref, *more):
                await each.broker.close()

    asyncio.run(main())


def test_no_more_connections_than_the_limit() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer(), limits=FEW) as server:
            refs = [await pb.connect(server.address) for _ in range(3)]
            for _ in range(20):
                with pytest.raises(pb.ConnectError):
                    await pb.connect(server.address)
            for each in refs:
                assert await each.callRemote("echo", 7) == 7
            await refs[0].broker.close()
            await until(lambda: len(server.connections) == 2)
            again = await pb.connect(server.address)
            assert await again.callRemote("echo", 7) == 7
            for each in (*refs, again):
                await each.broker.close()
            await until(lambda: not server.connections and not server._factory._newcomers)

    asyncio.run(main())


def test_files_are_left_for_whoever_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_OPEN_MAX": 4}.__getitem__)

    async def main() -> None:
        async with await pb.serve(Echoer(), limits=pb.Limits.unlimited()) as server:
            refs = [await pb.connect(server.address) for _ in range(3)]
            with pytest.raises(pb.ConnectError):
                await pb.connect(server.address)
            for each in refs:
                await each.broker.close()

    asyncio.run(main())
