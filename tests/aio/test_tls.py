"""TLS between two ends: the key that an invitation names, certificates of a CA, and neither."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio import tls
from pbnb.aio.tls import channel_of, client_context, server_context
from pbnb.cred import Invitation
from tests.support.certificates import Authority
from tests.support.processes import ran
from tests.support.serving import until


class Desk(pb.Root):
    def __init__(self) -> None:
        self.called = 0

    def remote_echo(self, value: Any) -> Any:
        self.called += 1
        return value


@asynccontextmanager
async def elsewhere(**options: Any) -> AsyncIterator[pb.Server]:
    """Serves to other machines."""
    async with await pb.serve(Desk(), host="0.0.0.0", **options) as server:
        yield server


def here(server: pb.Server, key: str | None = None) -> Invitation:
    """Returns the invitation of a server for this machine, perhaps with another key."""
    return Invitation(f"127.0.0.1:{server.port}", key or server.key, server.token)


def test_other_machines_are_served_with_tls_and_a_login() -> None:
    async def main() -> None:
        async with elsewhere() as server:
            assert not server.anonymous and server.token is not None and server.key is not None
            ref = await pb.connect(server.invitation.reveal())
            assert await ref.callRemote("echo", "hello network") == "hello network"
            found = ref.broker._transport.get_extra_info("ssl_object")
            assert found.version() == "TLSv1.3"
            (far,) = server.connections
            assert far.channel == ref.broker.channel
            assert re.fullmatch("tls-server-end-point:[0-9a-f]{64}", far.channel)
            await ref.broker.close()
            await until(lambda: not server.connections)

    asyncio.run(main())


def test_the_token_opens_nothing_by_itself_but_with_the_key() -> None:
    async def main() -> None:
        async with elsewhere() as server:
            for wrong in ("wrong", None):
                with pytest.raises(pb.UnauthorizedLogin):
                    ref = await pb.connect(
                        Invitation(f"127.0.0.1:{server.port}", server.key, wrong)
                    )
                    await ref.callRemote("echo", 1)
            assert server.root.called == 0

    asyncio.run(main())


async def relay(
    target: tuple[str, int], heard: list[bytes], context: ssl.SSLContext, onward: Any
) -> asyncio.Server:
    """Stands in between: ends the TLS of who connects, begins another one, and reads all."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            heard.append(data)
            writer.write(data)
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*target, ssl=onward)
        await asyncio.gather(
            pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True
        )
        writer.close()
        far_writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)


@pytest.mark.parametrize("knows_the_relay", [False, True])
def test_a_relay_with_a_key_of_its_own_gets_nothing(knows_the_relay: bool) -> None:
    """Even where the client was made to believe in the relay's key, the login is not relayed."""

    async def main() -> None:
        async with elsewhere() as server:
            heard: list[bytes] = []
            false = server_context()
            onward = client_context(server.key)
            listener = await relay(("127.0.0.1", server.port), heard, false, onward)
            port = listener.sockets[0].getsockname()[1]
            key = false.key if knows_the_relay else server.key
            invitation = Invitation(f"127.0.0.1:{port}", key, server.token)
            if knows_the_relay:
                with pytest.raises(pb.UnauthorizedLogin, match="the login was refused"):
                    await pb.connect(invitation)
                assert server.token.encode() not in b"".join(heard)
            else:
                with pytest.raises(pb.ConnectError, match="has another key than its invitation"):
                    await pb.connect(invitation)
                # Not even the opening has left.
                assert heard == []
            listener.close()
            await until(lambda: not server.connections)
            assert server.root.called == 0

    asyncio.run(main())


def test_a_tunnel_that_changes_the_address_is_no_relay() -> None:
    async def main() -> None:
        async with elsewhere() as server:

            async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while data := await reader.read(65536):
                    writer.write(data)
                writer.close()

            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
                await asyncio.gather(
                    pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True
                )

            listener = await asyncio.start_server(talk, "127.0.0.1", 0)
            port = listener.sockets[0].getsockname()[1]
            ref = await pb.connect(Invitation(f"127.0.0.1:{port}", server.key, server.token))
            assert await ref.callRemote("echo", 7) == 7
            await ref.broker.close()
            listener.close()
            await until(lambda: not server.connections)

    asyncio.run(main())


def test_a_large_answer_goes_through_and_waits_for_its_reader() -> None:
    async def main() -> None:
        async with elsewhere(limits=pb.Limits(write_bytes=200_000)) as server:
            ref = await pb.connect(here(server))
            calls = [ref.callRemote("echo", b"x" * 500_000) for _ in range(20)]
            far = server.connections[0]
            sizes = []

            async def watch() -> None:
                while not all(call.done() for call in calls):
                    if not far.lost:
                        sizes.append(far._transport.get_write_buffer_size())
                    await asyncio.sleep(0)

            watching = asyncio.create_task(watch())
            assert {len(each) for each in await asyncio.gather(*calls)} == {500_000}
            await watching
            assert max(sizes) < 3_000_000
            await ref.broker.close()

    asyncio.run(main())


def test_closing_says_what_was_said_before_and_does_not_wait_for_a_silent_peer() -> None:
    async def main() -> None:
        async with elsewhere() as server:
            ref = await pb.connect(here(server))
            for number in range(50):
                ref.remote_only("echo", number)
            await ref.broker.close()
            await until(lambda: server.root.called == 50 and not server.connections)
            # A peer that has stopped reading.
            silent = await pb.connect(here(server))
            silent.broker._transport.pause_reading()
            (far,) = server.connections
            far._transport.write(b"\0" * 3_000_000)
            await asyncio.wait_for(server.close(), 30)
            assert far.lost and server.connections == ()
            silent.broker.disconnect()
            silent.broker.disconnect()
            silent.broker.abort()
            await until(lambda: silent.broker.lost)

    asyncio.run(main())


def with_authority(test: Callable[[Authority], Awaitable[None]], directory: Path) -> None:
    asyncio.run(test(Authority(directory)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_a_certificate_of_the_user_s(kind: str, tmp_path: Path) -> None:
    async def test(authority: Authority) -> None:
        certfile, keyfile = authority.issue("server", kind=kind)
        async with elsewhere(certfile=certfile, keyfile=keyfile) as server:
            address = f"127.0.0.1:{server.port}"
            for ref in (
                await pb.connect(address, cafile=authority.file, token=server.token),
                await pb.connect(here(server)),
                await pb.connect(here(server), cafile=authority.file),
            ):
                assert await ref.callRemote("echo", 1) == 1
                await ref.broker.close()

    with_authority(test, tmp_path)


def test_a_certificate_that_no_ca_vouches_for(tmp_path: Path) -> None:
    async def test(authority: Authority) -> None:
        other = Authority(tmp_path, "other")
        late = authority.issue("late", until=-timedelta(days=1))
        elsewhere_only = authority.issue("elsewhere", "192.0.2.9")
        for (certfile, keyfile), cafile, says in (
            (authority.issue("server"), other.file, "unable to get local issuer certificate"),
            (late, authority.file, "certificate has expired"),
            (elsewhere_only, authority.file, "IP address mismatch"),
        ):
            async with elsewhere(certfile=certfile, keyfile=keyfile) as server:
                with pytest.raises(pb.ConnectError, match=f"is not accepted: .*{says}"):
                    await pb.connect(f"127.0.0.1:{server.port}", cafile=cafile, token=server.token)
                await until(lambda server=server: not server.connections)

    with_authority(test, tmp_path)


def test_clients_may_have_to_show_a_certificate(tmp_path: Path) -> None:
    async def test(authority: Authority) -> None:
        other = Authority(tmp_path, "other")
        certfile, keyfile = authority.issue("alice")
        false = other.issue("mallory")
        # The certificate is what is asked for, so that nobody has to log in, too.
        async with elsewhere(client_ca=authority.file, anonymous=True) as server:
            invitation = here(server)
            assert invitation.token is None
            ref = await pb.connect(invitation, certfile=certfile, keyfile=keyfile)
            assert await ref.callRemote("echo", 1) == 1
            await ref.broker.close()
            with pytest.raises(pb.ConnectError, match="before it was open. Where it wants a cert"):
                await pb.connect(invitation)
            with pytest.raises(pb.ConnectError, match="of a CA that it trusts"):
                await pb.connect(invitation, certfile=false[0], keyfile=false[1])
            await until(lambda: not server.connections)
            assert server.root.called == 1
        async with elsewhere(client_ca=authority.file) as server:
            with pytest.raises(pb.UnauthorizedLogin):
                bare = Invitation(here(server).address, server.key)
                ref = await pb.connect(bare, certfile=certfile, keyfile=keyfile)
                await ref.callRemote("echo", 1)

    with_authority(test, tmp_path)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certfile, keyfile = authority.issue("server")
    _, other_key = authority.issue("other")
    locked = authority.issue("locked", password=b"secret")
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for chosen, says in (
        ((certfile, other_key), "KEY_VALUES_MISMATCH"),
        (locked, "the key has a password"),
        ((empty, None), f"cannot use {empty} as a certificate and its key"),
    ):
        with pytest.raises(ValueError, match=says):
            server_context(*chosen)
    with pytest.raises(ValueError, match="holds no certificate of a CA"):
        server_context(certfile, keyfile, client_ca=empty)
    for call in (
        lambda: server_context(tmp_path / "none.pem"),
        lambda: server_context(certfile, tmp_path / "none.pem"),
        lambda: client_context(cafile=tmp_path / "none.pem"),
    ):
        with pytest.raises(FileNotFoundError, match=r"cannot read .*none\.pem"):
            call()


def test_certificates_of_clients_may_be_in_one_file_with_their_keys(tmp_path: Path) -> None:
    certfile, keyfile = Authority(tmp_path).issue("both")
    both = tmp_path / "in-one.pem"
    both.write_bytes(keyfile.read_bytes() + certfile.read_bytes())
    assert server_context(both).key == server_context(certfile, keyfile).key
    assert server_context(both).channel == channel_of(
        ssl.PEM_cert_to_DER_cert(certfile.read_text())
    )


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_key_that_is_made_here_is_on_no_disk(
    in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[tuple[str, int, int]] = []

    class Context(tls.ServerContext):
        def load_cert_chain(self, certfile: Any, *args: Any, **kw: Any) -> None:
            path = Path(certfile)
            seen.append((certfile, path.stat().st_mode, path.parent.stat().st_mode))
            super().load_cert_chain(certfile, *args, **kw)

    monkeypatch.setattr(tls, "ServerContext", Context)
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    assert len(server_context().key) == 43
    ((path, mode, around),) = seen
    if in_memory:
        assert path.startswith("/proc/self/fd/")
    else:
        assert path.startswith(str(tmp_path)) and (mode & 0o777, around & 0o777) == (0o600, 0o700)
    assert list(tmp_path.iterdir()) == [] and not Path(path).exists()


def test_only_tls_1_3_is_spoken_and_no_session_is_resumed() -> None:
    for context in (server_context(), client_context("k" * 43)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert server_context().num_tickets == 0


def test_cryptography_is_imported_where_tls_is_used() -> None:
    program = (
        "import sys, asyncio, pbnb as pb\n"
        "async def main():\n"
        "    async with await pb.serve(pb.Root(), anonymous=False) as server:\n"
        "        ref = await pb.connect(server.invitation.reveal())\n"
        "        await ref.broker.close()\n"
        "    print('cryptography' in sys.modules)\n"
        "    async with await pb.serve(pb.Root(), host='0.0.0.0'):\n"
        "        print('cryptography' in sys.modules)\n"
        "asyncio.run(main())\n"
    )
    assert ran(program) == ("False\nTrue\n", "")


def test_a_certificate_is_told_by_its_hash() -> None:
    assert channel_of(b"") != channel_of(b"x")
