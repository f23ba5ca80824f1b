"""Loops that are nested in what a connection has read."""

from __future__ import annotations

import asyncio

import pytest

from pbnb.aio.nesting import Nesting, read_nested
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

    class Relay(pb.Root):
        def remote_relay(self, gauge):
            return nested(gauge.callRemote("read"))

        def remote_deep(self, gauge):
            return nested(gauge.callRemote("read", self))

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
        print(await ref.callRemote("echo", "still there"))
        await ref.broker.close()
"""
SAID = "1\n2\n4\n[5, 6, 7, 8, 9, 10, 11, 12, 13]\nstill there\n"


class Reader:
    """Counts how often it is asked to read on."""

    def __init__(self) -> None:
        self.asked = 0

    def read_nested(self) -> None:
        self.asked += 1


@pytest.mark.parametrize("patched", ["before", "later"])
def test_a_method_that_nests_a_loop_calls_back_over_its_own_connection(patched: str) -> None:
    main = f"""
    async def main():
        if {patched == "before"}:
            nest_asyncio2.apply()
        async with await pb.serve(Relay()) as server:
            nest_asyncio2.apply()
            await use(server.address)
    asyncio.run(main())
    """
    assert ran(RELAY + main) == (SAID, "")


def test_it_does_so_over_a_unix_socket() -> None:
    main = """
    import tempfile
    async def main():
        nest_asyncio2.apply()
        with tempfile.TemporaryDirectory() as directory:
            async with await pb.serve(Relay(), path=directory + "/relay") as server:
                await use(server.address)
    asyncio.run(main())
    """
    assert ran(RELAY + main) == (SAID, "")


def test_it_does_so_over_an_encrypted_connection() -> None:
    main = """
    async def main():
        nest_asyncio2.apply()
        async with await pb.serve(Relay(), host="0.0.0.0") as server:
            await use(server.invitation)
    asyncio.run(main())
    """
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
        read_nested(asyncio.get_running_loop())
        assert (outer.asked, inner.asked, nesting.reading) == (1, 1, [])
        await until(lambda: not nesting.watched)  # nothing is read
        assert (outer.asked, inner.asked) == (1, 1)

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
