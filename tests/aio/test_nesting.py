"""Loops that are nested in what a connection has read."""

from __future__ import annotations

import asyncio
import tempfile
from contextvars import ContextVar, copy_context

import pytest

import pbnb as pb
from pbnb.aio.connection import Connection
from pbnb.aio.nesting import Nesting, nested
from pbnb.wire.banana import encode
from tests.aio.test_writing import Counted
from tests.support.processes import ran
from tests.support.serving import Desk, served, until

# Loops are nested for the whole process, which has to be another one. Whoever waits for what
# does not come says so after a while.
RELAY = """
    import asyncio, nest_asyncio2
    import pbnb as pb

    class Gauge(pb.Referenceable):
        def __init__(self):
            self.read = 0

        def remote_read(self, deeper=None):
            self.read += 1
            return self.read if deeper is None else nested(deeper.callRemote("relay", self))

        def remote_relayed(self, depth, relay):
            return nested(relay.callRemote("relayed", self, depth - 1)) if depth else "deep"

    class Relay(pb.Root):
        def remote_relay(self, gauge):
            return nested(gauge.callRemote("read"))

        def remote_deep(self, gauge):
            return nested(gauge.callRemote("read", self))

        def remote_relayed(self, gauge, depth):
            return nested(gauge.callRemote("relayed", depth, self))

        def remote_echo(self, value):
            return value

    def nested(answer):
        async def wait():
            return await asyncio.wait_for(answer, 20)
        return asyncio.get_running_loop().run_until_complete(wait())

    async def use(address):
        ref = await pb.connect(address)
        gauge = Gauge()
        print(await ref.callRemote("relay", gauge))
        print(await ref.callRemote("relay", gauge))
        print(await ref.callRemote("deep", gauge))
        # Many at once: some are read already, and wait behind the one that nests.
        print(sorted(await asyncio.gather(*(ref.callRemote("relay", gauge) for _ in range(9)))))
        deep = (ref.callRemote("relayed", gauge, depth % 3) for depth in range(12))
        print(set(await asyncio.gather(*deep)))
        print(await ref.callRemote("echo", "still there"))
        await ref.broker.close()
"""
SAID = "1\n2\n4\n[5, 6, 7, 8, 9, 10, 11, 12, 13]\n{'deep'}\nstill there\n"


class Reader:
    """Counts how often it is asked to read on."""

    def __init__(self) -> None:
        self.asked = 0

    def read_nested(self) -> None:
        self.asked += 1


@pytest.mark.parametrize(
    ("patched", "options", "address"),
    [
        ("before", {}, "address"),
        ("later", {}, "address"),
        ("before", {"path": "relay"}, "address"),
        ("before", {"host": "0.0.0.0"}, "invitation"),
    ],
)
def test_a_method_that_nests_a_loop_calls_back_over_its_own_connection(
    patched: str, options: dict[str, str], address: str
) -> None:
    main = f"""
    async def main():
        if {patched == "before"}:
            nest_asyncio2.apply()
        async with await pb.serve(Relay(), **{options}) as server:
            nest_asyncio2.apply()
            await use(server.{address})
    asyncio.run(main())
    """
    # Sockets have short names: not below tmp_path.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        if "path" in options:
            main = main.replace("'relay'", repr(f"{directory}/relay"))
        assert ran(RELAY + main) == (SAID, "")


def test_a_callback_that_nests_a_loop_reads_on() -> None:
    main = """
    async def main():
        nest_asyncio2.apply()
        async with await pb.serve(Relay(), thread=True) as server:
            ref = await pb.connect(server.address)
            answer = ref.callRemote("echo", 1)
            answer.addCallback(lambda value: nested(ref.callRemote("echo", value + 1)))
            print(await answer)
            await ref.broker.close()
    asyncio.run(main())
    """
    assert ran(RELAY + main) == ("2\n", "")


def test_connections_whose_methods_nest_within_each_other_read_on() -> None:
    main = """
    class Desk(pb.Root):
        peer = None

        def remote_hello(self, peer):
            self.peer = peer

        def remote_stay(self):
            nested(asyncio.sleep(0.05))

        def remote_ask(self):
            return nested(self.peer.callRemote("ask"))

    class Peer(pb.Referenceable):
        def remote_ask(self):
            return "answer"

    async def call(address):
        first, second = [await pb.connect(address) for _ in range(2)]
        await second.callRemote("hello", Peer())
        outer = first.callRemote("stay"), first.callRemote("ask")
        inner = second.callRemote("stay")
        print(await asyncio.gather(*outer, inner))
        await first.broker.close()
        await second.broker.close()

    async def main():
        nest_asyncio2.apply()
        async with await pb.serve(Desk()) as server:
            loop = asyncio.new_event_loop()
            await asyncio.to_thread(loop.run_until_complete, call(server.address))
            loop.close()
    asyncio.run(main())
    """
    assert ran(RELAY + main) == ("[None, 'answer', None]\n", "")


WHERE: ContextVar[str] = ContextVar("WHERE", default="where the connection was made")


class Told(pb.Root):
    """Notes in which context it is called."""

    def __init__(self) -> None:
        self.where: list[str] = []

    def remote_tell(self) -> None:
        self.where.append(WHERE.get())


class Reading(Counted):
    """Notes in which context its reader is made."""

    def __init__(self) -> None:
        super().__init__()
        self.where: list[str] = []

    def resume_reading(self) -> None:
        self.where.append(WHERE.get())


def found(connection: Connection) -> None:
    """Finds, in a context of its own, that a loop is nested in what a connection reads."""

    def find() -> None:
        WHERE.set("where it was found")
        connection.read_nested()

    copy_context().run(find)


def told() -> tuple[Connection, Reading, Told]:
    """Returns a connection that has received a call, and has not handled it."""
    root, wire = Told(), Reading()
    connection = Connection(listening=True, root=root, dialects=("pb",))
    connection.connection_made(wire)
    connection.data_received(encode(b"pb", None) + encode([b"version", 6]))
    call = [b"message", 1, b"root", b"tell", 1, [b"tuple"], [b"dictionary"]]
    connection.machine.receive_data(encode(call))
    return connection, wire, root


def test_what_is_read_on_is_handled_where_the_connection_was_made() -> None:
    async def main() -> None:
        connection, wire, root = told()
        found(connection)
        assert root.where == []  # a method may nest a loop: each has a turn of its own
        await asyncio.sleep(0)
        assert root.where == wire.where == [WHERE.get()]
        connection.connection_lost(None)

    asyncio.run(main())


@pytest.mark.parametrize("held", ["by its end", "for others", "by flow control"])
def test_what_is_held_for_other_reasons_stays_so(held: str) -> None:
    async def main() -> None:
        connection, wire, root = told()
        if held == "by its end":
            connection.connection_lost(None)
        elif held == "for others":
            connection._reading_later = True
        else:
            connection.flow.holds_reading = True
        found(connection)
        await asyncio.sleep(0)
        assert wire.where == root.where == []
        if held != "by its end":
            connection.connection_lost(None)

    asyncio.run(main())


def test_those_that_read_are_asked_once_each() -> None:
    async def main() -> None:
        nesting = Nesting.of(asyncio.get_running_loop())
        assert nesting is Nesting.of(asyncio.get_running_loop())
        outer, inner = Reader(), Reader()
        nesting.reading.append(outer)
        nesting.watch(asyncio.get_running_loop())
        await until(lambda: outer.asked)  # the loop turns, although `outer` reads
        assert nesting.reading == []
        nesting.reading.append(inner)
        with nested(asyncio.get_running_loop()):
            assert (outer.asked, inner.asked, nesting.reading) == (1, 1, [])
        nesting.reading.append(inner)
        await until(lambda: inner.asked == 2)  # it still looks, as something was read before
        await until(lambda: not nesting.watched)  # nothing is read
        assert (outer.asked, inner.asked) == (1, 2)

    asyncio.run(main())


def test_each_loop_has_its_own() -> None:
    async def of_this_loop() -> Nesting:
        return Nesting.of(asyncio.get_running_loop())

    assert asyncio.run(of_this_loop()) is not asyncio.run(of_this_loop())


def test_nothing_is_left_of_what_was_read() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            nesting = Nesting.of(asyncio.get_running_loop())
            assert await ref.callRemote("echo", 1) == 1
            await until(lambda: not (nesting.reading or nesting.watched))

    asyncio.run(main())
