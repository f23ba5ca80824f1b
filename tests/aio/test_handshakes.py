"""Handshakes from outside, with raw sockets: what is no TLS 1.3, and what never ends."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import Any

import pytest

import pbnb as pb
from pbnb.cred import Invitation
from pbnb.protocol.dialects import DIALECTS
from pbnb.wire.banana import NEED_DATA, Decoder
from tests.support.serving import until


class Desk(pb.Root):
    def remote_echo(self, value: Any) -> Any:
        return value


def pending(server: pb.Server) -> int:
    """Returns how many handshakes of a server are not done."""
    assert server._listener.handshakes is not None
    return len(server._listener.handshakes)


async def closed(reader: asyncio.StreamReader) -> bytes:
    """Returns what a server says until it hangs up, and fails when it does not."""
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def still_serves(server: pb.Server) -> None:
    ref = await pb.connect(Invitation(f"127.0.0.1:{server.port}", server.key, server.token))
    assert await ref.callRemote("echo", 7) == 7
    await ref.broker.close()


PLAIN = [
    ("the opening of PB", pb.banana.encode(b"pb", None) * 5),
    ("a page is asked for", b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n"),
    ("zeros", b"\0" * 100_000),
    ("the beginning of TLS, and nonsense", b"\x16\x03\x01\x02\x00" + b"\xff" * 512),
    ("a record that is too long", b"\x16\x03\x01\xff\xff" + b"\0" * 70_000),
]


@pytest.mark.parametrize("data", [each for _, each in PLAIN], ids=[each for each, _ in PLAIN])
def test_what_is_no_tls_is_hung_up_on(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), "0.0.0.0") as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(data)
            said = await closed(reader)
            # At most an alert: nothing of PB's.
            assert len(said) < 20 and b"pb" not in said
            writer.close()
            await until(lambda: pending(server) == 0)
            assert server.connections == ()
            await still_serves(server)

    asyncio.run(main())
    (line,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert line.startswith("the TLS handshake of 127.0.0.1:")


def test_an_older_tls_is_refused() -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), "0.0.0.0") as server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
            context.maximum_version = ssl.TLSVersion.TLSv1_3
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
            greeting = pb.banana.encode(list(DIALECTS), None)
            assert await reader.readexactly(len(greeting)) == greeting
            writer.close()
            await until(lambda: not server.connections)

    asyncio.run(main())


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_stalls_is_ended(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limits = pb.Limits(opening_seconds=0.2)
        async with await pb.serve(Desk(), "0.0.0.0", limits=limits) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(said)
            assert await closed(reader) == b""
            writer.close()
            await until(lambda: pending(server) == 0)

    asyncio.run(main())
    assert "handshake is taking longer than 0.2 seconds" in caplog.text


def test_of_handshakes_there_are_only_so_many() -> None:
    async def main() -> None:
        limits = pb.Limits(connections=12, opening_seconds=60)
        async with await pb.serve(Desk(), "0.0.0.0", limits=limits) as server:
            held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(10)]
            # Four of them may be; the others were ended, the oldest first.
            for reader, _ in held[:6]:
                assert await closed(reader) == b""
            await until(lambda: pending(server) == 4)
            await still_serves(server)
            for _, writer in held:
                writer.close()
            await until(lambda: pending(server) == 0)

    asyncio.run(main())


def test_closing_ends_handshakes_too() -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), "0.0.0.0") as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await until(lambda: pending(server) == 1)
            await server.close()
            assert await closed(reader) == b""
            writer.close()

    asyncio.run(main())


def test_who_hangs_up_in_the_middle_is_forgotten() -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), "0.0.0.0") as server:
            for data in (b"", b"\x16\x03\x01\x02\x00\x01"):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(data)
                await until(lambda: pending(server) == 1)
                writer.close()
                await until(lambda: pending(server) == 0)
            assert server.connections == ()

    asyncio.run(main())


def test_first_words_right_behind_the_handshake_are_heard() -> None:
    """Sent in one segment with the client's end of the handshake, by ssl on a raw socket."""

    async def main() -> None:
        async with await pb.serve(Desk(), "0.0.0.0", token="secret") as server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(came, goes)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(goes.read())
                    came.write(await reader.read(65536))
            alive = [b"message", 1, b"pbnb", b"alive", 1, [b"tuple"], [b"dictionary"]]
            tls.write(pb.banana.encode(b"pb", None) + pb.banana.encode(alive))
            writer.write(goes.read())
            decoder, said = Decoder(), []
            greeting = pb.banana.encode(list(DIALECTS), None)
            heard, opened = b"", False
            while not any(tree[:2] == [b"answer", 1] for tree in said):
                async with asyncio.timeout(20):
                    data = await reader.read(65536)
                assert data, (heard, said)
                came.write(data)
                with suppress(ssl.SSLWantReadError):
                    while True:
                        heard += tls.read(65536)
                if not opened and len(heard) >= len(greeting):
                    opened, heard = True, heard.removeprefix(greeting)
                if opened:
                    decoder.feed(heard)
                    heard = b""
                    while (tree := decoder.next()) is not NEED_DATA:
                        said.append(tree)
            writer.close()
            await until(lambda: not server.connections)

    asyncio.run(main())
