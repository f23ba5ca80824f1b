"""The recorded scenarios' server, as objects of ours, under the names that travelled."""

from __future__ import annotations

import asyncio
import datetime
import gc
import io
import os
from collections.abc import Callable
from typing import Any

import pbnb as pb
from pbnb.jelly import SecurityOptions

Native = Callable[[str], Any]


class Known(pb.Error):
    __module__ = "wiretypes"


class Unknown(Exception):
    __module__ = "wiretypes"


class MyException(pb.Error):
    __module__ = "__main__"


class JellyError(pb.Error, pb.Copyable):
    __module__ = "wiretypes"

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class PlainCopyError(Exception, pb.Copyable):
    __module__ = "wiretypes"

    def __init__(self, code: int) -> None:
        super().__init__(f"plain {code}")
        self.code = code


class RemoteJellyError(pb.RemoteCopy, pb.Error):
    code: int


class RemotePlainCopyError(pb.RemoteCopy, Exception):
    code: int


class Plain:
    __module__ = "wiretypes"

    def __init__(self, v: int) -> None:
        self.v = v


class PlainError(Exception):
    __module__ = "wiretypes"


class Pond(pb.Copyable):
    __module__ = "wiretypes"

    def __init__(self, frogs: int) -> None:
        self.frogs = frogs
        self.name = "pond"
        self.secret = "hidden"

    def getStateToCopy(self) -> Any:
        return {name: value for name, value in vars(self).items() if name != "secret"}


class Copied(pb.RemoteCopy):
    """A copy of any of the scenarios' objects."""


class Tagged(pb.Copyable):
    def __init__(self) -> None:
        self.x = 1

    def getTypeToCopy(self) -> bytes:
        return b"my-short-tag"


class Made(pb.Copyable):
    __module__ = "wiretypes"

    def __init__(self) -> None:
        self.n = 3


class Unregistered(pb.Copyable):
    __module__ = "wiretypes"

    def __init__(self) -> None:
        self.y = 2


class Stateless(pb.Copyable):
    __module__ = "wiretypes"

    def getStateToCopy(self) -> None:
        return None


class Duck(pb.Cacheable):
    __module__ = "wiretypes"

    def __init__(self, where: Any) -> None:
        self.where = where
        self.observers: list[Any] = []

    def move(self, where: Any) -> None:
        self.where = where
        for observer in list(self.observers):
            observer.callRemote("moved", where).addErrback(lambda failure: None)

    def getStateToCacheAndObserveFor(self, perspective: Any, observer: Any) -> Any:
        self.observers.append(observer)
        return {"where": self.where}

    def stoppedObserving(self, perspective: Any, observer: Any) -> None:
        self.observers.remove(observer)


class RemoteDuck(pb.RemoteCache):
    native: Native = str
    where: Any

    def observe_moved(self, where: Any) -> Any:
        self.where = where
        return RemoteDuck.native("noted")


def security(scenario: str) -> SecurityOptions:
    """Returns what both ends of a scenario let in."""
    options = SecurityOptions()
    options.allowBasicTypes()
    options.allowTypes("remote", "local", "cached", "lcache", "twisted.spread.pb.CopyableFailure")
    options.setUnjellyableForClass(JellyError, RemoteJellyError)
    options.setUnjellyableForClass(PlainCopyError, RemotePlainCopyError)
    for tag in ("wiretypes.Pond", "my-short-tag", "wiretypes.Made", "wiretypes.Stateless"):
        options.setUnjellyableForClass(tag, Copied)
    options.setUnjellyableForClass(Duck, RemoteDuck)
    if scenario == "allowed":
        options.allowInstancesOf(Plain, PlainError)
    return options


class Thing(pb.Referenceable):
    __module__ = "__main__"

    def __init__(self, name: Any) -> None:
        self.name = name

    def remote_name(self) -> Any:
        return self.name


class Root(pb.Root):
    """Does what each scenario asks of its server.

    Args:
        native: What a plain literal was in the program that was recorded.
    """

    def __init__(self, native: Native) -> None:
        self.native = native
        self.thing: Thing | None = None
        self.things: list[Thing] = []
        self.kept: Any = None
        self.duck: Duck | None = None
        self.broker: pb.Connection
        self.died: list[Any] = []

    def rootObject(self, broker: Any) -> pb.Referenceable:
        self.broker = broker
        return self

    def remote_echo(self, *args: Any, **kw: Any) -> Any:
        if kw:
            return args, kw
        return args[0] if len(args) == 1 else args

    def remote_note(self, value: Any) -> None:
        pass

    def remote_cyclic(self, value: Any) -> Any:
        return value

    def remote_table(self) -> Any:
        gc.collect()
        self.broker.machine.release_borrowed()
        rows = [(self.native(str(e.luid)), e.count) for e in self.broker.machine.refs.lent()]
        return [*rows, (self.native("b'root'"), 1)]

    # Errors

    def remote_known(self) -> None:
        raise Known("known went wrong")

    def remote_unknown(self) -> None:
        raise Unknown("unknown went wrong")

    def remote_unicodeError(self) -> None:
        raise Unknown("caf\xe9")

    def remote_pberror(self) -> None:
        raise pb.Error("bare pb.Error")

    async def remote_knownLater(self) -> None:
        await asyncio.sleep(0)
        raise Known("known later")

    async def remote_unknownLater(self) -> None:
        await asyncio.sleep(0)
        raise Unknown("unknown later")

    def remote_jellyError(self) -> None:
        raise JellyError(7)

    async def remote_jellyErrorLater(self) -> None:
        raise JellyError(8)

    def remote_plainCopyError(self) -> None:
        raise PlainCopyError(9)

    async def remote_plainCopyErrorLater(self) -> None:
        raise PlainCopyError(10)

    def remote_plainObject(self) -> Any:
        return object()

    def remote_someClass(self) -> Any:
        return Thing

    def remote_someFunction(self) -> Any:
        return security

    def remote_someModule(self) -> Any:
        return os

    def remote_generatorExit(self) -> None:
        raise GeneratorExit("not an Exception subclass")

    def remote_plainInstance(self) -> Any:
        return Plain(3)

    def remote_plainErrorSync(self) -> None:
        raise PlainError("plain error")

    async def remote_plainErrorLater(self) -> None:
        raise PlainError("plain error later")

    def remote_relay(self, ref: pb.RemoteReference, name: Any) -> Any:
        return ref.callRemote(name)

    def remote_returnFailure(self) -> Any:
        return pb.Failure(Unknown("as a value"))

    def remote_tzinfo(self) -> Any:
        return datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)  # noqa: UP017

    async def remote_laterValue(self) -> Any:
        return {self.native("k"): (1, 2)}

    def remote_twoArgs(self, a: Any, b: Any) -> Any:
        return a

    def remote_hugeInt(self) -> Any:
        return 2**500

    async def remote_hugeIntLater(self) -> Any:
        return 2**500

    def remote_hugeString(self) -> Any:
        return b"x" * (640 * 1024 + 1)

    # The documents' example of trapping errors

    def remote_fooMethod(self, arg: Any) -> Any:
        # In Python 2 text equals bytes.
        if arg == "panic!" or (arg == b"panic!" == self.native("panic!")):
            raise MyException
        return self.native("response")

    def remote_shutdown(self) -> Any:
        asyncio.get_running_loop().call_soon(self.broker.disconnect)
        return pb.Deferred()

    # References

    def remote_getThing(self) -> Thing:
        if self.thing is None:
            self.thing = Thing(self.native("thing"))
        return self.thing

    def remote_newThing(self) -> Thing:
        return Thing(self.native("fresh"))

    def remote_pairOfSame(self) -> Any:
        return [self.remote_getThing()] * 2

    def remote_same(self, thing: Any) -> bool:
        return thing is self.thing

    def remote_rootBack(self, root: Any) -> bool:
        return root is self

    def remote_keep(self, ref: Any) -> None:
        self.kept = ref

    def remote_useKept(self, *args: Any) -> Any:
        return self.kept.callRemote("hello", *args)

    def remote_drop(self) -> None:
        self.kept = None

    def remote_returnKept(self) -> Any:
        return self.kept

    def remote_many(self, count: int) -> Any:
        made = [Thing(str(index)) for index in range(count)]
        self.things += made
        return made

    # Copies

    def remote_pond(self) -> Any:
        return Pond(12)

    def remote_takePond(self, pond: Any) -> Any:
        assert (pond.frogs, pond.name) == (5, self.native("pond")) or pond.name in ("pond", b"pond")
        return self.native("RemotePond")

    def remote_tagged(self) -> Any:
        return Tagged()

    def remote_made(self) -> Any:
        return Made()

    def remote_unregistered(self) -> Any:
        return Unregistered()

    def remote_stateless(self) -> Any:
        return Stateless()

    def remote_twicePond(self) -> Any:
        return [Pond(1)] * 2

    def remote_loopPond(self) -> Any:
        pond: Any = Pond(2)
        pond.me = pond
        return pond

    # Live copies

    def remote_duck(self) -> Duck:
        if self.duck is None:
            self.duck = Duck(self.native("north"))
        return self.duck

    def remote_moveDuck(self, where: Any) -> int:
        assert self.duck is not None
        self.duck.move(where)
        return len(self.duck.observers)

    def remote_duckBack(self, duck: Any) -> bool:
        return duck is self.duck

    def remote_observers(self) -> int:
        assert self.duck is not None
        return len(self.duck.observers)

    def remote_twoDucks(self) -> Any:
        return [self.remote_duck(), self.remote_duck()]

    # Pages, and the end

    def remote_pageString(self, collector: Any) -> None:
        pb.StringPager(collector, b"abcdefghij" * 3, 8)

    def remote_pageFile(self, collector: Any) -> None:
        pb.FilePager(collector, io.BytesIO(b"0123456789" * 2000))

    def remote_hang(self) -> Any:
        return pb.Deferred()

    def remote_hangUp(self) -> Any:
        asyncio.get_running_loop().call_soon(self.broker.disconnect)
        return self.native("said before closing")

    def remote_watch(self, ref: Any) -> None:
        ref.notifyOnDisconnect(self.died.append)


# Logging in


class Board(pb.Viewable):
    def __init__(self) -> None:
        self.posts: list[Any] = []

    def view_post(self, perspective: Any, text: Any, **kw: Any) -> int:
        self.posts.append(text)
        return len(self.posts)

    def view_me(self, perspective: Any) -> Any:
        return self


Board.__module__ = "wiretypes"


class Avatar(pb.Avatar):
    __module__ = "__main__"

    def __init__(self, name: str, mind: Any, board: Board, native: Native) -> None:
        self.name = name
        self.mind = mind
        self.board = board
        self.native = native
        self.ended = 0

    def perspective_whoami(self) -> bytes:
        return self.name.encode()

    def perspective_add(self, a: int, b: int = 0) -> int:
        return a + b

    def perspective_board(self) -> Board:
        return self.board

    def perspective_boards(self) -> Any:
        return [self.board, self.board]

    def perspective_takeBoard(self, board: Any) -> bool:
        return board is self.board

    def perspective_duck(self) -> Any:
        return Duck(self.native("pond"))

    def perspective_poke(self) -> Any:
        return self.mind.callRemote("poked", self.native(f"by {self.name}"))

    def perspective_self(self) -> Any:
        return self

    def perspective_showBoardTo(self, ref: Any) -> Any:
        return ref.callRemote("takeView", self.board)

    def perspective_showBoardToMind(self) -> Any:
        return self.mind.callRemote("takeView", self.board)

    def perspective_fail(self) -> None:
        raise Known("avatar trouble")

    def logout(self) -> None:
        self.ended += 1


class ScenarioRealm:
    """Gives out a new avatar for each login."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self.board = Board()

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        avatar = Avatar(avatarId or "anon", mind, self.board, self.native)
        return pb.IPerspective, avatar, avatar.logout


def portal(native: Native) -> pb.Portal:
    """Returns the login of the scenarios that have one."""
    users = pb.PasswordChecker(alice="sesame", bob="pw")
    return pb.Portal(ScenarioRealm(native), [users, pb.AllowAnonymousAccess()])
