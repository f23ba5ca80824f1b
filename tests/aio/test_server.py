"""Serving: who gets in, what is refused, and that closing ends everything."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import pbnb as pb
from tests.support.serving import served, until


class Echoer(pb.Root):
    def remote_echo(self, value: Any) -> Any:
        return value


class Plain:
    pass


def test_a_server_says_where_it_is() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            assert server.host == "127.0.0.1" and server.port > 0
            assert server.address == f"127.0.0.1:{server.port}"
            assert server.anonymous and server.token is None
            assert repr(server) == f"<Server of Echoer on {server.address}, open>"
        assert repr(server).endswith("closed>")

    asyncio.run(main())


def test_a_token_is_made_and_never_shown() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer(), anonymous=False) as server:
            assert not server.anonymous
            assert server.token is not None and len(server.token) >= 40
            assert server.token not in repr(server) + repr(vars(server._factory)["root"])
        async with await pb.serve(Echoer(), token="given") as server:
            assert server.token == "given" and not server.anonymous

    asyncio.run(main())


def test_a_connection_that_the_loop_has_not_begun_is_none_yet_and_ends_with_the_server() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            with socket.create_connection((server.host, server.port)) as peer:
                while not server._factory._accepted:  # noqa: ASYNC110  # this very loop makes them
                    await asyncio.sleep(0)
                assert (server.connections, server.snapshot()) == ((), ())
                await server.close()
                assert server.connections == ()
                peer.setblocking(False)
                while await asyncio.get_running_loop().sock_recv(peer, 4096):
                    pass

    asyncio.run(main())


def test_closing_ends_listening_and_connections() -> None:
    async def main() -> None:
        async with served(Echoer()) as (server, ref):
            assert len(server.connections) == 1
            await server.close()
            await server.close()
            assert server.closed and server.connections == ()
            await until(lambda: ref.broker.lost)
            with pytest.raises(pb.ConnectError):
                await pb.connect(server.address)

    asyncio.run(main())


def test_who_asked_is_told_once_that_a_server_closes(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            server.notifyOnClose(lambda closed: 1 / 0)
            server.notifyOnClose(told.append)
            await server.close()
            assert told == [server]
            server.notifyOnClose(told.append)
            assert told == [server, server]

    asyncio.run(main())
    assert len(told) == 2
    assert "ZeroDivisionError" in caplog.text


def test_serving_never_waits() -> None:
    async def main() -> None:
        serving = pb.serve(Echoer())
        server = None
        try:
            while serving.send(None) is None:
                pass
        except StopIteration as end:
            server = end.value
        assert server is not None  # no future was waited for on the way
        await server.close()

    asyncio.run(main())


def test_closing_from_another_loop() -> None:
    async def main() -> None:
        async with served(Echoer()) as (server, _):
            await asyncio.to_thread(lambda: asyncio.run(server.close()))
            assert server.connections == ()

    asyncio.run(main())


def test_a_port_in_use_says_what_to_do() -> None:
    async def main() -> None:
        async with await pb.serve(Echoer()) as server:
            with pytest.raises(OSError, match="is in use: stop what serves there"):
                await pb.serve(Echoer(), port=server.port)

    asyncio.run(main())


def test_an_address_of_another_machine_says_so() -> None:
    with pytest.raises(OSError, match="cannot listen on 192.0.2.1:0"):
        asyncio.run(pb.serve(Echoer(), host="192.0.2.1", insecure=True))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_only_let_in_without_a_login_on_purpose(host: str) -> None:
    with pytest.raises(PermissionError, match="leave out anonymous=True, or pass insecure=True"):
        asyncio.run(pb.serve(Echoer(), host=host, anonymous=True))


@pytest.mark.parametrize("anonymous", [True, False])
def test_on_purpose_nothing_is_encrypted(anonymous: bool) -> None:
    async def main() -> None:
        options: dict[str, Any] = {} if anonymous else {"anonymous": False}
        async with await pb.serve(Echoer(), "0.0.0.0", insecure=True, **options) as server:
            assert server.key is None and server.anonymous is anonymous
            ref = await pb.connect(f"127.0.0.1:{server.port}", token=server.token)
            assert await ref.callRemote("echo", 1) == 1
            await ref.broker.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("root", "says"),
    [
        (Plain(), "derive the class from pb.Root"),
        (Echoer, r"serve an instance, Echoer\(\)"),
        (5, "int objects cannot be served"),
        (None, "NoneType objects cannot be served"),
    ],
)
def test_what_cannot_be_a_root_says_what_to_do(root: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        asyncio.run(pb.serve(root))


def test_ipv6() -> None:
    if not socket.has_ipv6:
        raise AssertionError("this machine has no IPv6 at all, and nothing was tested")

    async def main() -> None:
        async with served(Echoer(), host="::1") as (server, ref):
            assert server.address == f"[::1]:{server.port}"
            assert await ref.callRemote("echo", 1) == 1

    asyncio.run(main())


def test_small_segments_do_not_wait_at_either_end() -> None:
    async def main() -> None:
        async with served(Echoer()) as (server, ref):
            for connection in (server.connections[0], ref.broker):
                sock = connection._transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    asyncio.run(main())


async def _cards() -> None:
    async with served(pb.Root(), anonymous=False) as (server, ref):
        sent = ref.broker.bytes_sent
        made = server._repr_html_()
        assert server.token and server.token not in made
        assert "Root" in made and server.address in made and "open" in made
        assert server.address in ref._repr_html_()
        # Neither a display nor a completion sends anything.
        dir(ref), repr(ref), repr(server)
        await asyncio.sleep(0)
        assert ref.broker.bytes_sent == sent
    assert "closed" in server._repr_html_()


def test_a_card_of_a_server_holds_no_secret_and_sends_nothing() -> None:
    asyncio.run(_cards())


class Handle(pb.Root):
    """An instrument that must not be used by two at once."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    async def remote_use(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        self.inside -= 1


@pytest.mark.parametrize("anonymous", [True, False])
@pytest.mark.parametrize("thread", [True, False])
def test_a_served_object_is_serial_as_long_as_it_is_served_so(
    anonymous: bool, thread: bool
) -> None:
    async def use(handle: Handle, **options: Any) -> int:
        handle.most = 0
        options |= {"anonymous": anonymous, "thread": thread}
        async with await pb.serve(handle, **options) as server:
            refs = [await pb.connect(server.address, token=server.token) for _ in range(3)]
            await asyncio.gather(*(ref.callRemote("use") for ref in refs for _ in range(5)))
            for ref in refs:
                await ref.broker.close()
        return handle.most

    async def main() -> None:
        handle = Handle()
        assert await use(handle, concurrency="serial") == 1
        assert await use(handle) > 1
        assert "pb_concurrency" not in vars(handle)
        handle.pb_concurrency = "serial"
        assert await use(handle) == 1
        assert await use(handle, concurrency="concurrent") > 1
        assert handle.pb_concurrency == "serial"

    asyncio.run(main())


def test_an_object_served_twice_is_never_used_twice_at_once() -> None:
    async def main() -> None:
        handle = Handle()
        async with (
            await pb.serve(handle, concurrency="serial") as one,
            await pb.serve(handle, thread=True) as other,
        ):
            refs = [await pb.connect(each.address) for each in (one, other) for _ in range(2)]
            await asyncio.gather(*(ref.callRemote("use") for ref in refs for _ in range(20)))
            assert handle.most == 1
            for ref in refs:
                await ref.broker.close()

    asyncio.run(main())


def test_a_concurrency_that_cannot_be_had() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="is 'serial' or 'concurrent', not 'paralell'"):
            await pb.serve(Handle(), concurrency="paralell")  # type: ignore[arg-type]
        portal = pb.Portal(lambda name, mind: pb.Avatar(), [pb.PasswordChecker(alice="secret")])
        with pytest.raises(TypeError, match="^a portal serves avatars: set pb_concurrency in"):
            await pb.serve(portal, concurrency="serial")

        class Slots:
            __slots__ = ()

            def rootObject(self, broker: object) -> pb.Root:
                return Handle()

        with pytest.raises(TypeError, match="^a Slots keeps no attributes: set pb_concurrency"):
            await pb.serve(Slots(), concurrency="serial")  # type: ignore[arg-type]

    asyncio.run(main())
