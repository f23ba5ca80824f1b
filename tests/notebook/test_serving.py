from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError

import pbnb as pb
from pbnb.notebook.connection_files import ConnectionFile, ConnectionFiles, living
from pbnb.notebook.serving import Serving, Servings
from tests.support.ports import free_port


class Echoer(pb.Root):
    def remote_echo(self, text: str) -> str:
        return text


@pytest.fixture(autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))


def with_servings(test: Callable[[Servings], Awaitable[None]]) -> None:
    async def main() -> None:
        servings = Servings()
        try:
            await test(servings)
        finally:
            await servings.stop_all()

    asyncio.run(main())


async def serve(servings: Servings, root: Any = None, **options: Any) -> Serving:
    root = Echoer() if root is None else root
    chosen = {"host": "127.0.0.1", "port": 0, "name": None, "anonymous": False, **options}
    servings.check(root, chosen["name"])
    return await servings.serve(root, **chosen)


def test_serving_and_stopping() -> None:
    async def test(servings: Servings) -> None:
        serving = await serve(servings, name="foo")
        assert servings.open() == [serving]
        assert living() == [serving.file]
        assert serving.file.token == serving.server.token
        ref = await pb.connect(serving.file.address, token=serving.file.token)
        assert await ref.callRemote("echo", "hi") == "hi"
        await servings.stop(serving)
        assert servings.open() == []
        assert living() == []
        assert serving.server.closed
        with pytest.raises(pb.ConnectError):
            await pb.connect(serving.file.address)

    with_servings(test)


def test_the_first_free_port_is_taken_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the usual ones other kernels take some, and leave them, at any time.
    ports = [free_port() for _ in range(5)]
    monkeypatch.setattr("pbnb.notebook.serving.PORTS", ports)

    async def test(servings: Servings) -> None:
        with ExitStack() as taken:
            for port in (ports[0], ports[1], ports[3]):
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
            first = await serve(servings, port=None)
            second = await serve(servings, port=None)
        assert (first.server.port, second.server.port) == (ports[2], ports[4])

    with_servings(test)


def test_all_ports_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(servings: Servings) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            monkeypatch.setattr("pbnb.notebook.serving.PORTS", range(port, port + 1))
            with pytest.raises(
                UsageError, match=f"^the ports {port} to {port} are in use: .*--port$"
            ):
                await serve(servings, port=None)

    with_servings(test)


def test_a_port_that_something_else_uses() -> None:
    async def test(servings: Servings) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UsageError, match=f"^port {port} is in use: choose another --port"):
                await serve(servings, port=port)
        assert servings.open() == []
        assert living() == []

    with_servings(test)


def test_a_port_that_this_kernel_uses() -> None:
    async def test(servings: Servings) -> None:
        serving = await serve(servings, name="foo")
        with pytest.raises(UsageError, match=r"^port \d+ is in use, .* %pb_stop foo, or choose"):
            await serve(servings, port=serving.server.port)
        assert servings.open() == [serving]

    with_servings(test)


@pytest.mark.parametrize("port", [-1, 65536, 10**30])
def test_no_port(port: int) -> None:
    async def test(servings: Servings) -> None:
        with pytest.raises(UsageError, match=f"^{port} is no port: "):
            await serve(servings, port=port)

    with_servings(test)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])
def test_other_machines_are_served_with_a_login_alone(host: str) -> None:
    async def test(servings: Servings) -> None:
        with pytest.raises(UsageError, match="leave out --anonymous, or type --insecure if you"):
            await serve(servings, host=host, anonymous=True)

    with_servings(test)


def test_what_other_machines_reach_is_found_here_by_its_key() -> None:
    async def test(servings: Servings) -> None:
        serving = await serve(servings, host="0.0.0.0", name="lab")
        assert serving.file.key == serving.server.key is not None
        assert serving.file.address == f"127.0.0.1:{serving.server.port}"
        ref = await pb.connect(serving.file.invitation)
        assert await ref.callRemote("echo", "hi") == "hi"
        await ref.broker.close()

    with_servings(test)


@pytest.mark.parametrize("name", [None, "desk"])
def test_a_unix_socket_is_put_where_nobody_else_comes(name: str | None, tmp_path: Path) -> None:
    async def test(servings: Servings) -> None:
        serving = await serve(servings, port=None, name=name, unix="")
        path = Path(serving.server.path or "")
        assert path.name.startswith(name or str(os.getpid()))
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert living() == [serving.file] and serving.target == (name or f"unix:{path}")
        assert servings.find(f"unix:{path}", None) is serving
        ref = await pb.connect(serving.file.invitation)
        assert await ref.callRemote("echo", "hi") == "hi"
        await servings.stop(serving)
        assert not path.parent.exists()

    with_servings(test)

    with_servings(test)


@pytest.mark.parametrize(
    ("root", "sentence"),
    [
        (Echoer, r"^Echoer is a class: serve an instance, Echoer\(\)$"),
        (3, "^int objects cannot be served: derive the class from pb.Root"),
    ],
)
def test_what_is_no_root(root: object, sentence: str) -> None:
    async def test(servings: Servings) -> None:
        with pytest.raises(UsageError, match=sentence):
            await serve(servings, root)

    with_servings(test)


def test_the_same_object_is_not_served_twice() -> None:
    async def test(servings: Servings) -> None:
        root = Echoer()
        serving = await serve(servings, root)
        address = serving.file.address
        with pytest.raises(
            UsageError, match=f"^this Echoer is served on {address} already: .*stop"
        ):
            await serve(servings, root)
        await servings.stop(serving)
        await serve(servings, root)

    with_servings(test)


def test_a_name_is_not_served_twice() -> None:
    async def test(servings: Servings) -> None:
        serving = await serve(servings, name="foo")
        with pytest.raises(UsageError, match="^the name foo is taken by .* choose another --name"):
            await serve(servings, name="foo")
        assert servings.open() == [serving]

    with_servings(test)


def test_a_name_that_another_kernel_takes_meanwhile_is_left_to_it() -> None:
    async def test(servings: Servings) -> None:
        root = Echoer()
        servings.check(root, "foo")
        theirs = ConnectionFile("127.0.0.1", 9, "foo", "theirs")
        ConnectionFiles().write(theirs)
        with pytest.raises(UsageError, match="^the name foo is taken"):
            await servings.serve(root, host="127.0.0.1", port=0, name="foo", anonymous=False)
        assert servings.open() == []
        assert living() == [theirs]

    with_servings(test)


@pytest.mark.parametrize("name", ["", "8789", "a:1", "../up", "all", "localhost"])
def test_no_name(name: str) -> None:
    async def test(servings: Servings) -> None:
        with pytest.raises(UsageError, match="cannot be a name: take a letter"):
            await serve(servings, name=name)

    with_servings(test)


def test_a_server_closed_by_its_owner_is_forgotten() -> None:
    async def test(servings: Servings) -> None:
        serving = await serve(servings, name="foo")
        await serving.server.close()
        assert servings.open() == []
        assert living() == []
        await serve(servings, name="foo")

    with_servings(test)


def test_what_a_target_finds() -> None:
    async def test(servings: Servings) -> None:
        foo = await serve(servings, name="foo")
        bar = await serve(servings)
        assert servings.find("foo", None) is foo
        assert servings.find("x", ("localhost", bar.server.port)) is bar
        assert servings.find("bar", None) is None
        assert (foo.target, bar.target) == ("foo", bar.file.address)

    with_servings(test)
