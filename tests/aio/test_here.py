"""Calls within one process run in the context in which they were made."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.here import Here, in_own_context
from tests.support.serving import served

cell: ContextVar[str] = ContextVar("cell", default="none")


class Desk(pb.Root):
    def remote_plain(self) -> str:
        return cell.get()

    async def remote_async(self) -> str:
        await asyncio.sleep(0)
        return cell.get()

    def remote_back(self, ref: Any) -> Any:
        cell.set("changed by the method")
        return ref.callRemote("plain")

    def remote_fail(self) -> None:
        raise pb.Error(cell.get())


@pytest.mark.parametrize("name", ["plain", "async"])
def test_a_method_runs_in_the_context_of_its_call(name: str) -> None:
    async def main() -> None:
        cell.set("the cell that connected")
        async with served(Desk()) as (_, ref):
            cell.set("first")
            first = ref.callRemote(name)
            cell.set("second")
            assert await ref.callRemote(name) == "second"
            assert await first == "first"

    asyncio.run(main())


def test_a_server_may_keep_its_methods_in_its_own_context() -> None:
    async def main() -> None:
        cell.set("server")
        token = in_own_context.set(True)
        server = await pb.serve(Desk())
        in_own_context.reset(token)
        cell.set("caller")
        ref = await pb.connect(server.address)
        assert await ref.callRemote("plain") == "server"
        await server.close()

    asyncio.run(main())


def test_what_a_method_sets_stays_with_it() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            cell.set("caller")
            assert await ref.callRemote("back", Desk()) == "changed by the method"
            assert cell.get() == "caller"

    asyncio.run(main())


def test_nothing_is_kept_of_calls_that_have_ended() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            (far,) = server.connections
            await ref.callRemote("plain")
            with pytest.raises(pb.Error):
                await ref.callRemote("fail")
            with pytest.raises(pb.NoSuchMethod):
                await ref.callRemote("nothing")
            for end in (far, ref.broker):
                assert end.here._contexts == {}
                assert end.here.other is not None
            await ref.broker.close()
            assert ref.broker.here.other is None

    asyncio.run(main())


def test_an_end_elsewhere_is_not_found() -> None:
    here = Here(("127.0.0.1", 1), ("127.0.0.1", 2))
    here.opened()
    copy_context().run(here.called, 1)
    assert here.context_of(1) is None


def test_sockets_without_addresses_are_nobodys_other_end() -> None:
    one, other = Here("", ""), Here("", "")
    for each in (one, other):
        each.opened()
    one.called(1)
    assert other.context_of(1) is None and one.context_of(1) is None


def test_the_other_end_in_another_process_knows_no_context() -> None:
    program = (
        "import asyncio, sys, pbnb as pb\n"
        "async def main():\n"
        "    ref = await pb.connect(sys.argv[1])\n"
        "    print(await ref.callRemote('plain'))\n"
        "asyncio.run(main())\n"
    )

    async def main() -> str:
        cell.set("server")
        async with await pb.serve(Desk()) as server:
            cell.set("later")
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, server.address, stdout=subprocess.PIPE
            )
            said, _ = await child.communicate()
            return said.decode().strip()

    assert asyncio.run(main()) == "server"
