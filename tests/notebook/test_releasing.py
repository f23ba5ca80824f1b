from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pbnb as pb
from pbnb.notebook.releasing import Holders, found_in, release
from tests.support.kernels import Kernel
from tests.support.serving import served, until


class Thing(pb.Referenceable):
    pass


class Lender(pb.Root):
    def remote_thing(self) -> Thing:
        return Thing()


def test_variables_and_results_that_hold_an_object_are_named() -> None:
    held, other = object(), object()
    holders = Holders({"a": held, "b": other, "c": held, "_": held, "_oh": {1: other, 4: held}})
    assert holders.of(held) == ["a", "c", "Out[4]"]
    assert holders.names() == {id(held): "a, c, Out[4]", id(other): "b, Out[1]"}


def test_a_thousand_names_are_cut_short() -> None:
    held = object()
    names = Holders({f"name{n}" * 20: held for n in range(1000)}).names()
    assert len(names[id(held)]) == 120


def test_what_is_forgotten_is_held_nowhere() -> None:
    held, other = object(), object()
    results = {1: other, 4: held}
    namespace: dict[str, Any] = {"a": held, "b": other, "_": held, "_4": held, "_oh": results}
    assert Holders(namespace).forget(held) == ["a", "Out[4]"]
    assert namespace == {"b": other, "_": "", "_oh": {1: other}}


def test_a_namespace_without_results_will_do() -> None:
    held = object()
    assert Holders({"a": held}).of(held) == ["a"]


@pytest.mark.parametrize("name", ["Out[3]", "ref", "_3"])
def test_things_are_found_as_they_are_written(name: str) -> None:
    assert found_in({"ref": 1, "_3": 1, "_oh": {3: 1}}, name) == 1


@pytest.mark.parametrize("name", ["Out[4]", "Out[x]", "nothing", "Out[3].__class__"])
def test_nothing_else_is_found(name: str) -> None:
    with pytest.raises(KeyError):
        found_in({"_oh": {3: 1}}, name)


async def _released_although_held() -> None:
    async with served(Lender()) as (server, root):
        ref = await root.callRemote("thing")
        kept = [ref]
        (connection,) = server.connections
        assert [entry.count for entry in connection.machine.refs.lent()] == [1]
        said = release(ref, Holders({"ref": ref}))
        assert said.endswith("held by ref")
        await until(lambda: not list(connection.machine.refs.lent()))
        with pytest.raises(pb.Error):
            await kept[0].callRemote("anything")
        # What was given back is not given back again when it is collected.
        kept.clear()
        del ref
        assert isinstance(await root.callRemote("thing"), pb.RemoteReference)
        assert not connection.lost


def test_a_reference_is_released_whoever_still_holds_it() -> None:
    asyncio.run(_released_although_held())


class Keeper(pb.Root):
    def __init__(self) -> None:
        self.thing = pb.Referenceable()

    def remote_thing(self) -> pb.Referenceable:
        return self.thing


async def _released_under_every_name() -> None:
    async with served(Keeper()) as (server, root):
        namespace = {name: await root.callRemote("thing") for name in ("one", "other")}
        holders = Holders(namespace)
        ref = namespace["one"]
        assert holders.names()[id(root.broker), ref.luid] == "one, other"
        (connection,) = server.connections
        assert [entry.count for entry in connection.machine.refs.lent()] == [2]
        assert release(ref, holders).endswith("held by one, other")
        assert namespace == {}
        await until(lambda: not list(connection.machine.refs.lent()))


def test_equal_references_are_released_together() -> None:
    asyncio.run(_released_under_every_name())


async def _root_stays() -> None:
    async with served(Lender()) as (_, root):
        assert "end its connection" in release(root, Holders({"root": root}))
        await root.callRemote("thing")


def test_a_root_cannot_be_released() -> None:
    asyncio.run(_root_stays())


def test_a_displayed_reference_is_released(kernel: Kernel, peer: Kernel) -> None:
    kernel.run(
        "class Lender(pb.Root):\n"
        "    def remote_thing(self):\n"
        "        return pb.Referenceable()\n"
        "server = %pb_serve Lender() --name lender --anonymous"
    )
    count = (
        "for _ in range(5000):\n"
        "    counts = [row.count for seen in server.snapshot() for row in seen.lent if row.count]\n"
        "    if len(counts) == {}: break\n"
        "    await asyncio.sleep(0.01)\n"
        "print(counts)"
    )
    peer.run("root = %pb_connect lender")
    peer.run("thing = await root.callRemote('thing')\nthing")
    peer.run("del thing")
    # IPython has it still.
    assert kernel.run(count.format(1)).stdout == "[1]\n"
    peer.run("thing = _\nthing")
    assert "held by thing, Out[" in peer.run("%pb_release thing").stdout
    assert kernel.run(count.format(0)).stdout == "[]\n"
    assert "no nothing in this notebook" in peer.attempt("%pb_release nothing").stderr
    assert "say what to release" in peer.attempt("%pb_release").stderr
    assert "no reference" in peer.attempt("%pb_release asyncio").stderr


async def _kept_released() -> None:
    async with await pb.serve(Lender(), anonymous=False) as server:
        ref: Any = await pb.connect(server.address, token=server.token, keep=True)
        namespace = {"a": ref, "b": ref.with_deadline(5), "_": ref, "_oh": {3: ref}, "c": 1}
        holders = Holders(namespace)
        # In the tables stands what came by the connection, and the variables hold what is kept.
        present = ref.broker.current
        assert holders.names()[id(present.broker), present.luid] == "a, b, Out[3]"
        said = release(ref, holders)
        assert said == (
            f"released <KeptReference at {server.address}>, and ended its connection, "
            "held by a, b, Out[3]"
        )
        assert namespace == {"_": "", "_oh": {}, "c": 1}
        assert ref.broker.lost
        await until(lambda: not server.connections)


def test_a_kept_reference_is_released_with_all_that_was_made_of_it() -> None:
    asyncio.run(_kept_released())


async def _present_one_released() -> None:
    async with await pb.serve(Lender(), anonymous=False) as server:
        ref: Any = await pb.connect(server.address, token=server.token, keep=True)
        thing = await ref.callRemote("thing")
        assert "ended" not in release(thing, Holders({}))
        assert not ref.broker.lost
        assert "ended its connection" in release(ref.broker.current, Holders({}))
        assert ref.broker.lost
        await until(lambda: not server.connections)


def test_releasing_what_is_kept_now_ends_the_keeping() -> None:
    asyncio.run(_present_one_released())
