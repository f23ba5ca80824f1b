"""Who is told of the opening and of the end of a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pbnb as pb
from tests.support.serving import Desk, Thing, served, until


def test_who_asked_is_told_once_of_the_end() -> None:
    told: list[Any] = []

    async def main() -> None:
        async with served(Desk()) as (server, ref):
            thing = await ref.callRemote("thing")
            await ref.callRemote("keep", Thing())
            far = server.root.kept  # type: ignore[attr-defined]
            far.notifyOnDisconnect(lambda gone: told.append(gone is far))
            thing.notifyOnDisconnect(lambda gone: told.append(gone is thing))
            ref.broker.notifyOnDisconnect(lambda: told.append("broker"))
            thing.notifyOnDisconnect(told.append)
            thing.dontNotifyOnDisconnect(told.append)
            thing.dontNotifyOnDisconnect(told.append)
            ref.broker.notifyOnDisconnect(told.clear)
            ref.broker.dontNotifyOnDisconnect(told.clear)
            await ref.broker.close()
            await until(lambda: len(told) == 3)
            thing.notifyOnDisconnect(lambda gone: told.append("late"))

    asyncio.run(main())
    assert sorted(map(str, told)) == ["True", "True", "broker", "late"]


def test_callbacks_of_the_end_may_ask_to_be_told_too() -> None:
    told: list[str] = []

    async def main() -> None:
        async with served(Desk()) as (_, ref):
            broker = ref.broker

            def again(_: object = None) -> None:
                told.append("first")
                broker.notifyOnDisconnect(lambda: told.append("second"))
                ref.notifyOnDisconnect(lambda _: told.append("third"))

            ref.notifyOnDisconnect(again)
            broker.notifyOnDisconnect(lambda: told.append("last"))
            await broker.close()

    asyncio.run(main())
    assert told == ["first", "second", "third", "last"]


def test_who_asked_is_told_once_of_the_opening(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    class Doorman(Desk):
        def rootObject(self, broker: Any) -> pb.Referenceable:
            broker.notifyOnConnect(lambda: 1 / 0)
            broker.notifyOnConnect(lambda: told.append(broker.machine.dialect))
            assert told == []
            return self

    async def main() -> None:
        async with served(Doorman()) as (server, ref):
            assert await ref.callRemote("echo", 1) == 1
            assert told == ["pbnb1"]
            for broker in (server.connections[0], ref.broker):
                broker.notifyOnConnect(lambda: told.append("at once"))
        assert told == ["pbnb1", "at once", "at once"]

    asyncio.run(main())
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_that_fails_does_not_keep_the_others_from_being_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []

    async def main() -> None:
        async with served(Desk()) as (_, ref):
            ref.broker.notifyOnDisconnect(lambda: 1 / 0)
            ref.broker.notifyOnDisconnect(lambda: told.append(1))

    asyncio.run(main())
    assert told == [1]
    assert "ZeroDivisionError" in caplog.text
