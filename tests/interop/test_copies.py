"""Copies and live copies between pbnb and Twisted, in both roles."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pbnb as pb
from tests.interop.copies import DUCK, FOUND, POND, classes, play
from tests.interop.peers import PATIENCE, twisted_process

SCRIPT = Path(__file__).with_name("twisted_copies.py")
MADE = classes(pb)


def security() -> pb.SecurityOptions:
    options = pb.SecurityOptions()
    options.allowBasicTypes()
    options.allowTypes("remote", "local", "cached", "lcache")
    options.setUnjellyableForClass(POND, MADE.Pond)
    options.setUnjellyableForClass(DUCK, MADE.RemoteDuck)
    return options


def test_copies_of_a_twisted_server() -> None:
    async def main() -> None:
        async with twisted_process("server", script=SCRIPT) as peer, asyncio.timeout(PATIENCE):
            word, _, port = (await peer.line()).partition(" ")
            assert word == "READY", "the Twisted server did not start; see what it wrote below"
            root = await pb.connect(f"127.0.0.1:{port}", security=security())
            assert await play(root, MADE) == FOUND
            assert root.broker.snapshot().caches == ()
            await root.broker.close()

    asyncio.run(main())


def test_copies_of_a_twisted_client() -> None:
    async def main() -> None:
        lake = MADE.Lake()
        async with await pb.serve(lake, security=security()) as server:
            async with twisted_process("client", str(server.port), script=SCRIPT) as peer:
                assert await peer.result() == FOUND
        assert lake.duck.observers == []

    asyncio.run(main())
