"""Twisted's Perspective Broker, on its own reactor."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import twisted.internet.defer
import twisted.internet.reactor
import twisted.spread.pb

from . import HOST, Peer, Serving, objects

# Their types say less than they can do.
defer: Any = twisted.internet.defer
reactor: Any = twisted.internet.reactor
pb: Any = twisted.spread.pb

BACKLOG = 1024
# Otherwise 100,000 references would end the connection.
pb.MAX_BROKER_REFS = 2**31


class Twisted(Peer):
    """Twisted on the reactor that it takes by itself; it has no variants."""

    def serve(self, ready: Callable[[int, Serving], object]) -> None:
        root = objects.lender(pb)
        port = reactor.listenTCP(0, pb.PBServerFactory(root), backlog=BACKLOG, interface=HOST)
        reactor.callWhenRunning(ready, port.getHost().port, root)
        reactor.run()

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        failed: list[BaseException] = []

        def start() -> None:
            done = defer.ensureDeferred(main())
            done.addErrback(lambda failure: failed.append(failure.value))
            done.addBoth(lambda _: reactor.stop())

        reactor.callWhenRunning(start)
        reactor.run()
        if failed:
            raise failed[0]

    async def connect(self, port: int) -> Any:
        factory = pb.PBClientFactory()
        reactor.connectTCP(HOST, port, factory)
        return await factory.getRootObject()

    async def close(self, root: Any) -> None:
        closed = defer.Deferred()
        root.broker.notifyOnDisconnect(lambda: closed.callback(None))
        root.broker.transport.loseConnection()
        await closed

    async def gather(self, work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        deferreds = [defer.ensureDeferred(each) for each in work]
        results: list[Any] = await defer.gatherResults(deferreds, consumeErrors=True)
        return results

    def pinged(self) -> Any:
        return objects.pinged(pb)


PEER = Twisted
