"""A Twisted program that copies objects to and from pbnb: a server, or a client.

    twisted_copies.py server          serves a lake; prints "READY port"
    twisted_copies.py client PORT     plays at the lake of a pbnb server; prints what it found

Both end when their standard input is closed.
"""

from __future__ import annotations

import sys

from copies import DUCK, POND, classes, play
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.python import log
from twisted.spread import pb
from twisted_peer import UntilClosed, say

MADE = classes(pb)
pb.setUnjellyableForClass(POND, MADE.Pond)
pb.setUnjellyableForClass(DUCK, MADE.RemoteDuck)


async def play_at(port: int) -> None:
    factory = pb.PBClientFactory()
    reactor.connectTCP("127.0.0.1", port, factory)
    say(**await play(await factory.getRootObject(), MADE))


def start(role: str, *arguments: str) -> None:
    StandardIO(UntilClosed())
    if role == "server":
        port = reactor.listenTCP(0, pb.PBServerFactory(MADE.Lake()), interface="127.0.0.1")
        print(f"READY {port.getHost().port}", flush=True)
        return
    done = Deferred.fromCoroutine(play_at(int(arguments[0])))
    done.addErrback(log.err).addBoth(lambda _: reactor.running and reactor.stop())


if __name__ == "__main__":
    log.startLogging(sys.stderr, setStdout=False)
    reactor.callWhenRunning(start, *sys.argv[1:])
    reactor.run()
