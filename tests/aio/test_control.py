"""What two pbnb peers tell each other: cancel, alive."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.control import Control
from tests.support.serving import served, tables, until


class Desk(pb.Root):
    def __init__(self) -> None:
        self.cancelled = 0

    def remote_echo(self, value: Any) -> Any:
        return value

    async def remote_never(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def test_a_cancelled_call_is_cancelled_at_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()

    async def main() -> None:
        async with served(desk) as (server, ref):
            (far,) = server.connections
            task = asyncio.ensure_future(ref.callRemote("never"))
            await ref.callRemote("echo", 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: desk.cancelled == 1)
            await until(lambda: not tables(far, ref.broker))

    with caplog.at_level(logging.WARNING, "pbnb"):
        asyncio.run(main())
    assert caplog.text == ""


@pytest.mark.parametrize("number", [0, -1, 77, 2**70, b"1", [1], None, 1.0, "1"], ids=repr)
def test_a_cancellation_of_nothing_does_nothing(number: Any) -> None:
    desk = Desk()

    async def main() -> None:
        async with served(desk) as (_, ref):
            call = ref.callRemote("never")
            await ref.broker.remoteForName("pbnb").callRemote("cancel", number)
            assert not call.called
            call.cancel()

    asyncio.run(main())


def test_a_peer_is_asked_whether_it_is_alive() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            assert await ref.broker.remoteForName("pbnb").callRemote("alive") is None

    asyncio.run(main())


def test_it_offers_nothing_else() -> None:
    names = {name for name in dir(Control) if name.startswith("remote_")}
    assert names == {"remote_alive", "remote_cancel", "remote_types"}
