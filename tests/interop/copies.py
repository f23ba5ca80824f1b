"""Objects that are copied, and what is done with them: written once, for either library.

Plain Python: the tests and the Twisted peer, each in its own process, both import it.
"""

from __future__ import annotations

import gc
from types import ModuleType, SimpleNamespace
from typing import Any

POND, DUCK = b"copies.Pond", b"copies.Duck"


def classes(pb: ModuleType) -> Any:
    """Returns the same classes, made of the flavors of pbnb or of Twisted's PB."""

    class Pond(pb.Copyable, pb.RemoteCopy):  # type: ignore[name-defined, misc]
        def __init__(self, frogs: int) -> None:
            self.frogs = frogs

        def getTypeToCopy(self) -> bytes:
            return POND

    class Duck(pb.Cacheable):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.where = 0
            self.observers: list[Any] = []

        def move(self) -> list[Any]:
            self.where += 1
            return [each.callRemote("moved", self.where) for each in self.observers]

        def getTypeToCopy(self) -> bytes:
            return DUCK

        def getStateToCacheAndObserveFor(self, perspective: Any, observer: Any) -> Any:
            self.observers.append(observer)
            return {"where": self.where}

        def stoppedObserving(self, perspective: Any, observer: Any) -> None:
            self.observers.remove(observer)

    class RemoteDuck(pb.RemoteCache):  # type: ignore[name-defined, misc]
        def observe_moved(self, where: int) -> None:
            assert where == self.where + 1
            self.where = where

    class Lake(pb.Root):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.duck = Duck()
            self.held: Any = None

        def remote_pond(self) -> Pond:
            return Pond(5)

        def remote_frogs(self, pond: Any) -> list[Any]:
            return [type(pond).__name__, pond.frogs]

        def remote_echo(self, value: Any) -> Any:
            return value

        def remote_duck(self) -> Duck:
            return self.duck

        def remote_isDuck(self, duck: Any) -> bool:
            return duck is self.duck

        def remote_move(self) -> None:
            self.duck.move()

        def remote_observers(self) -> int:
            return len(self.duck.observers)

        def remote_hold(self, duck: Any) -> None:
            self.held = duck

        def remote_held(self) -> Any:
            return self.held

        def remote_where(self) -> int:
            return int(self.held.where)

        def remote_forget(self) -> None:
            self.held = None
            gc.collect()

    return SimpleNamespace(Pond=Pond, Duck=Duck, RemoteDuck=RemoteDuck, Lake=Lake)


async def play(root: Any, made: Any) -> dict[str, Any]:
    """Copies in both directions over one connection, and returns what came of it.

    Args:
        root: A reference to the peer's Lake.
        made: This side's classes.
    """
    found: dict[str, Any] = {}
    pond = await root.callRemote("pond")
    found["pond"] = [type(pond).__name__, pond.frogs]
    found["sent"] = await root.callRemote("frogs", made.Pond(3))
    found["shared"] = len(set(map(id, await root.callRemote("echo", [made.Pond(1)] * 2))))

    copy = await root.callRemote("duck")
    found["kind"] = type(copy).__name__
    await root.callRemote("move")
    again = await root.callRemote("duck")
    await root.callRemote("move")
    found["where"] = [copy.where, again.where]
    found["home"] = [await root.callRemote("isDuck", each) for each in (copy, again)]
    found["observers"] = await root.callRemote("observers")
    del copy, again, pond
    gc.collect()
    while await root.callRemote("observers"):
        pass

    mine = made.Duck()
    await root.callRemote("hold", mine)
    for told in mine.move():
        await told
    found["there"] = await root.callRemote("where")
    found["mine"] = await root.callRemote("held") is mine
    await root.callRemote("forget")
    while mine.observers:
        await root.callRemote("echo", None)
    found["alive"] = await root.callRemote("echo", "alive")
    return found


FOUND = {
    "pond": ["Pond", 5],
    "sent": ["Pond", 3],
    "shared": 1,
    "kind": "RemoteDuck",
    "where": [2, 2],
    "home": [True, True],
    "observers": 1,
    "there": 1,
    "mine": True,
    "alive": "alive",
}
