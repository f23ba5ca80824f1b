"""Connecting: every way in, and a sentence for every way that it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.login import log_in
from tests.support.ports import free_port
from tests.support.serving import served, until


class Echoer(pb.Root):
    def remote_echo(self, value: Any) -> Any:
        return value


def test_connect_returns_the_root() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            ref = await pb.connect(f"localhost:{server.port}")
            assert await ref.callRemote("echo", "hello network") == "hello network"
            await ref.broker.close()

    asyncio.run(main())


def test_connect_speaks_the_dialect_it_is_told_to() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            ref = await pb.connect(server.address, dialects=("none",))
            assert ref.broker.machine.dialect == "none"
            assert await ref.callRemote("echo", [b"remote", None]) == [b"remote", None]
            await ref.broker.close()

    asyncio.run(main())


def test_nothing_listens() -> None:
    async def main() -> None:
        port = free_port()
        with pytest.raises(pb.ConnectError, match=f"nothing listens on 127.0.0.1:{port}"):
            await pb.connect(f"127.0.0.1:{port}")

    asyncio.run(main())


def test_no_such_host() -> None:
    async def main() -> None:
        with pytest.raises(pb.ConnectError, match="no host 'nowhere.invalid'"):
            await pb.connect("nowhere.invalid:8789")

    asyncio.run(main())


@pytest.mark.parametrize("address", ["localhost", "8789", "::1:8789", "localhost:99999"])
def test_an_address_that_cannot_be_read(address: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|ports|brackets"):
        asyncio.run(pb.connect(address))


@asynccontextmanager
async def stub(answer: bytes, hang_up: bool) -> AsyncIterator[str]:
    """Listens, says one thing to whoever connects, and yields the address."""
    talking: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.add(writer)
        writer.write(answer)
        if not hang_up:
            await reader.read()
        writer.close()
        talking.discard(writer)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await until(lambda: not talking)


@pytest.mark.parametrize(
    ("answer", "hang_up", "kind", "says"),
    [
        (b"", False, pb.ConnectTimeout, "has not finished opening the connection within 0.2 s"),
        (b"", True, pb.ConnectError, "closed the connection before it was open"),
        (b"SSH-2.0-OpenSSH_9.2\r\n" * 9, False, pb.ConnectError, "does not speak PB"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9,
            True,
            pb.ConnectError,
            "does not speak PB|closed",
        ),
        (pb.banana.encode([b"klingon"], None), False, pb.ConnectError, "no dialect that we speak"),
    ],
    ids=["silent", "hangs up", "ssh", "http", "klingon"],
)
def test_what_is_no_server_of_ours(
    answer: bytes, hang_up: bool, kind: type[Exception], says: str
) -> None:
    async def main() -> None:
        async with stub(answer, hang_up) as address:
            with pytest.raises(kind, match=says) as caught:
                await pb.connect(address, timeout=0.2 if not answer else 10)
            assert isinstance(caught.value, ConnectionError)

    asyncio.run(main())


def test_a_timeout_of_the_callers_own_is_not_mistaken_for_ours() -> None:
    async def main() -> None:
        async with stub(b"", False) as address:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.05):
                    await pb.connect(address)
            assert not isinstance(caught.value, pb.ConnectTimeout)

    asyncio.run(main())


# Login


def test_the_token_lets_in() -> None:
    async def main() -> None:
        async with served(Echoer(), anonymous=False) as (server, ref):
            assert server.token and await ref.callRemote("echo", 1) == 1

    asyncio.run(main())


@pytest.mark.parametrize("token", ["wrong", "", "x" * 10_000, "\N{SNOWMAN}"])
def test_another_token_does_not(token: str) -> None:
    async def main() -> None:
        async with await pb.serve(Echoer(), anonymous=False) as server:
            with pytest.raises(pb.UnauthorizedLogin, match="refused"):
                await pb.connect(server.address, token=token)
            await until(lambda: not server.connections)

    asyncio.run(main())


def test_without_a_token_only_the_login_can_be_called() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer(), anonymous=False) as server:
            ref = await pb.connect(server.address)
            with pytest.raises(pb.UnauthorizedLogin, match="asks for a login"):
                await ref.callRemote("echo", 1)
            with pytest.raises(pb.UnauthorizedLogin):
                await ref.callRemote("loginAnonymous", None)
            with pytest.raises(pb.UnauthorizedLogin, match="legacy_auth=True"):
                await ref.callRemote("login", b"pbnb")
            mine = pb.UsernamePassword("pbnb", server.token or "")
            assert (await log_in(ref, mine)).luid != b"root"
            await ref.broker.close()

    asyncio.run(main())


def test_a_token_for_a_server_that_asks_for_none() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            with pytest.raises(pb.UnauthorizedLogin, match="without a token"):
                await pb.connect(server.address, token="x")

    asyncio.run(main())


# PBClientFactory


def test_the_root_may_be_asked_for_before_and_after_connecting() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            factory = pb.PBClientFactory()
            early = factory.getRootObject()
            await asyncio.get_running_loop().create_connection(factory, server.host, server.port)
            assert await (await early).callRemote("echo", 1) == 1
            assert await (await factory.getRootObject()).callRemote("echo", 2) == 2
            factory.disconnect()
            await until(lambda: not server.connections)

    asyncio.run(main())


def test_after_a_connection_has_ended_the_root_is_that_of_the_next() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            loop, factory = asyncio.get_running_loop(), pb.PBClientFactory()
            await loop.create_connection(factory, server.host, server.port)
            first = await factory.getRootObject()
            await first.broker.close()
            later = factory.getRootObject()
            assert not later.called
            await loop.create_connection(factory, server.host, server.port)
            assert await (await later).callRemote("echo", 1) == 1
            factory.disconnect()

    asyncio.run(main())


def test_who_waits_for_the_root_learns_that_the_opening_failed() -> None:
    async def main() -> None:
        async with stub(b"", True) as address:
            factory = pb.PBClientFactory()
            root = factory.getRootObject()
            host, port = pb.parse_address(address)
            await asyncio.get_running_loop().create_connection(factory, host, port)
            with pytest.raises(pb.ConnectError, match="before it was open"):
                await root

    asyncio.run(main())
