"""The calls of a peer: what runs, when its answer is written, and how logins end."""

from __future__ import annotations

import asyncio
from typing import Any

import pbnb as pb
from pbnb.aio.connection import Connection
from pbnb.wire.banana import encode
from tests.aio.test_writing import Counted
from tests.support.serving import Desk, until

OPENING = encode(b"pb", None) + encode([b"version", 6])


def call(number: int, name: bytes, *args: Any) -> bytes:
    return encode([b"message", number, b"root", name, 1, [b"tuple", *args], [b"dictionary"]])


def serving(root: pb.Root) -> tuple[Connection, Counted]:
    connection, wire = Connection(listening=True, root=root), Counted()
    wire.protocol = connection
    connection.connection_made(wire)
    connection.data_received(OPENING)
    wire.writes.clear()
    return connection, wire


def test_answers_to_one_segment_are_written_together() -> None:
    async def main() -> None:
        connection, wire = serving(Desk())
        connection.data_received(b"".join(call(n, b"echo", n) for n in range(1, 11)))
        assert len(wire.writes) == 1
        assert connection.calls_received == 10
        connection.connection_lost(None)

    asyncio.run(main())


def test_an_answer_that_comes_later_is_written_when_it_comes() -> None:
    class Slow(Desk):
        async def remote_wait(self) -> str:
            await asyncio.sleep(0)
            return "done"

    async def main() -> None:
        connection, wire = serving(Slow())
        connection.data_received(call(1, b"wait"))
        assert not wire.writes
        await until(lambda: len(wire.writes) == 1)
        connection.connection_lost(None)

    asyncio.run(main())


def test_an_answer_while_another_method_runs_a_loop_is_written() -> None:
    """A method may run a nested loop; what is answered there does not wait for its end."""

    class Nested(Desk):
        connection: Connection
        wire: Counted

        def remote_outer(self) -> int:
            # What a nested loop would do: it receives another call.
            self.connection.data_received(call(2, b"echo", b"inner"))
            return len(self.wire.writes)

    async def main() -> None:
        root = Nested()
        root.connection, root.wire = connection, wire = serving(root)
        connection.data_received(call(1, b"outer"))
        answers = bytes(wire.written)
        assert answers.index(encode(b"inner")) < answers.index(encode([b"answer", 1, 1]))
        connection.connection_lost(None)

    asyncio.run(main())


def test_a_login_ends_with_its_avatar_or_its_connection() -> None:
    ended: list[str] = []

    class Realm:
        def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
            return pb.IPerspective, pb.Avatar(), lambda: ended.append("logout")

    async def main() -> None:
        portal = pb.Portal(Realm(), [pb.AllowAnonymousAccess()])
        async with await pb.serve(portal) as server:
            avatar = await pb.connect(server.address, anonymous=True)
            (far,) = server.connections
            assert far.peer_row().user
            broker = avatar.broker
            del avatar
            await until(lambda: ended == ["logout"])
            assert not far.peer_row().user and not broker.lost
            await broker.close()
            other = await pb.connect(server.address, anonymous=True)
            await other.broker.close()
            await until(lambda: ended == ["logout"] * 2)

    asyncio.run(main())
