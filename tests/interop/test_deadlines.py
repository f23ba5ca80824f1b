"""Deadlines, cancellations and signs of life between pbnb and Twisted, which knows none of them."""

from __future__ import annotations

import asyncio

import pytest

import pbnb as pb
from tests.interop.peers import twisted_server
from tests.support.serving import until


def test_a_twisted_server_is_not_harmed_by_what_it_does_not_know() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            limits = pb.Limits(keepalive_seconds=0.05, silence_seconds=5)
            root = await pb.connect(peer.address, limits=limits)
            connection = root.broker
            with pb.deadline(0.2), pytest.raises(pb.DeadlineExceeded, match=r"hang\(\)"):
                await root.callRemote("hang")
            cancelled = root.callRemote("hang")
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            # It answers the question for a sign of life with an error, which is one.
            with pytest.raises(pb.Error, match="Invalid Object ID"):
                await connection.remoteForName("pbnb").callRemote("alive")
            received = connection.bytes_received
            await until(lambda: connection.bytes_received > received)
            assert await root.callRemote("echo", 1) == 1
            assert connection.error is None and not connection.lost
            await connection.close()

    asyncio.run(main())
