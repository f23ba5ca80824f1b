"""The way to a server, and what is said where there is none."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.reaching import way_to
from pbnb.aio.tls import server_context
from pbnb.cred import Invitation

KEY = "k" * 43


@pytest.mark.parametrize(
    ("address", "key", "where", "encrypted"),
    [
        ("localhost:1", None, "localhost:1", False),
        ("[::1]:1", KEY, "[::1]:1", True),
        ("unix:/run/desk", None, "unix:/run/desk", False),
    ],
)
def test_what_an_invitation_means(
    address: str, key: str | None, where: str, encrypted: bool
) -> None:
    way = way_to(Invitation(address, key))
    assert way.where == where and (way.tls is not None) is encrypted


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"certfile": "x"}, "shown to a server that is known by its invitation or by cafile="),
        ({"keyfile": "x"}, "give certfile= too"),
    ],
)
def test_what_makes_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        asyncio.run(pb.connect("localhost:1", **options))


def test_a_server_that_speaks_no_tls() -> None:
    async def main() -> None:
        async with await pb.serve(pb.Root()) as server:
            with pytest.raises(pb.ConnectError, match=r"does not speak TLS 1.3: WRONG_VERSION"):
                await pb.connect(Invitation(server.address, KEY))

    asyncio.run(main())


def test_a_server_that_speaks_an_older_tls() -> None:
    async def main() -> None:
        context = server_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        listener = await asyncio.start_server(
            lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context
        )
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(pb.ConnectError, match="speak TLS 1.3"):
            await pb.connect(Invitation(f"127.0.0.1:{port}", context.key))
        listener.close()

    asyncio.run(main())


@pytest.mark.parametrize("key", [None, KEY])
def test_a_server_that_says_nothing_is_given_up(key: str | None) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()
            ended.set()

        listener = await asyncio.start_server(silent, "127.0.0.1", 0)
        where = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        with pytest.raises(pb.ConnectTimeout, match=f"{where} has not .* within 0.2 s"):
            await pb.connect(Invitation(where, key), timeout=0.2)
        await asyncio.wait_for(ended.wait(), 20)
        listener.close()

    asyncio.run(main())


def test_connecting_without_tls_to_a_server_that_wants_it_says_what_to_do() -> None:
    async def main() -> None:
        async with await pb.serve(pb.Root(), "0.0.0.0") as server:
            with pytest.raises(pb.ConnectTimeout, match="if it serves with TLS, connect with its"):
                await pb.connect(f"127.0.0.1:{server.port}", token=server.token, timeout=1.5)

    asyncio.run(main())
