"""Attacks that take more than one message, each named by its number; see test_attacks.py."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pbnb as pb
from pbnb.jelly import SecurityOptions
from pbnb.wire.banana import encode
from tests.attacks.floods import OPENED, Raw, call
from tests.support.serving import tables, until

EVIL = "<img src=x onerror=alert(1)></script>\x1b[31m\x1b]0;title\x07\rover\u202e"


class Thing(pb.Referenceable):
    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    def remote_echo(self, value: Any = None) -> Any:
        return value

    async def remote_wait(self) -> str:
        await self.go_on.wait()
        return "waited"


class Pond(pb.RemoteCopy):
    hooked = False

    def postUnjelly(self) -> None:
        pass

    def method(self) -> str:
        return "mine"


class Desk(pb.Root):
    def __init__(self) -> None:
        self.thing = Thing()
        self.told: list[Any] = []

    def remote_echo(self, value: Any = None) -> Any:
        return value

    def remote_thing(self) -> Thing:
        return self.thing

    async def remote_ask(self, ref: Any) -> Any:
        return await ref.callRemote("anything")

    def remote_tell(self, value: Any) -> str:
        self.told.append(value)
        return type(value).__name__

    def remote_evil(self) -> None:
        raise pb.Error(EVIL)

    def remote_long(self) -> None:
        raise ValueError("x" * 10_000_000)

    def remote_mute(self) -> None:
        raise Mute


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no word")

    __repr__ = __str__


@asynccontextmanager
async def desk(**options: Any) -> AsyncIterator[tuple[pb.Server, Callable[..., Awaitable[Raw]]]]:
    """Serves a desk, and lets one connect to it; nothing is left of that in the end."""
    async with await pb.serve(Desk(), **options) as server:
        raws = []

        async def connect(said: bytes = OPENED) -> Raw:
            raws.append(Raw(*await asyncio.open_connection(server.host, server.port)))
            await raws[-1].say(said)
            return raws[-1]

        try:
            yield server, connect
        finally:
            for each in raws:
                each.close()
        await until(lambda: not server.connections)


def run(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def test_in_loop() -> None:
        asyncio.run(test())  # type: ignore[arg-type]

    test_in_loop.__name__ = test.__name__
    return test_in_loop


async def said_to(raw: Raw, data: bytes) -> Any:
    """Says something, and returns which of ``answer`` and ``error`` it brings, and its value."""
    await raw.say(data)
    answer = await raw.answer()
    return (b"closed", None) if answer is None else (answer[0], answer[2])


@run
async def test_14_a_number_that_is_a_float_is_nobody_s() -> None:
    async with desk() as (_, connect):
        raw = await connect()
        assert await said_to(raw, call(b"thing")) == (b"answer", [b"remote", 1])
        for obj in (1.0, [1], b"1", 2**64 + 1, -1):
            assert (await said_to(raw, call(b"echo", obj=obj)))[0] == b"error", obj
            assert (await said_to(raw, call(b"echo", [b"local", obj])))[0] == b"error", obj
        assert await said_to(raw, call(b"echo", 7, obj=1)) == (b"answer", 7)
        assert (await said_to(raw, encode([b"decref", 1.0])))[0] == b"closed"


@run
async def test_20_what_holds_itself() -> None:
    async with desk() as (_, connect):
        raw = await connect()
        again = [b"dereference", 1]
        for tree in (
            [b"reference", 1, [b"tuple", again]],
            [b"reference", 1, [b"tuple", [b"set", again]]],
            [b"reference", 1, [b"frozenset", [b"tuple", again]]],
            [b"reference", 1, [b"dictionary", [[b"tuple", again], 1]]],
            [b"reference", 1, again],
        ):
            assert (await said_to(raw, call(b"echo", tree)))[0] == b"error", tree
        for tree in (
            [b"reference", 1, [b"list", again]],
            [b"reference", 1, [b"dictionary", [1, [b"tuple", again]]]],
        ):
            assert await said_to(raw, call(b"echo", tree)) == (b"answer", tree)


@run
async def test_22_what_was_lent_to_another_or_given_back_is_not_reached() -> None:
    async with desk() as (_, connect):
        one, other = await connect(), await connect()
        assert await said_to(one, call(b"thing")) == (b"answer", [b"remote", 1])
        assert (await said_to(other, call(b"echo", [b"local", 1])))[0] == b"error"
        assert (await said_to(other, call(b"echo", obj=1)))[0] == b"error"
        assert await said_to(one, call(b"echo", 7, obj=1)) == (b"answer", 7)
        await one.say(encode([b"decref", 1]))
        assert (await said_to(one, call(b"echo", [b"local", 1])))[0] == b"error"
        assert (await said_to(one, call(b"echo", obj=1)))[0] == b"error"
        # A number is not given twice: whoever kept it reaches nothing new by it.
        assert await said_to(one, call(b"thing")) == (b"answer", [b"remote", 2])


@run
async def test_25_an_object_is_let_go_of_while_its_method_runs() -> None:
    async with desk() as (server, connect):
        raw = await connect()
        await said_to(raw, call(b"thing"))
        await raw.say(call(b"wait", obj=1, number=9) + encode([b"decref", 1]))
        (far,) = server.connections
        await until(lambda: not tables(far) and bool(far.turns.running))
        server.root.thing.go_on.set()  # type: ignore[attr-defined]
        assert await raw.answer() == [b"answer", 9, [b"unicode", b"waited"]]
        await raw.say(encode([b"decref", 1]))
        assert await raw.is_closed()


@run
async def test_25_three_thousand_objects_one_after_another() -> None:
    async with desk() as (server, connect):
        raw = await connect()
        lent = [call(b"tell", [b"remote", n]) for n in range(1, 3000)]
        await raw.say(b"".join(lent))
        answers = await raw.answers(len(lent))
        # As many as there may be, the root counted, and then none: the desk has kept them.
        assert answers == [b"answer"] * 1025 + [b"error"] * (len(lent) - 1025)
        server.root.told.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "said",
    [
        encode([b"uncache", 7]),
        encode([b"decache", 7]) * 2,
        encode([b"decref", 7]) * 2,
        encode([b"answer", 99, 1]),
        encode([b"error", 99, b"x"]),
    ],
)
def test_27_and_35_nonsense_while_a_call_is_pending(said: bytes) -> None:
    async def main() -> None:
        async with desk() as (server, connect):
            raw = await connect()
            await raw.say(call(b"ask", [b"remote", 1]))
            while (await raw.hear())[0] != b"message":
                pass
            (far,) = server.connections
            await raw.say(said)
            assert await raw.is_closed()
            assert isinstance(far.error, pb.ProtocolError)

    asyncio.run(main())


@run
async def test_27_live_copies_that_nobody_has() -> None:
    async with desk() as (_, connect):
        raw = await connect()
        for tree in ([b"cached", 7], [b"lcache", 7], [b"lcache", b"x"], [b"cached", [1]]):
            assert (await said_to(raw, call(b"echo", tree)))[0] == b"error", tree


@pytest.mark.parametrize(
    "state",
    [
        [b"list"],
        5,
        [b"dictionary", [7, 1]],
        [b"dictionary", [[b"tuple"], 1]],
        [b"dictionary", [b"__class__", 1]],
        [b"dictionary", [b"__dict__", [b"dictionary"]]],
        [b"dictionary", [b"__class__", [b"local", 1]]],
    ],
)
def test_30_a_state_that_is_none(state: Any) -> None:
    async def main() -> None:
        security = SecurityOptions()
        security.allowBasicTypes()
        security.setUnjellyableForClass("lake.Pond", Pond)
        async with desk(security=security) as (_, connect):
            raw = await connect()
            await said_to(raw, call(b"thing"))
            assert (await said_to(raw, call(b"tell", [b"lake.Pond", state])))[0] == b"error"
            assert (await said_to(raw, call(b"echo", 7))) == (b"answer", 7)

    asyncio.run(main())


@run
async def test_30_what_a_state_names_is_data_and_never_called() -> None:
    security = SecurityOptions()
    security.allowBasicTypes()
    security.setUnjellyableForClass("lake.Pond", Pond)
    async with desk(security=security) as (server, connect):
        raw = await connect()
        await said_to(raw, call(b"thing"))
        names = (b"postUnjelly", b"method", b"setCopyableState", b"__reduce__", b"__del__")
        state = [b"dictionary", *([name, [b"local", 1]] for name in names)]
        found = await said_to(raw, call(b"tell", [b"lake.Pond", state]))
        assert found in ((b"answer", [b"unicode", b"Pond"]), (b"error", found[1]))
        for pond in server.root.told:  # type: ignore[attr-defined]
            assert type(pond) is Pond and type(pond).postUnjelly is Pond.postUnjelly
        server.root.told.clear()  # type: ignore[attr-defined]


@run
async def test_31_a_failure_is_a_value_where_a_value_is_due() -> None:
    failure = [b"twisted.spread.pb.CopyableFailure", [b"dictionary", [b"type", b"x.Y"]]]
    async with desk() as (server, connect):
        raw = await connect()
        kind = await said_to(raw, call(b"tell", failure))
        assert kind == (b"answer", [b"unicode", b"CopiedFailure"])
        assert len(repr(server.root.told)) < 1000  # type: ignore[attr-defined]


@run
async def test_34_keywords() -> None:
    async with desk() as (_, connect):
        raw = await connect()

        def with_keywords(*pairs: list[Any]) -> bytes:
            tree = [b"message", 1, b"root", b"echo", 1, [b"tuple"], [b"dictionary", *pairs]]
            return encode(tree)

        assert await said_to(raw, with_keywords([b"value", 7])) == (b"answer", 7)
        for pairs in ([[b"_name", 1]], [[b"value", 1], [b"args", 2]], [[b"\xff", 1]], [[b"", 1]]):
            assert (await said_to(raw, with_keywords(*pairs)))[0] == b"error", pairs
        # The same one twice, spelled in two ways: one of them counts, or none.
        twice = await said_to(raw, with_keywords([b"value", 7], [[b"unicode", b"value"], 7]))
        assert twice[0] == b"error" or twice == (b"answer", 7)


@pytest.mark.parametrize(
    "replies", [[b"answer", b"answer"], [b"answer", b"error"], [b"error", b"answer"]]
)
def test_35_a_call_is_answered_twice(replies: list[bytes]) -> None:
    async def main() -> None:
        async with desk() as (_, connect):
            raw = await connect()
            await raw.say(call(b"ask", [b"remote", 1], number=5))
            while (asked := await raw.hear())[0] != b"message":
                pass
            await raw.say(encode([replies[0], asked[1], b"x"]))
            assert (await raw.answer())[:2] == [replies[0], 5]
            await raw.say(encode([replies[1], asked[1], b"x"]))
            assert await raw.is_closed()

    asyncio.run(main())


@pytest.mark.parametrize(
    "said",
    [
        encode(b"none", None) + b"\x01\x87",  # a word where there is no vocabulary
        encode(b"pb", None) + b"\x00\x87",
        encode(b"pb", None) + b"\x20\x87",
        encode(b"pb", None) + b"\x7f\x7f\x7f\x7f\x87",
        encode([b"message", 1, b"root", b"echo", 1, [b"tuple"], [b"dictionary"]], None),
        encode([b"pb"], None),
        encode(b"pb2", None),
        encode(7, None),
    ],
)
def test_37_and_38_words_and_openings_that_there_are_not(said: bytes) -> None:
    async def main() -> None:
        async with desk() as (_, connect):
            raw = await connect(said)
            assert await raw.is_closed()

    asyncio.run(main())


@run
async def test_38_a_version_may_come_late_and_never_be_another() -> None:
    async with desk() as (_, connect):
        raw = await connect()
        assert await said_to(raw, call(b"echo", 7) + encode([b"version", 6])) == (b"answer", 7)
        await raw.say(encode([b"version", 7]))
        assert await raw.is_closed()


@run
async def test_40_times_that_there_are_not() -> None:
    async with desk() as (_, connect):
        raw = await connect()
        for tree in (
            [b"datetime", b"1 2 3 4 5 6 7 8 9"],
            [b"datetime", b"1000000 1 1 0 0 0 0"],
            [b"datetime", b"2020 13 1 0 0 0 0"],
            [b"datetime", b"2020 1 1 0 0 0 1e9"],
            [b"datetime", b"\xd9\xa3 1 1 0 0 0 0"],
            [b"date", b"0 1 1"],
            [b"time", b"25 0 0 0"],
            [b"time", b"0 0 0"],
            [b"timedelta", b"1" * 5000 + b" 0 0"],
            [b"timedelta", b"-1000000000 0 0"],
        ):
            assert (await said_to(raw, call(b"echo", tree)))[0] == b"error", tree


def test_43_what_a_method_says_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    """In a traceback, a card and the log; a widget shows the same text as a card does."""

    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            ref = await pb.connect(server.address)
            for name, kind in (("evil", pb.Error), ("long", ValueError), ("mute", pb.RemoteError)):
                with pytest.raises(kind) as caught:
                    await ref.callRemote(name)
                error = caught.value
                texts = [str(error), repr(error), "".join(traceback.format_exception(error))]
                failure = pb.Failure.of(error)
                texts += [failure.getErrorMessage(), failure.getTraceback(), repr(failure)]
                for text in texts:
                    assert not set(text) & set("\x1b\x07\r\u202e"), text[:200]
                    assert len(text) < 1_000_000
                card = failure._repr_html_()
                assert "<img" not in card and "</script" not in card and len(card) < 5000
                deferred = ref.callRemote(name)
                with pytest.raises(kind):
                    await deferred
                card = deferred._repr_html_()
                assert "<img" not in card and "</script" not in card and len(card) < 5000
            await ref.broker.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())


def test_43_a_server_that_answers_with_poison(caplog: pytest.LogCaptureFixture) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode([b"pb", b"none"], None) + encode([b"version", 6]))
        text = EVIL.encode()
        state = [
            b"dictionary",
            *([key, [b"unicode", text * 3000]] for key in (b"value", b"type", b"traceback")),
            [b"parents", [b"list", *[[b"unicode", text]] * 3000]],
        ]
        for number in range(1, 4):
            writer.write(encode([b"error", number, [b"twisted.spread.pb.CopyableFailure", state]]))
        await reader.read()
        writer.close()

    async def main() -> None:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        ref = await pb.connect(f"127.0.0.1:{port}")
        for _ in range(2):
            with pytest.raises(pb.RemoteError) as caught:
                await ref.callRemote("anything")
            shown = "".join(traceback.format_exception(caught.value))
            assert not set(shown + repr(caught.value)) & set("\x1b\x07\r\u202e")
            assert len(shown) < 1_000_000
        # Nobody looks at this one: it is logged.
        ref.callRemote("anything")
        await until(lambda: "Unhandled error" in caplog.text)
        await ref.broker.close()
        listener.close()

    asyncio.run(main())
    for record in caplog.records:
        assert not set(record.getMessage()) & set("\x1b\x07\r\u202e")
