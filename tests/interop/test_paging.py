"""Pagers and collectors of both ends."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

import pbnb as pb
from tests.interop.peers import run_twisted, twisted_server
from tests.interop.served import Served

DATA = bytes(range(256)) * 250


class BadFile(io.BytesIO):
    """A file whose disk goes away after one page."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError("the disk is gone")
        return super().read(size)


class Pages(Served):
    def remote_pageString(self, collector: pb.RemoteReference) -> None:
        pb.StringPager(collector, b"abcdefghij" * 3, 8)

    def remote_pageFile(self, collector: pb.RemoteReference) -> None:
        pb.FilePager(collector, io.BytesIO(b"0123456789" * 2000))

    def remote_pageBroken(self, collector: pb.RemoteReference) -> None:
        pb.FilePager(collector, BadFile(b"x" * 20_000))


def test_pages_of_a_twisted_server_are_collected() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            assert await pb.getAllPages(root, "pageString", b"abcdefghij", 4) == [
                b"abcd",
                b"efgh",
                b"ij",
            ]
            assert await peer.result() == {"paged": "string"}
            pages = await pb.getAllPages(root, "pageString", DATA)
            assert b"".join(pages) == DATA
            assert [len(page) for page in pages] == [8192] * 7 + [6656]
            pages = await pb.getAllPages(root, "pageFile", DATA)
            assert [len(page) for page in pages] == [16384] * 3 + [14848]
            assert b"".join(pages) == DATA
            assert await pb.getAllPages(root, "pageFile", b"") == []
            with pytest.raises(pb.NoSuchMethod):
                await pb.getAllPages(root, "pageNothing")
            # A method that pages nothing and lets the collector go.
            with pytest.raises(pb.Error, match="let go of the collector"):
                await pb.getAllPages(root, "describe")
            await root.broker.close()

    asyncio.run(main())


def test_a_twisted_server_collects_pages() -> None:
    async def main() -> list[Any]:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            pages = Pages()
            found = [
                await root.callRemote("collect", pages, name)
                for name in ("pageString", "pageFile", "pageBroken")
            ]
            assert await root.callRemote("echo", "alive") == "alive"
            await root.broker.close()
            return found

    string, file, broken = asyncio.run(main())
    assert string == [b"abcdefgh", b"ijabcdef", b"ghijabcd", b"efghij"]
    assert b"".join(file) == b"0123456789" * 2000
    # Nobody there hears of the end in any other way; what is cut short does not look complete.
    assert broken == [b"x" * 16384, ("failure", "the disk is gone")]


def test_a_twisted_client_collects_pages() -> None:
    async def main() -> dict[str, Any]:
        async with await pb.serve(Pages()) as server:
            return await run_twisted(server.port, "paging")

    found = asyncio.run(main())
    assert found["pageString"] == ["abcdefgh", "ijabcdef", "ghijabcd", "efghij"]
    assert "".join(found["pageFile"]) == "0123456789" * 2000
    assert found["pageBroken"] == ["x" * 16384, ["failure", "the disk is gone"]]
    assert found["alive"] == "alive"
