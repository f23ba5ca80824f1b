"""Warnings: so many in a minute, and then how many were left out."""

from __future__ import annotations

import asyncio
import logging

import pytest

import pbnb as pb
from pbnb.aio.logged import Warnings
from pbnb.wire.banana import encode


def test_lines_beyond_the_limit_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    warnings = Warnings(2, lambda: now[0])
    with caplog.at_level(logging.INFO, "pbnb"):
        for number in range(5):
            warnings.say(logging.WARNING, "line %d", number)
        assert warnings.left_out == 3
        now[0] = 61.0
        warnings.say(logging.INFO, "line %d", 5)
    assert [record.getMessage() for record in caplog.records] == [
        "line 0",
        "line 1",
        "peers caused 2 lines within a minute; more are left out",
        "3 more lines about peers were left out",
        "line 5",
    ]


def test_peers_that_come_again_and_again_share_one_budget(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with await pb.serve(pb.Root(), limits=pb.Limits(logged_lines=3)) as server:
            for _ in range(20):
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                await reader.read()
                writer.close()
                await writer.wait_closed()

    with caplog.at_level(logging.INFO, "pbnb"):
        asyncio.run(main())
    assert len(caplog.records) == 4
    assert "more are left out" in caplog.text


def test_a_peer_cannot_flood_the_log_with_calls_that_fail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Root(pb.Root):
        def remote_fail(self) -> None:
            raise RuntimeError("so it is")

    calls = [("fail", b"root"), ("nothing", b"root"), ("any", b"unknown")]
    flood = b"".join(
        encode([b"message", n, obj, name.encode(), 0, [b"tuple"], [b"dictionary"]])
        for n in range(300)
        for name, obj in calls
    ) + 300 * encode([b"noise"])

    async def main() -> None:
        async with await pb.serve(Root(), limits=pb.Limits(logged_lines=10)) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            call = [b"message", 1, b"pbnb", b"alive", 1, [b"tuple"], [b"dictionary"]]
            writer.write(encode(b"pb", None) + flood + encode(call))
            await reader.readuntil(encode([b"answer", 1, [b"None"]]))
            writer.close()

    with caplog.at_level(logging.INFO, "pbnb"):
        asyncio.run(main())
    assert len(caplog.records) == 11
