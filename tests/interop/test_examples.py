"""The shapes of the documented programs, in their callback form, with Twisted at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pbnb as pb
from tests.interop.peers import PATIENCE, run_twisted, twisted_server
from tests.interop.served import MyError, Served, Two, Unsafe


@asynccontextmanager
async def listening(root: pb.Root) -> AsyncIterator[int]:
    """Serves by the factory, as the documented programs do; yields the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(pb.PBServerFactory(root), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Any]:
    """Connects by the factory; yields the Deferred of the root."""
    factory = pb.PBClientFactory()
    await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)
    d = factory.getRootObject()
    root: list[Any] = []
    d.addCallback(lambda obj: root.append(obj) or obj)
    async with asyncio.timeout(PATIENCE):
        yield d
    await root[0].broker.close()


def test_pbsimple() -> None:
    async def main() -> None:
        printed: list[str] = []
        async with twisted_server() as peer, connected(peer.port) as d:
            d.addCallback(lambda obj: obj.callRemote("echo", "hello network"))
            d.addCallback(lambda echo: "server echoed: " + echo)
            d.addErrback(lambda reason: "error: " + str(reason.value))
            d.addCallback(printed.append)
            await d
        assert printed == ["server echoed: hello network"]

    asyncio.run(main())


def test_pb1() -> None:
    async def main() -> None:
        async with twisted_server() as peer, connected(peer.port) as d:
            d.addCallback(lambda one: one.callRemote("getTwo"))
            d.addCallback(lambda two: two.callRemote("three", 12).addCallback(lambda _: two))
            d.addCallback(lambda two: two.callRemote("given"))
            assert await d == [12]
        served = Served()
        async with listening(served) as port:
            await run_twisted(port, "pb1")
        assert served.two.given == [12]

    asyncio.run(main())


def test_pb2() -> None:
    class Foo:
        def step1(self, one: Any) -> Any:
            self.one = one
            return one.callRemote("getTwo").addCallback(self.step2)

        def step2(self, two: Any) -> Any:
            return self.one.callRemote("checkTwo", two)

    async def main() -> None:
        async with twisted_server() as peer, connected(peer.port) as d:
            assert await d.addCallback(Foo().step1) is True
        async with listening(Served()) as port:
            assert await run_twisted(port, "pb2") == {"same": True, "equal": True}

    asyncio.run(main())


def test_pb3() -> None:
    async def main() -> None:
        two = Two()
        async with twisted_server() as peer, connected(peer.port) as d:
            await d.addCallback(lambda one, two: one.callRemote("takeTwo", two), two)
        assert two.given == [12]
        async with listening(Served()) as port:
            assert await run_twisted(port, "pb3") == {"given": [12]}

    asyncio.run(main())


def test_exc() -> None:
    async def main() -> None:
        reasons: list[Any] = []
        async with twisted_server() as peer, connected(peer.port) as d:
            one = await d
            for name in ("broken", "broken2"):
                d2 = one.callRemote(name)
                d2.addCallback(lambda _: reasons.append("it wasn't supposed to work"))
                await d2.addErrback(reasons.append)
        assert [reason.__class__ for reason in reasons] == [pb.CopiedFailure] * 2
        assert [(reason.type, reason.getErrorMessage()) for reason in reasons] == [
            ("__main__.MyError", "fall down go boom"),
            ("__main__.MyError2", "hadda owie"),
        ]

    asyncio.run(main())


class Trapping:
    """A chain of errbacks of which each handles what it traps and passes on the rest."""

    def __init__(self, remote: Any) -> None:
        self.remote = remote
        self.outcomes: list[str] = []

    def check_insecure(self, failure: Any) -> None:
        failure.trap(pb.InsecureJelly)
        self.outcomes.append("InsecureJelly")

    def check_mine(self, failure: Any) -> None:
        which = failure.trap(MyError)
        self.outcomes.append("MyError" if which is MyError else "another")

    def check_everything(self, failure: Any) -> None:
        self.outcomes.append(failure.type if isinstance(failure.type, str) else "local")

    async def call(self, name: str, *args: Any) -> None:
        try:
            d = self.remote.callRemote(name, *args)
            d.addCallback(self.outcomes.append)
            d.addErrback(self.check_insecure)
            d.addErrback(self.check_mine)
            d.addErrback(self.check_everything)
            await d
        except pb.DeadReferenceError:
            self.outcomes.append("stale")


def test_trap_with_a_twisted_server() -> None:
    async def main() -> None:
        async with twisted_server() as peer, connected(peer.port) as d:
            trapping = Trapping(await d)
            await trapping.call("echo", "safe string")
            await trapping.call("echo", Unsafe())
            await trapping.call("broken")
            await trapping.call("broken2")
            await trapping.remote.broker.close()
            await trapping.call("echo", "dummy")
        assert trapping.outcomes == [
            *("safe string", "InsecureJelly", "MyError", "__main__.MyError2", "stale")
        ]

    asyncio.run(main())


def test_trap_with_a_twisted_client() -> None:
    async def main() -> None:
        served = Served()
        async with await pb.serve(served) as server:
            served.server = server
            assert await run_twisted(server.port, "trap") == {
                "outcomes": ["response", "InsecureJelly", "MyError", "PBConnectionLost", "stale"]
            }

    asyncio.run(main())
