"""Unix sockets: who reaches them, and what becomes of their files."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio import unix
from pbnb.cred import Invitation
from tests.support.serving import until

cell: ContextVar[str] = ContextVar("cell", default="none")


class Desk(pb.Root):
    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_cell(self) -> str:
        return cell.get()


def test_serving_and_calling(tmp_path: Path) -> None:
    path = tmp_path / "desk"

    async def main() -> None:
        async with await pb.serve(Desk(), path=path) as server:
            assert (server.address, server.path) == (f"unix:{path}", str(path))
            assert (server.host, server.port, server.key) == ("", 0, None)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert repr(server) == f"<Server of Desk on unix:{path}, open>"
            ref = await pb.connect(server.address)
            assert await ref.callRemote("echo", "hello") == "hello"
            assert len(await ref.callRemote("echo", b"x" * 600_000)) == 600_000
            await ref.broker.close()
        assert not path.exists()
        with pytest.raises(pb.ConnectError, match=f"nothing listens on unix:{path}"):
            await pb.connect(f"unix:{path}")

    asyncio.run(main())


def test_a_login_is_good_for_one_path(tmp_path: Path) -> None:
    """Somebody who stands in between, on a path of his own, cannot use it."""

    async def main() -> None:
        async with await pb.serve(Desk(), path=tmp_path / "desk", token="secret") as server:
            for address in (server.address, server.invitation.reveal()):
                token = None if address.startswith("pbnb:") else server.token
                ref = await pb.connect(address, token=token)
                assert ref.broker.channel == server.address
                assert await ref.callRemote("echo", 1) == 1
                await ref.broker.close()

            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                far_reader, far_writer = await asyncio.open_unix_connection(server.path)
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

            between = await asyncio.start_unix_server(talk, tmp_path / "between")
            with pytest.raises(pb.UnauthorizedLogin):
                await pb.connect(f"unix:{tmp_path / 'between'}", token="secret")
            between.close()
            # A link leads to the same socket, and nobody stands in between.
            (tmp_path / "link").symlink_to(tmp_path / "desk")
            ref = await pb.connect(f"unix:{tmp_path / 'link'}", token="secret")
            await ref.broker.close()

    asyncio.run(main())


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize("platform", ["linux", "another"])
def test_calls_within_one_process_run_in_the_context_of_the_caller(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)

    async def main() -> None:
        cell.set("server")
        async with await pb.serve(Desk(), path=tmp_path / "desk") as server:
            refs = [await pb.connect(server.address) for _ in range(3)]
            for number, ref in enumerate(refs):
                cell.set(f"cell {number}")
                assert await ref.callRemote("cell") == f"cell {number}"
            assert os.listdir(tmp_path) == ["desk"]
            for ref in refs:
                await ref.broker.close()

    asyncio.run(main())


SERVE = """\
import asyncio, sys, pbnb as pb
async def main():
    server = await pb.serve(pb.Root(), path=sys.argv[1])
    print("serving", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_what_a_killed_server_left_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "desk"
    child = subprocess.Popen([sys.executable, "-c", SERVE, path], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"serving\n"
    with pytest.raises(OSError, match=f"^.*{path} is in use: stop what serves there"):
        asyncio.run(pb.serve(Desk(), path=path))
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert path.exists()

    async def main() -> None:
        async with await pb.serve(Desk(), path=path) as server:
            ref = await pb.connect(server.address)
            assert await ref.callRemote("echo", 1) == 1
            await ref.broker.close()

    asyncio.run(main())


def test_of_many_who_replace_an_old_socket_one_gets_it(tmp_path: Path) -> None:
    path = str(tmp_path / "desk")
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        made: list[socket.socket] = []
        refused: list[OSError] = []

        def attempt() -> None:
            try:
                made.append(unix.bind(path))  # noqa: B023 (the threads end in each round)
            except OSError as error:
                refused.append(error)  # noqa: B023

        threads = [threading.Thread(target=attempt) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1 and len(refused) == 3
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
        made[0].close()
        os.unlink(path)


def test_no_file_of_somebody_s_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(OSError, match=f"{path} is no socket: choose another path"):
        asyncio.run(pb.serve(Desk(), path=path))
    assert path.read_text() == "mine"


def test_a_socket_that_another_server_has_put_there_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "desk"

    async def main() -> None:
        server = await pb.serve(Desk(), path=path)
        path.unlink()
        async with await pb.serve(Desk(), path=path) as other:
            await server.close()
            ref = await pb.connect(other.address)
            await ref.broker.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "says"),
    [("x" * 200, "is too long for a socket: 107 bytes"), ("none/desk", "No such file")],
)
def test_paths_that_cannot_be(path: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=says):
        asyncio.run(pb.serve(Desk(), path=tmp_path / path))


def test_what_makes_no_sense_with_a_path(tmp_path: Path) -> None:
    for options in ({"port": 8789}, {"host": "0.0.0.0"}, {"certfile": "x"}, {"client_ca": "x"}):
        with pytest.raises(TypeError, match="a Unix socket has a path alone"):
            asyncio.run(pb.serve(Desk(), path=tmp_path / "desk", **options))
    with pytest.raises(TypeError, match="a Unix socket has no TLS"):
        asyncio.run(pb.connect(Invitation("unix:/x", "k" * 43)))
    assert list(tmp_path.iterdir()) == []


def test_another_user_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(unix, "peer_process", lambda sock: unix.PeerProcess(other, 7))

    async def main() -> None:
        async with await pb.serve(Desk(), path=tmp_path / "desk") as server:
            reader, writer = await asyncio.open_unix_connection(server.path)
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass  # the same, where something was written
            writer.close()
            await until(lambda: not server.connections)

    asyncio.run(main())
    assert "it is a process of another user" in caplog.text


KNOCK = """\
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
        print(sock.recv(100))
    except OSError as error:
        print(type(error).__name__)
"""


def test_a_real_other_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Who may not connect, by the file's mode, and who is not let in where that was changed."""
    # Without the rights to become another user, this user's own process is told by the system.
    other = 65534 if os.geteuid() == 0 else os.geteuid()
    with_path = Path(os.path.realpath("/tmp")) / f"pbnb-test-{os.getpid()}"

    async def knock(path: str) -> str:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KNOCK, path, str(other), stdout=subprocess.PIPE
        )
        return (await child.communicate())[0].decode().strip()

    async def main() -> None:
        async with await pb.serve(Desk(), path=with_path) as server:
            assert server.path is not None
            if other == os.geteuid():
                assert "pb" in await knock(server.path)
                return
            assert await knock(server.path) == "PermissionError"
            os.chmod(server.path, 0o666)
            assert await knock(server.path) in ("b''", "ConnectionResetError")

    asyncio.run(main())


def test_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert unix.peer_process(one) == (os.geteuid(), os.getpid())
        assert unix.is_private(one)


def test_a_server_that_accepts_nobody_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "desk")

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as full:
            full.bind(path)
            full.listen(0)
            held = [await unix.connected(path)]
            with pytest.raises(pb.ConnectError, match=f"cannot connect to unix:{path}"):
                await pb.connect(f"unix:{path}", timeout=5)
            held[0].close()

    asyncio.run(main())
