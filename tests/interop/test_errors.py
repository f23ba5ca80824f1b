"""Errors both ways, under the names by which each side traps them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import pbnb as pb
from tests.interop.peers import run_twisted, twisted_server
from tests.interop.served import MyError, Served, Unsafe, lent


async def failure_of(d: Any) -> Any:
    """Returns the failure that an errback is given."""
    failures: list[Any] = []
    d.addErrback(failures.append)
    await d
    (failure,) = failures
    return failure


def test_errors_of_a_twisted_server_reach_errbacks() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            expected = await failure_of(root.callRemote("broken"))
            assert isinstance(expected, pb.CopiedFailure)
            assert expected.type == "__main__.MyError"
            assert expected.getErrorMessage() == "fall down go boom"
            assert expected.traceback == "Traceback unavailable\n"
            assert expected.trap(ZeroDivisionError, MyError) is MyError
            assert expected.check(pb.Error) is pb.Error
            unexpected = await failure_of(root.callRemote("broken2"))
            assert unexpected.type == "__main__.MyError2"
            assert unexpected.check(pb.Error, MyError) is None
            missing = await failure_of(root.callRemote("nosuch"))
            assert missing.trap(pb.NoSuchMethod) is pb.NoSuchMethod
            assert await root.callRemote("echo", "alive") == "alive"
            await root.broker.close()

    asyncio.run(main())


def test_errors_of_a_twisted_server_are_raised_by_await() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            with pytest.raises(MyError, match="fall down go boom") as caught:
                await root.callRemote("broken")
            assert isinstance(caught.value, pb.RemoteError)
            assert caught.value.remoteType == "__main__.MyError"
            with pytest.raises(MyError, match="too late"):
                await root.callRemote("laterBroken")
            with pytest.raises(ZeroDivisionError, match="division by zero"):
                await root.callRemote("divide", 1, 0)
            with pytest.raises(pb.NoSuchMethod, match="nosuch"):
                await root.callRemote("nosuch")
            with pytest.raises(TypeError):
                await root.callRemote("echo", 1, 2, 3)
            assert await root.callRemote("echo", "alive") == "alive"
            await root.broker.close()

    asyncio.run(main())


def test_errors_of_ours_reach_a_twisted_client(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> dict[str, Any]:
        async with await pb.serve(Served()) as server:
            return await run_twisted(server.port, "errors")

    with caplog.at_level(logging.INFO, "pbnb"):
        found = asyncio.run(main())
    for outcome in found.values():
        if outcome != "alive":
            assert outcome.pop("traceback") == "Traceback unavailable\n"
    arguments = found.pop("arguments")
    assert arguments["type"] == "builtins.TypeError"
    assert found == {
        "expected": {
            "type": "__main__.MyError",
            "value": "fall down go boom",
            "trapped": ["MyError", "Error"],
        },
        "unexpected": {"type": "__main__.MyError2", "value": "hadda owie", "trapped": []},
        "builtin": {
            "type": "builtins.ZeroDivisionError",
            "value": "division by zero",
            "trapped": [],
        },
        "missing": {
            "type": "twisted.spread.flavors.NoSuchMethod",
            "value": "No such method: remote_nosuch",
            "trapped": ["NoSuchMethod"],
        },
        "later": {"type": "__main__.MyError", "value": "too late", "trapped": ["MyError", "Error"]},
        "alive": "alive",
    }
    # Only what nobody expected is logged, as the documents have it.
    assert "Peer will receive following PB traceback" in caplog.text
    assert "hadda owie" in caplog.text
    assert "fall down go boom" not in caplog.text


def test_what_may_not_be_sent_is_refused_here() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            failure = await failure_of(root.callRemote("echo", Unsafe()))
            assert failure.check(pb.InsecureJelly) is pb.InsecureJelly
            assert "Unsafe" in failure.getErrorMessage()
            with pytest.raises(pb.InsecureJelly):
                await root.callRemote("echo", [pb.Referenceable(), {"deep": Unsafe()}])
            assert lent(root.broker) == {}
            assert await root.callRemote("echo", "alive") == "alive"
            await root.broker.close()

    asyncio.run(main())


def test_what_twisted_could_not_send_is_refused_on_arrival() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            with pytest.raises(pb.InsecureJelly):
                await root.callRemote("sendUnsafe")
            assert await root.callRemote("echo", "alive") == "alive"
            await root.broker.close()

    asyncio.run(main())


def test_a_twisted_client_is_told_what_may_not_be_sent() -> None:
    async def main() -> None:
        async with await pb.serve(Served()) as server:
            found = await run_twisted(server.port, "unsafe")
        for way in ("sent", "returned"):
            assert found[way]["type"] == "twisted.spread.jelly.InsecureJelly"
            assert found[way]["trapped"] == ["InsecureJelly"]
        assert found["alive"] == "alive"

    asyncio.run(main())
