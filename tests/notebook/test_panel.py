"""The panel without a browser: what it sends, and what it does when it is told to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pbnb as pb
from pbnb.notebook import panel
from pbnb.notebook.panel import TABLES, Panel
from pbnb.notebook.releasing import Holders
from pbnb.notebook.widgets import One
from tests.support.ports import free_port
from tests.support.serving import served, until


class Thing(pb.Referenceable):
    pass


class Needle(Thing):
    pass


class Lender(pb.Root):
    def __init__(self) -> None:
        self.gate = asyncio.get_running_loop().create_future()
        self.things = [Thing()]

    def remote_thing(self) -> Thing:
        return self.things[0]

    def remote_many(self, count: int) -> list[Thing]:
        self.things = [*(Thing() for _ in range(count - 1)), Needle()]
        return self.things

    async def remote_wait(self) -> None:
        await self.gate

    async def remote_never(self) -> None:
        await asyncio.Event().wait()

    def remote_fail(self, text: str) -> None:
        raise pb.Error(text)


class View:
    """What a browser would hold: tables that the messages are applied to."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, list[Any]]] = {}
        self.totals: dict[str, int] = {}
        self.servers: list[list[Any]] = []
        self.notes: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.panel: Panel
        self.sequence = 0

    def take(self, message: dict[str, Any]) -> None:
        message = json.loads(json.dumps(message))  # it can be sent
        self.messages.append(message)
        if message["type"] == "note":
            self.notes.append(message["text"])
            return
        if message["type"] == "snapshot":
            tables = message["tables"]
            self.tables = {name: {row[0]: row for row in tables[name]} for name in tables}
        else:
            assert message["sequence"] == self.sequence + 1
        self.sequence = message["sequence"]
        for name, rows in message.get("put", {}).items():
            self.tables[name].update({row[0]: row for row in rows})
        for name, keys in message.get("gone", {}).items():
            for key in keys:
                del self.tables[name][key]
        self.totals = message.get("totals", self.totals)
        self.servers = message.get("servers", self.servers)

    def rows(self, table: str) -> list[dict[str, Any]]:
        columns = ("key", *TABLES[table])
        return [dict(zip(columns, row, strict=True)) for row in self.tables[table].values()]

    def say(self, type: str, **more: Any) -> None:
        self.panel.receive({"type": type, "view": "v", **more})


@asynccontextmanager
async def shown(
    namespace: dict[str, Any] | None = None, of_server: bool = True, **options: Any
) -> AsyncIterator[tuple[View, pb.Server, pb.RemoteReference]]:
    async with served(Lender(), **options) as (server, root):
        view = View()
        source = One(server if of_server else root.broker)  # type: ignore[arg-type]
        holders = Holders({} if namespace is None else namespace)
        view.panel = Panel(source, view.take, asyncio.get_running_loop(), holders)
        view.say("ready")
        await until(lambda: bool(view.tables))
        try:
            yield view, server, root
        finally:
            view.say("gone")
            await until(lambda: not view.panel.working)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_view_that_is_ready_gets_everything_and_then_differences() -> None:
    async def test() -> None:
        async with shown() as (view, server, root):
            assert view.messages[0]["type"] == "snapshot"
            (peer,) = view.rows("peers")
            assert (peer["way"], peer["calls in"]) == ("in", 0)
            assert [row["luid"] for row in view.rows("lent")] == ["root"]
            ref = await root.callRemote("thing")
            await until(lambda: len(view.rows("lent")) == 2)
            (row,) = [row for row in view.rows("lent") if row["luid"] == ref.luid]
            assert (row["class"], row["count"], row["holder"]) == ("Thing", 1, peer["address"])
            again = await root.callRemote("thing")
            await until(lambda: any(row["count"] == 2 for row in view.rows("lent")))
            del ref, again
            await until(lambda: len(view.rows("lent")) == 1)
            assert {each["type"] for each in view.messages[1:]} == {"changes"}
            (row,) = view.servers
            assert row[1:] == ["Lender", server.address, "open", True]

    run(test)


def test_calls_that_hang_are_shown_on_both_sides_and_cancelled() -> None:
    async def test() -> None:
        async with shown() as (view, server, root):
            hanging = root.callRemote("wait")
            await until(lambda: len(view.rows("pending")) == 1)
            (row,) = view.rows("pending")
            assert (row["method"], row["target"], row["way"]) == ("wait", "Lender", "in")
            view.say("act", action="cancel", key=row["key"])
            with pytest.raises(pb.RemoteError):
                await hanging
            await until(lambda: not view.rows("pending") and bool(view.rows("log")))
            assert view.notes == ["cancelled wait()"]
            assert view.rows("log")[-1]["took"] > 0

        async with shown(of_server=False) as (view, server, root):
            hanging = root.callRemote("wait")
            await until(lambda: len(view.rows("pending")) == 1)
            view.say("act", action="cancel", key=view.rows("pending")[0]["key"])
            with pytest.raises(asyncio.CancelledError):
                await hanging

    run(test)


def test_a_server_in_a_thread_is_shown_and_managed_from_here() -> None:
    async def test() -> None:
        async with shown(thread=True) as (view, server, root):
            for each in range(50):
                await root.callRemote("thing")
                with pytest.raises(pb.Error):
                    await root.callRemote("fail", str(each))
            hanging = root.callRemote("never")
            await until(lambda: len(view.rows("pending")) == 1)
            view.say("act", action="cancel", key=view.rows("pending")[0]["key"])
            with pytest.raises(pb.RemoteError):
                await hanging
            await until(lambda: not view.rows("pending") and len(view.rows("log")) > 20)
            view.say("act", action="disconnect", key=view.rows("peers")[0]["key"])
            await until(lambda: root.broker.lost)
            view.say("act", action="stop", key=view.servers[0][0])
            await until(lambda: server.closed)

    run(test)


def test_a_loop_that_was_blocked_is_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "_BLOCK", 0.3)

    async def test() -> None:
        async with shown() as (view, server, root):
            time.sleep(0.5)  # noqa: ASYNC251 (what is tested)
            await until(lambda: len(view.rows("log")) > 0)
            row = view.rows("log")[0]
            assert (row["target"], row["took"] >= 0.3) == ("this kernel's loop", True)
            assert row["error"] == "was blocked: nothing was read or written meanwhile"

    run(test)


def test_a_reference_is_shown_with_its_names_and_released() -> None:
    async def test() -> None:
        namespace: dict[str, Any] = {"_oh": {}}
        async with shown(namespace, of_server=False) as (view, server, root):
            namespace["thing"] = namespace["_oh"][7] = await root.callRemote("thing")
            await until(lambda: [r["held by"] for r in view.rows("borrowed")] == ["thing, Out[7]"])
            view.say("act", action="release", key=view.rows("borrowed")[0]["key"])
            await until(lambda: not list(server.connections[0].machine.refs.lent()))
            assert namespace == {"_oh": {}}
            await until(lambda: not view.rows("borrowed"))

    run(test)


def test_a_peer_is_disconnected_and_a_server_stopped() -> None:
    async def test() -> None:
        async with shown() as (view, server, root):
            view.say("act", action="disconnect", key=view.rows("peers")[0]["key"])
            await until(lambda: root.broker.lost)
            await until(lambda: not view.rows("peers"))
            view.say("act", action="stop", key=view.servers[0][0])
            await until(lambda: server.closed)
            await until(lambda: view.servers[0][3] == "closed")

    run(test)


@pytest.mark.parametrize(
    ("action", "key"),
    [
        *((action, "") for action in ("release", "cancel", "disconnect", "stop", "eval", "")),
        *(("cancel", key) for key in ("c1", "c9 in 1", "c1 in x", "c1 out 99", "x" * 10_000)),
        *(("disconnect", key) for key in ("c9", "c1 out 1", "s1")),
        *(("release", key) for key in ("c1 1", "c9 1", "c1 'root'")),
        *(("stop", key) for key in ("c1", "s99")),
    ],
)
def test_an_action_on_what_is_gone_does_nothing(action: str, key: str) -> None:
    async def test() -> None:
        async with shown() as (view, server, root):
            view.say("act", action=action, key=key)
            await until(lambda: bool(view.notes))
            assert not server.closed and len(server.connections) == 1

    run(test)


@pytest.mark.parametrize("content", [None, [], "ready", {}, {"type": 1}, {"type": "query"}])
def test_what_no_view_would_send_does_no_harm(content: object) -> None:
    async def test() -> None:
        async with shown() as (view, server, root):
            view.panel.receive(content)
            view.say("query", table="nothing", column="x")
            view.say("query", table="lent", column=99, text=None)
            await asyncio.sleep(0)
            await root.callRemote("thing")

    run(test)


def test_without_views_nothing_is_done_nor_recorded() -> None:
    async def test() -> None:
        async with shown() as (view, server, root):
            await until(lambda: server.connections[0].calls.watchers == 1)
            view.say("gone")
            await until(lambda: not view.panel.working)
            assert server.connections[0].calls.watchers == 0
            sent = len(view.messages)
            await root.callRemote("thing")
            assert len(view.messages) == sent
            assert list(server.connections[0].calls.rows) == []
            view.say("alive")  # as after a pause in which the browser was asleep
            await until(lambda: view.messages[-1]["type"] != "note" and len(view.messages) > sent)
            assert view.messages[sent]["type"] == "snapshot"

    run(test)


def test_a_second_view_begins_with_everything() -> None:
    async def test() -> None:
        async with shown() as (view, server, root):
            view.panel.receive({"type": "ready", "view": "w"})
            await until(lambda: len(view.panel.views) == 2)
            assert [m["type"] for m in view.messages].count("snapshot") == 2
            view.panel.receive({"type": "gone", "view": "w"})
            await until(lambda: len(view.panel.views) == 1)
            assert view.panel.working

    run(test)


def test_of_many_rows_a_part_is_sent_and_the_filter_chooses_which() -> None:
    async def test() -> None:
        async with served(Lender(), limits=pb.Limits.unlimited()) as (server, _):
            root = await pb.connect(server.address, limits=pb.Limits.unlimited())
            held = await root.callRemote("many", 5000)
            view = View()
            view.panel = Panel(One(server), view.take, asyncio.get_running_loop(), Holders({}))
            view.say("ready")
            await until(lambda: bool(view.tables))
            assert (view.totals["lent"], len(view.rows("lent"))) == (5002, 1000)
            assert len(json.dumps(view.messages[0])) < 250_000
            view.say("query", table="lent", text="needle", column=None, down=False)
            await until(lambda: [row["class"] for row in view.rows("lent")] == ["Needle"])
            needle = view.rows("lent")[0]["luid"]
            view.say("query", table="lent", text="", column=1, down=False)
            await until(lambda: needle not in {row["luid"] for row in view.rows("lent")})
            view.say("query", table="lent", text="", column=1, down=True)
            await until(lambda: needle in {row["luid"] for row in view.rows("lent")})
            assert len(view.rows("lent")) == 1000
            del held
            view.say("gone")
            await until(lambda: not view.panel.working)
            await root.broker.close()

    run(test)


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><b>",
    "\x1b[31m\x1b]0;x\x07",
    "\u202eabc\u2066",
]


@pytest.mark.parametrize("word", [*HOSTILE, "x" * 500_000])
def test_words_of_peers_are_escaped_and_short(word: str) -> None:
    async def test() -> None:
        async with shown() as (view, server, root):
            with pytest.raises(pb.Error):
                await root.callRemote("fail", word)
            with pytest.raises(pb.NoSuchMethod):
                await root.callRemote(word[:1000])
            await until(lambda: len(view.rows("log")) == 2)
            for row in view.rows("log"):
                text = str(row["method"]) + str(row["error"])
                assert len(text) < 400
                assert not set(text) & set("\x1b\x07\u202e\u2066\n\r")

    run(test)


def test_of_a_hundred_thousand_rows_only_those_that_are_sent_are_made() -> None:
    async def test() -> None:
        async with served(Lender(), limits=pb.Limits.unlimited()) as (server, _):
            refs = server.connections[0].machine.refs
            loan = refs.loan()
            things = [Thing() for _ in range(100_000)]
            for thing in things:
                loan.lend(thing)
            loan.commit()
            panel = Panel(One(server), print, asyncio.get_running_loop(), Holders({}))
            tables, totals = panel.rows()
            assert (len(tables["lent"]), totals["lent"]) == (1000, 100_001)
            assert [row[1] for row in tables["lent"][:2]] == ["root", 1]

    run(test)


def test_what_is_kept_is_a_peer_while_it_is_away_and_can_be_given_up() -> None:
    async def test() -> None:
        port = free_port()
        server = await pb.serve(Lender(), port=port)
        ref: Any = await pb.connect(server.address, keep=pb.Backoff(0.01, 0.05, 0.05))
        view = View()
        loop = asyncio.get_running_loop()
        view.panel = Panel(One(ref.broker), view.take, loop, Holders({"ref": ref}))
        view.say("ready")
        await until(lambda: bool(view.tables))
        assert [row["way"] for row in view.rows("peers")] == ["out"]
        await server.close()
        await until(lambda: "nothing listens" in "".join(r["way"] for r in view.rows("peers")))
        (row,) = view.rows("peers")
        assert row["address"] == server.address and row["way"].startswith("↻ ")
        async with await pb.serve(Lender(), port=port):
            await until(lambda: [row["way"] for row in view.rows("peers")] == ["out"])
            (row,) = view.rows("peers")
            view.say("act", action="disconnect", key=row["key"])
            await until(lambda: bool(view.notes))
            assert view.notes == [f"disconnecting {server.address}, and not connecting again"]
            await until(lambda: ref.broker.lost and not view.rows("peers"))
        server = await pb.serve(Lender())
        ref = await pb.connect(server.address, keep=pb.Backoff(nearby=60))
        view.panel.source = One(ref.broker)
        await server.close()
        await until(lambda: any(row["way"].startswith("↻") for row in view.rows("peers")))
        (row,) = view.rows("peers")
        view.say("act", action="disconnect", key=row["key"])
        await until(lambda: ref.broker.lost and not view.rows("peers"))
        view.say("gone")
        await until(lambda: not view.panel.working)

    run(test)
