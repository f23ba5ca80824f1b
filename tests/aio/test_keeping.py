"""References that outlive their connections, against servers that end in every way."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio import keeping
from tests.support import clocks
from tests.support.ports import free_port
from tests.support.serving import served, tables, until

# No pause of a test takes long, and none is of length 0.
QUICK = pb.Backoff(shortest=0.01, longest=0.05, nearby=0.05)


class Thing(pb.Referenceable):
    def remote_name(self) -> str:
        return "thing"


class Lab(pb.Root):
    def __init__(self, name: str = "first") -> None:
        self.name = name
        self.calls: list[Any] = []
        self.begun = asyncio.Event()

    def remote_name(self) -> str:
        return self.name

    def remote_note(self, what: Any) -> int:
        self.calls.append(what)
        return len(self.calls)

    def remote_me(self) -> Lab:
        return self

    def remote_is_me(self, what: Any) -> bool:
        return what is self

    def remote_thing(self) -> Thing:
        return Thing()

    async def remote_never(self, what: Any = None) -> None:
        self.calls.append(what)
        self.begun.set()
        await asyncio.Event().wait()


def attempts() -> list[Any]:
    """Returns the attempts that are under way in the running loop."""
    return [each for each in asyncio.all_tasks() if each.get_coro().__name__ == "_connect"]  # type: ignore[union-attr]


@asynccontextmanager
async def keeping_to(address: str, **options: Any) -> AsyncIterator[Any]:
    """Connects and keeps the reference; closes it at the end, and nothing is left of it."""
    ref = await pb.connect(address, keep=options.pop("keep", QUICK), **options)
    try:
        yield ref
    finally:
        await ref.broker.close()
        assert ref.broker.lost and ref.broker.connection is None and not ref.broker.waiting
        await until(lambda: not attempts())


async def lose(ref: Any, server: pb.Server) -> None:
    """Ends a server, and waits until the reference knows."""
    connection = ref.broker.connection
    await server.close()
    await until(lambda: ref.broker.connection is not connection)


def test_the_same_reference_reaches_the_server_that_comes_after() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            assert await ref.callRemote("name") == "first"
            await lose(ref, server)
            async with await pb.serve(Lab("second"), port=port):
                assert await ref.callRemote("name") == "second"

    asyncio.run(main())


def test_it_is_a_remote_reference_equal_to_itself_and_what_is_made_of_it() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            assert isinstance(ref, pb.RemoteReference) and isinstance(ref, pb.KeptReference)
            made = [ref.with_deadline(5), ref.repeatable(), ref.repeatable().with_deadline(5)]
            held = {ref: "kept"}
            luid = ref.luid
            for _ in range(2):
                for each in made:
                    assert each == ref and hash(each) == hash(ref) and held[each] == "kept"
                await lose(ref, server)
                server = await pb.serve(Lab(), port=port)
                assert await ref.callRemote("name") == "first"
            assert (made[2].deadline, made[2].repeats) == (5, 5)
            async with keeping_to(server.address) as other:
                assert other != ref and other.luid == ref.luid == luid
            await server.close()

    asyncio.run(main())


def test_it_goes_home_over_each_connection() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port, anonymous=False, token="secret")
        async with keeping_to(server.address, token="secret") as ref:
            for _ in range(2):
                assert await ref.callRemote("is_me", ref) is True
                assert await ref.callRemote("is_me", ref.with_deadline(9).repeatable()) is True
                await lose(ref, server)
                server = await pb.serve(Lab(), port=port, anonymous=False, token="secret")
                assert await ref.callRemote("name") == "first"
            async with served(Lab()) as (_, elsewhere):
                with pytest.raises(pb.InsecureJelly, match="another connection"):
                    await elsewhere.callRemote("is_me", ref)
            await server.close()

    asyncio.run(main())


def test_references_that_came_by_a_lost_connection_are_dead_and_say_so() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            thing = await ref.callRemote("thing")
            await lose(ref, server)
            async with await pb.serve(Lab(), port=port):
                assert await ref.callRemote("name") == "first"
                with pytest.raises(pb.DeadReferenceError, match="what is kept is the reference"):
                    thing.callRemote("name")
                assert await (await ref.callRemote("thing")).callRemote("name") == "thing"

    asyncio.run(main())


def test_a_call_in_flight_is_lost_and_not_repeated() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(lab := Lab(), port=port)
        async with keeping_to(server.address) as ref:
            call = ref.callRemote("never")
            await lab.begun.wait()
            await lose(ref, server)
            with pytest.raises(pb.PBConnectionLost, match=r"never\(\) was pending"):
                await call
            async with await pb.serve(lab := Lab(), port=port):
                assert await ref.callRemote("note", 1) == 1
                assert lab.calls == [1]

    asyncio.run(main())


def test_a_repeatable_call_in_flight_is_sent_again() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(lab := Lab(), port=port)
        async with keeping_to(server.address) as ref:
            call = ref.repeatable().callRemote("never", "again")
            for _ in range(2):
                await lab.begun.wait()
                await lose(ref, server)
                server = await pb.serve(lab := Lab(), port=port)
            await lab.begun.wait()
            assert lab.calls == ["again"]
            lab.begun.clear()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: not tables(ref.broker.connection))
            await server.close()

    asyncio.run(main())


def test_a_repeatable_call_is_given_up_when_it_was_repeated_often_enough() -> None:
    async def main() -> None:
        class Fatal(Lab):
            def remote_note(self, what: Any) -> int:
                calls.append(what)
                for connection in list(server.connections):
                    connection.abort()
                return 0

        calls: list[int] = []
        async with await pb.serve(Fatal()) as server, keeping_to(server.address) as ref:
            with pytest.raises(pb.PBConnectionLost):
                await ref.repeatable(2).callRemote("note", 7)
            assert calls == [7, 7, 7]

    asyncio.run(main())


def test_what_a_method_lost_is_an_answer_and_no_reason_to_repeat() -> None:
    async def main() -> None:
        class Relay(Lab):
            def remote_note(self, what: Any) -> int:
                self.calls.append(what)
                raise pb.PBConnectionLost("the connection to the camera ended")

        async with await pb.serve(relay := Relay()) as server, keeping_to(server.address) as ref:
            with pytest.raises(pb.PBConnectionLost, match="camera"):
                await ref.repeatable().callRemote("note", 1)
            assert relay.calls == [1]

    asyncio.run(main())


def test_a_call_waits_for_the_next_connection_and_says_what_for() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        address = server.address
        async with keeping_to(address, keep=pb.Backoff(nearby=0.1)) as ref:
            assert repr(ref) == f"<KeptReference at {address}>"
            assert repr(ref.broker) == f"<Keeper of a connection to {address}, connected>"
            await lose(ref, server)
            calls = [ref.callRemote("note", n) for n in range(5)]
            await until(lambda: "nothing listens" in repr(ref))
            assert repr(ref).startswith(f"<KeptReference at {address}, connecting again")
            assert "nothing listens" in ref._repr_html_()
            assert [call.name for call in ref.broker.waiting] == ["note"] * 5
            with pytest.raises(pb.DeadReferenceError, match="there is no connection to"):
                ref.remote_only("note", 6)
            async with await pb.serve(lab := Lab(), port=port):
                assert await asyncio.gather(*calls) == [1, 2, 3, 4, 5]
                assert lab.calls == [0, 1, 2, 3, 4]
                ref.remote_only("note", 6)
                await until(lambda: len(lab.calls) == 6)

    asyncio.run(main())


@pytest.mark.parametrize("way", ["reference", "scope", "limits"])
def test_the_deadline_counts_while_a_call_waits(way: str) -> None:
    async def main() -> None:
        server = await pb.serve(Lab(), port=free_port())
        limits = pb.Limits(**({"call_seconds": 0.1} if way == "limits" else {}))
        async with keeping_to(server.address, limits=limits) as ref:
            await lose(ref, server)
            await until(lambda: "nothing listens" in repr(ref))
            with pytest.raises(pb.DeadlineExceeded, match=r"name\(\) was not sent to .* listens"):
                if way == "scope":
                    with pb.deadline(0.1):
                        await ref.callRemote("name")
                elif way == "reference":
                    await ref.repeatable().with_deadline(0.1).callRemote("name")
                else:
                    await ref.callRemote("name")
            assert not ref.broker.waiting

    asyncio.run(main())


def test_a_call_without_a_deadline_waits_as_long_as_a_silent_peer_may_be_silent() -> None:
    async def main() -> None:
        server = await pb.serve(Lab(), port=free_port())
        limits = pb.Limits(silence_seconds=0.1)
        async with keeping_to(server.address, limits=limits) as ref:
            await lose(ref, server)
            with pytest.raises(pb.DeadlineExceeded, match="was not sent"):
                await ref.callRemote("name")

    asyncio.run(main())


def test_the_rest_of_a_deadline_counts_after_the_wait() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            await lose(ref, server)
            call = ref.with_deadline(60).callRemote("never")
            async with await pb.serve(lab := Lab(), port=port):
                await lab.begun.wait()
                clocks.put_forward(60)
                with pytest.raises(pb.DeadlineExceeded, match="was not answered"):
                    await call

    clocks.run(main())


def test_only_so_many_calls_wait() -> None:
    async def main() -> None:
        server = await pb.serve(Lab(), port=free_port())
        async with keeping_to(server.address, limits=pb.Limits(queued_calls=3)) as ref:
            await lose(ref, server)
            calls = [ref.callRemote("name") for _ in range(3)]
            with pytest.raises(pb.ConnectError, match="3 calls wait"):
                await ref.callRemote("name")
            calls[1].cancel()
            more = ref.callRemote("name")
            assert len(ref.broker.waiting) == 3
        for call in (calls[0], calls[2], more):
            with pytest.raises(pb.PBConnectionLost, match="was not sent.*closed here"):
                await call
        with pytest.raises(asyncio.CancelledError):
            await calls[1]

    asyncio.run(main())


def test_an_argument_that_cannot_be_sent_fails_its_call_when_it_goes_out() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            await lose(ref, server)
            bad, good = ref.callRemote("note", object()), ref.callRemote("name")
            wrong = ref.callRemote("name", pbanswer=1)
            async with await pb.serve(Lab(), port=port):
                with pytest.raises(pb.InsecureJelly):
                    await bad
                with pytest.raises(TypeError, match="pbanswer"):
                    await wrong
                assert await good == "first"

    asyncio.run(main())


def test_calls_from_another_thread() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            assert await asyncio.to_thread(asyncio.run, once(ref)) == "first"
            await lose(ref, server)
            elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, once(ref)))
            await until(lambda: ref.broker.waiting)
            async with await pb.serve(Lab("second"), port=port):
                assert await elsewhere == "second"
            await asyncio.to_thread(asyncio.run, ref.broker.close())
            with pytest.raises(pb.DeadReferenceError, match="kept no longer"):
                await asyncio.to_thread(asyncio.run, once(ref))

    async def once(ref: Any) -> Any:
        return await ref.callRemote("name")

    asyncio.run(main())


def test_each_loss_is_told() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        lost: list[Any] = []
        async with keeping_to(server.address) as ref:
            ref.notifyOnDisconnect(lost.append)
            ref.broker.notifyOnDisconnect(lambda: lost.append("broker"))
            ref.notifyOnDisconnect(other := [].append)
            ref.dontNotifyOnDisconnect(other)
            for times in (1, 2):
                await lose(ref, server)
                assert lost == [ref, "broker"] * times
                server = await pb.serve(Lab(), port=port)
                await ref.callRemote("name")
        assert lost == [ref, "broker"] * 3
        await server.close()

    asyncio.run(main())


# Setting up again


def test_what_has_to_be_set_up_is_set_up_before_waiting_calls_go_on() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(lab := Lab(), port=port)

        async def subscribe(kept: Any) -> Any:
            await kept.callRemote("note", "subscribe")
            await asyncio.sleep(0)
            return await kept.callRemote("note", "and more")

        async with keeping_to(server.address) as ref:
            assert await ref.notifyOnConnect(subscribe) == 2
            assert lab.calls == ["subscribe", "and more"]
            await lose(ref, server)
            call = ref.callRemote("note", "call")
            server = await pb.serve(lab := Lab(), port=port)
            assert await call == 3
            assert lab.calls == ["subscribe", "and more", "call"]
            await lose(ref, server)
            ref.dontNotifyOnConnect(subscribe)
            async with await pb.serve(lab := Lab(), port=port):
                assert await ref.callRemote("note", "call") == 1

    asyncio.run(main())


def test_a_set_up_that_was_asked_for_without_a_connection_runs_with_the_next() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            await lose(ref, server)
            done = ref.notifyOnConnect(lambda kept: kept.callRemote("note", "set up"))
            async with await pb.serve(Lab(), port=port):
                assert await done == 1

    asyncio.run(main())


def test_a_set_up_during_which_the_connection_ends_begins_anew() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)

        async def begin(kept: Any) -> str:
            try:
                await kept.callRemote("never", "begin")
            except asyncio.CancelledError:
                cancelled.append(1)
                raise
            return "begun"

        cancelled: list[int] = []
        async with keeping_to(server.address) as ref:
            await lose(ref, server)
            done = ref.notifyOnConnect(begin)
            call = ref.callRemote("name")
            server = await pb.serve(lab := Lab(), port=port)
            await lab.begun.wait()
            assert "setting up" in repr(ref)
            assert list(ref.broker.waiting) and not call.called
            await lose(ref, server)

            class Willing(Lab):
                async def remote_never(self, what: Any = None) -> None:
                    self.calls.append(what)

            async with await pb.serve(lab := Willing(), port=port):
                assert (await done, await call) == ("begun", "first")
                assert lab.calls == ["begin"] and cancelled == [1]

    asyncio.run(main())


def test_a_set_up_that_fails_is_told_of_and_holds_nothing_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)

        def fail(kept: Any) -> None:
            raise LookupError("nothing to subscribe to")

        async with keeping_to(server.address) as ref:
            with pytest.raises(LookupError):
                await ref.notifyOnConnect(fail)
            await lose(ref, server)
            async with await pb.serve(Lab(), port=port):
                assert await ref.callRemote("name") == "first"
        assert "a callback that sets up the connection" in caplog.text
        assert "nothing to subscribe to" in caplog.text

    asyncio.run(main())


def test_a_reference_that_is_not_kept_says_how_it_would_be() -> None:
    async def main() -> None:
        async with served(Lab()) as (_, ref):
            for use in (ref.repeatable, lambda: ref.notifyOnConnect(print)):
                with pytest.raises(pb.LocalProtocolError, match="connect with keep=True"):
                    use()

    asyncio.run(main())


# Attempts


def test_the_first_attempt_fails_as_without_keeping() -> None:
    async def main() -> None:
        with pytest.raises(pb.ConnectError, match="nothing listens"):
            await pb.connect(f"127.0.0.1:{free_port()}", keep=True)
        async with await pb.serve(Lab(), anonymous=False) as server:
            with pytest.raises(pb.UnauthorizedLogin):
                await pb.connect(server.address, token="wrong", keep=True)

    asyncio.run(main())


def test_a_refused_login_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port, anonymous=False, token="old")
        async with keeping_to(server.address, token="old") as ref:
            await lose(ref, server)
            call = ref.callRemote("name")
            done = ref.notifyOnConnect(lambda kept: None)
            async with await pb.serve(Lab(), port=port, anonymous=False, token="new") as server:
                for each in (call, done):
                    with pytest.raises(pb.UnauthorizedLogin):
                        await each
                assert "kept no longer: the login was refused" in repr(ref)
                for use in (ref.callRemote, ref.remote_only):
                    with pytest.raises(pb.DeadReferenceError, match="the login was refused"):
                        use("name")
                with pytest.raises(pb.DeadReferenceError):
                    ref.notifyOnConnect(print)
                await until(lambda: not server.connections)
        assert caplog.text.count("is kept no longer: the login was refused") == 1

    asyncio.run(main())


def test_an_invitation_that_was_taken_back_is_not_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with await pb.serve(Lab(), "0.0.0.0", anonymous=False) as server:
            ref: Any = await pb.connect(server.invite("alice"), keep=QUICK)
            for _ in range(2):
                before = ref.broker.connection
                before.abort()
                await until(lambda before=before: ref.broker.connection is not before)
                assert await ref.callRemote("name") == "first"
                assert ref.broker.connection is not before
            call = ref.callRemote("never")
            server.revoke("alice")
            with pytest.raises(pb.PBConnectionLost):
                await call
            await until(lambda: ref.broker.lost)
            assert "kept no longer: the login was refused" in repr(ref)
            assert isinstance(ref.broker.error, pb.UnauthorizedLogin)

    asyncio.run(main())
    assert "is kept no longer" in caplog.text


def test_a_unix_socket_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        path = f"unix:{tmp_path / 'lab'}"
        server = await pb.serve(Lab(), path=str(tmp_path / "lab"))
        async with keeping_to(path) as ref:
            assert await ref.callRemote("name") == "first"
            await lose(ref, server)
            await until(lambda: ref.broker.failures > 1)
            async with await pb.serve(Lab("second"), path=str(tmp_path / "lab")):
                assert await ref.callRemote("name") == "second"

    asyncio.run(main())


def test_where_the_server_is_may_be_looked_up_for_each_attempt() -> None:
    async def main() -> None:
        server = await pb.serve(Lab(), anonymous=False)
        looked: list[str] = []

        async def again() -> pb.RemoteReference:
            looked.append(server.address)
            if server.closed:
                raise pb.ConnectError("it is not served now")
            return await pb.connect(server.address, token=server.token)

        ref = await pb.keep(again, QUICK)
        await lose(ref, server)
        call = ref.callRemote("name")
        await until(lambda: "not served now" in repr(ref))
        server = await pb.serve(Lab("elsewhere"), anonymous=False)
        assert await call == "elsewhere"
        assert looked[0] != looked[-1] == ref.broker.peer == server.address
        await ref.broker.close()
        await server.close()

    asyncio.run(main())


def test_a_mistake_ends_the_keeping(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = await pb.serve(Lab(), port=free_port())
        times = iter([pb.connect(server.address)])

        async def again() -> pb.RemoteReference:
            try:
                return await next(times)
            except StopIteration:
                raise KeyError("no such place") from None

        ref = await pb.keep(again, QUICK)
        await lose(ref, server)
        await until(lambda: ref.broker.lost)
        assert "kept no longer: 'no such place'" in repr(ref)

    asyncio.run(main())
    assert "no such place" in caplog.text


def test_only_a_new_connection_can_be_kept() -> None:
    async def main() -> None:
        async with await pb.serve(Lab()) as server, keeping_to(server.address) as ref:

            async def again() -> Any:
                return ref

            with pytest.raises(TypeError, match="a new connection's reference, not a Kept"):
                await pb.keep(again)

    asyncio.run(main())


def say(*what: bytes) -> Any:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in what:
            writer.write(each)
        with suppress(ConnectionError):
            await writer.drain()
        writer.transport.abort()

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        say(),
        say(b"\x04\x80"),
        say(b"SSH-2.0-OpenSSH_9.6\r\n"),
        say(pb.banana.encode([b"pb"], None)),
    ],
    ids=["at once", "in the opening", "another program", "in the login"],
)
def test_a_server_that_hangs_up_in_each_phase_is_tried_again(talk: Any) -> None:
    async def main() -> None:
        port, times = free_port(), 0

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal times
            times += 1
            await talk(reader, writer)
            writer.close()

        server = await pb.serve(Lab(), port=port, anonymous=False, token="secret")
        async with keeping_to(server.address, token="secret") as ref:
            await lose(ref, server)
            listener = await asyncio.start_server(hang_up, "127.0.0.1", port)
            call = ref.callRemote("name")
            await until(lambda: times >= 3)
            assert ref.broker.failures >= 2 and not ref.broker.lost
            listener.close()
            await listener.wait_closed()
            async with await pb.serve(Lab(), port=port, anonymous=False, token="secret"):
                assert await call == "first"

    asyncio.run(main())


def test_a_server_that_hangs_up_after_each_login_is_tried_at_growing_intervals() -> None:
    async def main() -> None:
        server = await pb.serve(Lab(), anonymous=False, token="secret")
        # A connection that has not stood for a minute ended soon.
        minute = pb.Backoff(shortest=0.001, longest=60, nearby=60)
        async with keeping_to(server.address, token="secret", keep=minute) as ref:
            for failures in range(1, 8):
                before = ref.broker.connection
                before.abort()
                await until(lambda before=before: ref.broker.connection not in (None, before))
                assert ref.broker.failures == failures
            ref.broker._opened_at -= 60.1
            before = ref.broker.connection
            before.abort()
            await until(lambda: ref.broker.connection not in (None, before))
            assert ref.broker.failures == 0
        await server.close()

    asyncio.run(main())


def test_a_call_that_waits_makes_a_near_server_be_tried_soon() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        # Nothing would be tried for an hour, but for the call.
        patient = pb.Backoff(shortest=0.01, longest=7200, nearby=7200)
        async with keeping_to(server.address, keep=patient) as ref:
            await lose(ref, server)
            await until(lambda: ref.broker.failures >= 1)
            ref.broker._under_way.timer.cancel()
            ref.broker.failures = 25
            ref.broker._plan()
            async with await pb.serve(Lab(), port=port):
                assert await ref.callRemote("name") == "first"

    random.seed(7)
    asyncio.run(main())


# The end


def test_the_end_of_the_last_reference_ends_the_keeping() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        ref: Any = await pb.connect(server.address, keep=QUICK)
        made: Any = ref.with_deadline(5)
        keeper = weakref.ref(ref.broker)
        del ref
        assert keeper() is not None
        await lose(made, server)
        await until(lambda: keeper().failures > 2)  # type: ignore[union-attr]
        del made
        await until(lambda: keeper() is None and not attempts())

    asyncio.run(main())


def test_a_reference_that_is_collected_in_an_attempt_leaves_nothing_behind() -> None:
    async def main() -> None:
        port, held = free_port(), asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.set()
            await reader.read()
            gone.set()
            writer.close()

        gone = asyncio.Event()
        server = await pb.serve(Lab(), port=port)
        ref: Any = await pb.connect(server.address, keep=QUICK)
        await lose(ref, server)
        listener = await asyncio.start_server(hold, "127.0.0.1", port)
        await held.wait()
        # In another thread, as the garbage collector may do it.
        thread = threading.Thread(target=ref.__class__.__repr__, args=(ref,))
        del ref
        thread.run()
        del thread
        gc.collect()
        await gone.wait()
        listener.close()
        await until(lambda: not attempts())

    asyncio.run(main())


def test_a_call_that_is_awaited_is_enough_to_keep_the_reference() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        ref: Any = await pb.connect(server.address, keep=QUICK)
        await lose(ref, server)
        call, keeper = ref.callRemote("name"), weakref.ref(ref.broker)
        del ref
        gc.collect()
        async with await pb.serve(Lab("late"), port=port):
            assert await call == "late"
            del call
            await until(lambda: keeper() is None)

    asyncio.run(main())


# What the servers here have open is left to the garbage collector as well.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("when", ["connected", "between attempts", "in an attempt", "setting up"])
def test_the_loop_ends_meanwhile(when: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Any:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        ref: Any = await pb.connect(
            server.address, keep=pb.Backoff(nearby=60) if when == "between attempts" else QUICK
        )
        if when == "connected":
            return ref
        await lose(ref, server)
        ref.callRemote("name").addErrback(lambda failure: failure.trap(pb.PBConnectionLost))
        if when == "between attempts":
            await until(lambda: ref.broker.failures > 0)
        elif when == "in an attempt":
            held = asyncio.Event()
            await asyncio.start_server(lambda reader, writer: held.set(), "127.0.0.1", port)
            await held.wait()
        else:
            ref.notifyOnConnect(lambda kept: kept.callRemote("never"))
            await pb.serve(lab := Lab(), port=port)
            await lab.begun.wait()
        return ref

    ref = asyncio.run(main())
    del ref
    gc.collect()
    assert not caplog.records


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_is_closed_between_attempts_leaves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.new_event_loop()

    async def main() -> Any:
        server = await pb.serve(Lab(), port=free_port())
        ref = await pb.connect(server.address, keep=pb.Backoff(nearby=60))
        await lose(ref, server)
        await until(lambda: ref.broker.failures > 2)
        return ref

    ref = loop.run_until_complete(main())
    loop.close()
    del ref
    gc.collect()
    assert not caplog.records


def test_closing_in_the_middle_of_an_attempt_and_of_a_set_up() -> None:
    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        ref: Any = await pb.connect(server.address, keep=QUICK)
        await lose(ref, server)
        held, done = asyncio.Event(), asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.set()
            await reader.read()
            writer.close()
            done.set()

        listener = await asyncio.start_server(hold, "127.0.0.1", port)
        await held.wait()
        await ref.broker.close()
        await done.wait()
        listener.close()
        await listener.wait_closed()
        async with await pb.serve(Lab(), port=port) as server:
            ref = await pb.connect(server.address, keep=QUICK)

            async def close(kept: Any) -> None:
                if len(closing) == 1:
                    await kept.broker.close()
                closing.append(1)

            closing: list[int] = []
            await ref.notifyOnConnect(close)
            ref.broker.connection.abort()
            await until(lambda: ref.broker.lost)
            await until(lambda: not server.connections)
        await until(lambda: not attempts())

    asyncio.run(main())


def test_the_log_tells_once_of_calls_that_wait_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_TELL_AFTER", 0.02)

    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            for times in (1, 2):
                await lose(ref, server)
                calls = [ref.callRemote("name"), ref.callRemote("note", 1)]
                await until(lambda times=times: caplog.text.count("wait") >= times)
                server = await pb.serve(Lab(), port=port)
                await asyncio.gather(*calls)
            await server.close()

    asyncio.run(main())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("name(), note() waits for 127.0.0.1:")


def test_a_sign_is_shown_for_each_call_that_waits_and_taken_back() -> None:
    shown: list[str] = []

    def show(keeper: keeping.Keeper, call: Any) -> Any:
        shown.append(call.name)
        return lambda: shown.remove(call.name)

    async def main() -> None:
        port = free_port()
        server = await pb.serve(Lab(), port=port)
        async with keeping_to(server.address) as ref:
            await lose(ref, server)
            first, second = ref.callRemote("name"), ref.callRemote("thing")
            assert shown == ["name", "thing"]
            second.cancel()
            assert shown == ["name"]
            async with await pb.serve(Lab(), port=port):
                await first
            assert shown == []
            await until(lambda: ref.broker.connection is None)
            last = ref.callRemote("name")
        assert shown == []
        with pytest.raises(pb.PBConnectionLost):
            await last
        with suppress(asyncio.CancelledError):
            await second

    keeping.on_wait.append(show)
    try:
        asyncio.run(main())
    finally:
        keeping.on_wait.remove(show)


def test_what_keeps_a_connection_can_be_found() -> None:
    async def main() -> None:
        async with served(Lab()) as (server, plain), keeping_to(server.address) as ref:
            assert keeping.keeper_of(ref.broker.connection) is ref.broker
            assert keeping.keeper_of(plain.broker) is None

    asyncio.run(main())


# Processes


@asynccontextmanager
async def process(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Starts a server in a process of its own, and waits until it listens."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.failures.peer", str(port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    assert child.stdout is not None
    try:
        assert (await child.stdout.readline()).decode().strip() == f"127.0.0.1:{port}"
        yield child
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        await child.stdout.read()


def test_a_server_that_is_killed_and_started_again_on_its_port() -> None:
    async def main() -> None:
        port = free_port()
        async with process(port) as child:
            ref: Any = await pb.connect(f"127.0.0.1:{port}", keep=QUICK)
            pids = {await ref.callRemote("pid")}
            lost = ref.callRemote("never")
            asked = ref.repeatable().callRemote("slow_echo", "again", 0.2)
            await ref.callRemote("echo", 1)
            child.send_signal(signal.SIGKILL)
            with pytest.raises(pb.PBConnectionLost):
                await lost
            waits = ref.callRemote("pid")
        async with process(port):
            pids.add(await waits)
            assert await asked == "again"
            pids.add(await ref.callRemote("pid"))
            assert len(pids) == 2
            await ref.broker.close()

    asyncio.run(main())
