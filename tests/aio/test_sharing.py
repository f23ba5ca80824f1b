"""Memory shared by two processes, by two ends in one, and by nobody who should not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pbnb as pb
from pbnb.aio import sharing
from pbnb.aio.sharing import on_one_machine
from tests.support.serving import served, until

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
DATA = bytes(range(256)) * (8 * MIB // 256)

SERVER = """
import asyncio, pbnb as pb
class Root(pb.Root):
    def remote_echo(self, value):
        return value
    async def remote_never(self, value):
        await asyncio.Event().wait()
async def main():
    async with await pb.serve(Root()) as server:
        print(server.address, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""

CLIENT = """
import asyncio, sys, pbnb as pb
async def main():
    ref = await pb.connect(sys.argv[1])
    for _ in range(3):
        await ref.callRemote("echo", bytes(8 * 1024 * 1024))
    print("done", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Root(pb.Root):
    def remote_echo(self, value: Any) -> Any:
        return value


@contextlib.contextmanager
def process(code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a program of this tree; kills it at the end."""
    program = [sys.executable, "-c", code, *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    running = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=env, cwd="/")
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def line_of(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


@contextlib.asynccontextmanager
async def connected(address: str, **options: Any) -> AsyncIterator[pb.RemoteReference]:
    ref = await pb.connect(address, **options)
    try:
        yield ref
    finally:
        await ref.broker.close()


def segments(pid: int | str = "self") -> list[str]:
    """Returns what a process has open or mapped of segments."""
    place = Path(f"/proc/{pid}")
    found = [line for line in (place / "maps").read_text().splitlines() if "memfd:pbnb" in line]
    for fd in (place / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found += [name for name in [os.readlink(fd)] if "memfd:pbnb" in name]
    return found


def lent(connection: Any) -> int:
    return int(connection.machine.wire._lending.lent)


async def echoed(ref: pb.RemoteReference) -> int:
    """Returns how many bytes it takes to echo large byte strings, after the first."""
    assert await ref.callRemote("echo", DATA) == DATA
    before = ref.broker.bytes_sent + ref.broker.bytes_received
    for _ in range(3):
        assert await ref.callRemote("echo", DATA) == DATA
    return int(ref.broker.bytes_sent + ref.broker.bytes_received - before)


def test_two_processes_share_what_is_large() -> None:
    async def main(address: str) -> None:
        async with connected(address) as ref:
            assert await echoed(ref) < MIB
            assert segments()

    with process(SERVER) as server:
        asyncio.run(main(line_of(server)))
        assert not segments()


def test_two_ends_in_one_process_share() -> None:
    async def main() -> None:
        async with served(Root()) as (server, ref):
            assert await echoed(ref) < MIB
            (far,) = server.connections
            assert not (far.machine.pending or ref.broker.machine.pending)
        await until(lambda: not segments())

    asyncio.run(main())


@pytest.mark.parametrize("dtype", ["<f8", ">i2", "?"])
def test_arrays_are_looked_at_in_place_as_long_as_anybody_does(dtype: str) -> None:
    class Keeper(Root):
        kept: Any = None

        def remote_keep(self, value: Any) -> None:
            self.kept = value[::7]

        def remote_kept(self) -> Any:
            return self.kept

    async def main() -> None:
        root = Keeper()
        async with served(root) as (server, ref):
            await echoed(ref)
            (far,) = server.connections
            for number in range(4):
                array = (np.arange(3 * MIB) % (number + 2)).astype(dtype)
                await ref.callRemote("keep", array)
                assert far.bytes_received < 40 * MIB
                for _ in range(3):  # what comes and goes may not touch it
                    await ref.callRemote("echo", np.zeros(3 * MIB, dtype))
                assert (root.kept == array[::7]).all()
                assert (await ref.callRemote("kept") == array[::7]).all()
            root.kept = array = None  # type: ignore[assignment]
            await until(lambda: not lent(ref.broker) and not lent(far))

    asyncio.run(main())


def test_a_unix_socket_is_on_one_machine(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(Root(), path=tmp_path / "desk") as (_, ref):
            assert await echoed(ref) < MIB

    asyncio.run(main())


@pytest.mark.parametrize("side", ["server", "client"])
def test_either_side_may_lend_nothing(side: str) -> None:
    async def main() -> None:
        nothing = pb.Limits(shared_bytes=0)
        served_with, called_with = (
            (nothing, pb.Limits()) if side == "server" else (pb.Limits(), nothing)
        )
        async with (
            await pb.serve(Root(), limits=served_with) as server,
            connected(server.address, limits=called_with) as ref,
        ):
            moved = await echoed(ref)
            assert 3 * len(DATA) < moved < 4 * len(DATA)  # one of the two directions

    asyncio.run(main())


def test_a_limit_on_buffers_is_one_on_what_is_mapped() -> None:
    async def main() -> None:
        limits = pb.Limits(buffer_bytes=16 * MIB)
        async with served(Root(), limits=limits) as (_, ref):
            assert await echoed(ref) > 3 * len(DATA)

    asyncio.run(main())


def test_a_process_whose_memory_is_not_reached_is_sent_everything() -> None:
    """The other one runs as another user; or, where that cannot be, hides its files."""

    async def main(address: str) -> None:
        async with connected(address) as ref:
            assert await echoed(ref) > 6 * len(DATA)

    as_another = "import os, encodings.idna, asyncio, pbnb; os.setgid(65534); os.setuid(65534)"
    hidden = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)"
    with process(f"{hidden if os.geteuid() else as_another}\n{SERVER}") as server:
        asyncio.run(main(line_of(server)))


def test_nothing_is_left_of_a_server_that_is_killed() -> None:
    async def main(server: subprocess.Popen[str]) -> None:
        async with connected(line_of(server)) as ref:
            await echoed(ref)
            pending = ref.callRemote("never", DATA)
            await until(lambda: not ref.broker.machine.wire.sending)
            server.kill()
            with pytest.raises(pb.PBConnectionLost):
                await pending
        gc.collect()
        assert not segments()

    with process(SERVER) as server:
        asyncio.run(main(server))


def test_nothing_is_left_of_a_client_that_is_killed() -> None:
    async def main() -> None:
        async with await pb.serve(Root()) as server:
            with process(CLIENT, server.address) as client:
                assert client.stdout is not None
                loop = asyncio.get_running_loop()
                done = await loop.run_in_executor(None, client.stdout.readline)
                assert done.strip() == "done" and segments() and segments(client.pid)
                client.kill()
                await until(lambda: not server.connections)
            assert not segments()

    asyncio.run(main())


def test_memory_that_was_not_used_lately_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_IDLE", 0.01)

    def held() -> int:
        found = []
        for fd in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if "memfd:pbnb" in os.readlink(fd):
                    found.append(os.stat(fd).st_blocks * 512)
        return max(found)

    async def main() -> None:
        async with served(Root()) as (_, ref):
            await echoed(ref)
            await until(lambda: held() <= 64 * 1024)
            assert await echoed(ref) < MIB

    asyncio.run(main())


class Socket:
    def __init__(self, family: int) -> None:
        self.family = family


class Transport(asyncio.BaseTransport):
    def __init__(self, **known: Any) -> None:
        super().__init__(known)


TCP = Socket(socket.AF_INET)


@pytest.mark.parametrize(
    ("known", "shares"),
    [
        ({"socket": TCP, "sockname": ("127.0.0.1", 1), "peername": ("127.0.0.2", 2)}, True),
        ({"socket": TCP, "sockname": ("::1", 1, 0, 0), "peername": ("::1", 2, 0, 0)}, True),
        ({"socket": Socket(socket.AF_UNIX), "sockname": "", "peername": "/desk"}, True),
        ({"socket": TCP, "sockname": ("127.0.0.1", 1), "peername": ("10.0.0.2", 2)}, False),
        ({"socket": TCP, "sockname": ("10.0.0.1", 1), "peername": ("10.0.0.2", 2)}, False),
        ({"socket": TCP, "sockname": ("127.0.0.1", 1), "peername": None}, False),
        ({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)}, False),
        (
            {
                "socket": TCP,
                "sockname": ("127.0.0.1", 1),
                "peername": ("127.0.0.1", 2),
                "ssl_object": object(),
            },
            False,
        ),
    ],
)
def test_who_may_share(known: dict[str, Any], shares: bool) -> None:
    assert on_one_machine(Transport(**known)) is shares
