"""Pagers and collectors: what goes over the wire, how fast, and every way to end."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.connection import Connection
from pbnb.aio.paging import CallbackPageCollector, FilePager, Pager, StringPager, getAllPages
from pbnb.wire.banana import NEED_DATA, PB_WORDS, Decoder
from tests.support.serving import served, tables, until
from tests.support.vectors import load, session_names


class BadFile(io.BytesIO):
    """A file whose disk goes away half-way."""

    def __init__(self, pages: int, *error: Any) -> None:
        super().__init__(b"x" * 10**6)
        self.left = pages
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.left:
            raise OSError(*self.error)
        self.left -= 1
        return super().read(size)


class Counted(Pager):
    """Pages that are no strings."""

    def __init__(self, collector: Any, pages: list[Any], *args: Any, **kw: Any) -> None:
        self.pages = pages
        self.stopped = 0
        super().__init__(collector, *args, **kw)

    def nextPage(self) -> Any:
        page = self.pages.pop(0)
        if not self.pages:
            self.stopPaging()
        return page

    def stopPaging(self) -> None:
        self.stopped += 1
        super().stopPaging()


class Library(pb.Root):
    def __init__(self, make: Callable[[Any], Any] = lambda collector: None) -> None:
        self.make = make
        self.pager: Any = None
        self.kept: Any = None

    def remote_read(self, collector: Any, *args: Any, **kw: Any) -> None:
        self.pager = self.make(collector, *args, **kw)

    def remote_keep(self, collector: Any) -> None:
        self.kept = collector

    async def remote_fail(self, collector: Any) -> None:
        raise pb.Error("no such book")

    def remote_echo(self, value: Any) -> Any:
        return value


async def read(root: Library, method: str = "read", *args: Any, **kw: Any) -> list[Any]:
    """Returns the pages of a call; the connection has to be alive and empty afterwards."""
    async with served(root) as (server, ref):
        try:
            return await getAllPages(ref, method, *args, **kw)
        finally:
            root.pager = None
            assert await ref.callRemote("echo", "alive") == "alive"
            await until(lambda: not tables(*server.connections, ref.broker))


# What arrives


@pytest.mark.parametrize(
    ("string", "size", "pages"),
    [
        (b"abcdefghij", 4, [b"abcd", b"efgh", b"ij"]),
        (b"abcd", 4, [b"abcd"]),
        (b"abcde", 4, [b"abcd", b"e"]),
        (b"", 4, [b""]),  # as Twisted's
        ("Grüße", 2, ["Gr", "üß", "e"]),
    ],
)
def test_a_string_arrives_in_pages(string: Any, size: int, pages: list[Any]) -> None:
    assert asyncio.run(read(Library(lambda c: StringPager(c, string, size)))) == pages


def test_a_page_holds_8192_bytes_of_a_string_and_16384_of_a_file() -> None:
    data = bytes(range(256)) * 200

    async def main() -> None:
        pages = await read(Library(lambda c: StringPager(c, data)))
        assert b"".join(pages) == data
        assert {len(page) for page in pages[:-1]} == {8192}
        pages = await read(Library(lambda c: FilePager(c, io.BytesIO(data))))
        assert b"".join(pages) == data
        assert {len(page) for page in pages[:-1]} == {16384}

    asyncio.run(main())


def test_a_file_is_sent_from_where_it_stands_and_closed() -> None:
    files = [io.BytesIO(b"header" + b"x" * 16384), io.BytesIO(b""), io.StringIO("text")]
    files[0].read(6)

    async def main() -> list[Any]:
        return [await read(Library(lambda c, f=file: FilePager(c, f))) for file in files]

    assert asyncio.run(main()) == [[b"x" * 16384], [], ["text"]]
    assert all(file.closed for file in files)


def test_pages_may_be_anything_that_can_be_sent() -> None:
    pages = [[1, 2], {"three": 4}, None]
    assert asyncio.run(read(Library(lambda c: Counted(c, list(pages))))) == pages


def test_arguments_and_keywords_follow_the_collector() -> None:
    def make(collector: Any, data: bytes, *, size: int) -> Any:
        return StringPager(collector, data, size)

    async def main() -> None:
        assert await read(Library(make), "read", b"abc", size=2) == [b"ab", b"c"]

    asyncio.run(main())


def test_a_pager_says_when_it_is_done() -> None:
    done: list[Any] = []

    def make(collector: Any) -> Any:
        return StringPager(collector, b"abc", 2, lambda *a, **kw: done.append((a, kw)), 1, x=2)

    root = Library(make)

    async def main() -> None:
        async with served(root) as (_, ref):
            assert await getAllPages(ref, "read") == [b"ab", b"c"]
            assert done == [((1,), {"x": 2})]
            assert not root.pager.stillPaging()

    asyncio.run(main())


def test_a_pager_can_be_stopped_from_outside() -> None:
    class Endless(Pager):
        def nextPage(self) -> int:
            return 7

    root = Library(Endless)

    async def main() -> None:
        async with served(root) as (_, ref):
            pages = getAllPages(ref, "read")
            await until(lambda: root.pager is not None)
            assert root.pager.stillPaging()
            root.pager.stopPaging()
            assert set(await pages) == {7}

    asyncio.run(main())


# The wire


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and is full when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("a test", 1) if name == "peername" else default

    def close(self) -> None:
        pass

    def messages(self) -> list[Any]:
        decoder = Decoder(pb.Limits(), PB_WORDS)
        decoder.feed(bytes(self.written))
        found = []
        while (tree := decoder.next()) is not NEED_DATA:
            found.append(tree)
        self.written.clear()
        return found


def opened() -> tuple[Connection, Wire, pb.RemoteReference]:
    """Returns a connection whose peer is a recording, and a collector of that peer's."""
    connection, wire = Connection(listening=True), Wire()
    connection.connection_made(wire)
    connection.data_received(pb.banana.encode(b"pb", {}))
    wire.written.clear()
    return connection, wire, connection.machine.refs.borrow(9)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def got(number: int, page: Any) -> list[Any]:
    return [b"message", number, 9, b"gotPage", 0, [b"tuple", page], [b"dictionary"]]


def test_pages_are_calls_that_ask_for_no_answer() -> None:
    async def main() -> None:
        connection, wire, collector = opened()
        StringPager(collector, b"abc", 2)
        del collector
        await turns()
        assert wire.messages() == [
            got(1, b"ab"),
            got(2, b"c"),
            [b"message", 3, 9, b"endedPaging", 0, [b"tuple"], [b"dictionary"]],
            [b"decref", 9],
        ]
        assert not connection.machine.pending

    asyncio.run(main())


def test_the_first_page_is_sent_at_once_and_the_second_when_others_had_their_turn() -> None:
    async def main() -> None:
        connection, wire, collector = opened()
        StringPager(collector, b"abc", 2)
        connection.machine.call(collector, "other", (), {}, wants_answer=False)
        await turns()
        assert [message[3] for message in wire.messages()][:3] == [b"gotPage", b"other", b"gotPage"]

    asyncio.run(main())


def test_no_page_is_sent_while_the_transport_is_full() -> None:
    async def main() -> None:
        connection, wire, collector = opened()
        pager = Counted(collector, list(range(5)))
        await turns(1)
        connection.pause_writing()
        before = list(pager.pages)
        await turns(50)
        assert pager.pages == before
        connection.resume_writing()
        await turns()
        assert wire.messages()[:5] == [got(n + 1, n) for n in range(5)]

    asyncio.run(main())


def test_a_peer_that_does_not_read_holds_the_pager() -> None:
    """Over a real socket: what is in memory stays small, however long the file is."""

    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1, /) -> bytes:
            self.given += size
            return b"x" * size

    file = Endless()

    async def main() -> None:
        async with served(Library(lambda c: FilePager(c, file))) as (server, ref):
            transport = ref.broker._transport
            ref.callRemote("read", pb.Referenceable()).addErrback(lambda failure: None)
            await until(lambda: file.given > 0)
            transport.pause_reading()
            (far,) = server.connections
            await until(lambda: far.writing.full)
            stuck = file.given
            await turns(200)
            assert file.given == stuck
            assert far._transport.get_write_buffer_size() < 200_000
            far.abort()
            await until(lambda: file.closed)

    asyncio.run(main())


class Recorded(pb.Root):
    """What served when the sessions were recorded."""

    def remote_pageString(self, collector: pb.RemoteReference) -> None:
        StringPager(collector, b"abcdefghij" * 3, 8)

    def remote_pageFile(self, collector: pb.RemoteReference) -> None:
        FilePager(collector, io.BytesIO(b"0123456789" * 2000))

    def remote_echo(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize("name", [name for name in session_names() if name.startswith("pager.")])
def test_a_recorded_session_is_sent_again_byte_for_byte(name: str) -> None:
    (session,) = load(f"sessions/{name}")["connections"]
    chunks = [(chunk["dir"], bytes.fromhex(chunk.get("hex", ""))) for chunk in session["chunks"]]

    async def main() -> bytes:
        connection, wire = (
            Connection(listening=True, root=Recorded(), dialects=("pb", "none")),
            Wire(),
        )
        connection.connection_made(wire)
        for direction, data in chunks:
            if direction == "c2s":
                connection.data_received(data)
                await turns(30)
        return bytes(wire.written)

    assert asyncio.run(main()) == b"".join(data for sender, data in chunks if sender == "s2c")


# Failures


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_a_file_that_fails_half_way_fails_the_collector(
    pages: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = BadFile(pages, 5, "the disk is gone")
    done: list[str] = []

    async def main() -> None:
        with pytest.raises(OSError, match="the disk is gone") as caught:
            await read(Library(lambda c: FilePager(c, file, done.append, "done")))
        assert isinstance(caught.value, pb.RemoteError)
        assert caught.value.remoteType == "builtins.OSError"

    asyncio.run(main())
    assert file.closed
    assert done == []
    assert "a pager failed" in caplog.text


def test_a_collector_that_knows_no_failures_finds_it_in_place_of_a_page() -> None:
    async def main() -> None:
        _, wire, collector = opened()
        FilePager(collector, BadFile(1, "torn"))
        await turns()
        first, told, page, ended, *_ = wire.messages()
        assert first == got(1, b"x" * 16384)
        assert told[3:6] == [
            b"pagingFailed",
            0,
            [b"tuple", [b"unicode", b"builtins.OSError"], [b"unicode", b"torn"]],
        ]
        assert page[3] == b"gotPage"
        assert page[5][1][0] == b"twisted.spread.pb.CopyableFailure"
        assert ended[3] == b"endedPaging"

    asyncio.run(main())


@pytest.mark.parametrize("page", [object(), 2**500])
def test_a_page_that_cannot_be_sent_fails_the_collector(page: Any) -> None:
    pagers: list[Counted] = []

    def make(collector: Any) -> Any:
        pagers.append(Counted(collector, [1, page, 3]))

    async def main() -> None:
        with pytest.raises((pb.InsecureJelly, pb.BananaError)):
            await read(Library(make))
        assert pagers[0].stopped == 1

    asyncio.run(main())


def test_a_file_that_gives_something_else_than_bytes_fails_the_collector() -> None:
    class Odd(io.RawIOBase):
        def read(self, size: int = -1, /) -> Any:
            return None

    async def main() -> None:
        with pytest.raises(TypeError, match="returned NoneType, not bytes"):
            await read(Library(lambda c: FilePager(c, Odd())))

    asyncio.run(main())


def test_a_method_that_fails_fails_the_pages() -> None:
    with pytest.raises(pb.Error, match="no such book"):
        asyncio.run(read(Library(), "fail"))


def test_a_method_that_only_forgets_the_collector_fails_the_pages() -> None:
    with pytest.raises(pb.Error, match=r"let go of the collector before read\(\)"):
        asyncio.run(read(Library()))


def test_a_lost_connection_fails_the_pages_and_closes_the_file() -> None:
    file = BadFile(10**6)

    async def main() -> None:
        async with served(Library(lambda c: FilePager(c, file))) as (server, ref):
            keeping = getAllPages(ref, "keep")
            reading = getAllPages(ref, "read")
            file.seek(0)
            (far,) = server.connections
            far.abort()
            with pytest.raises(pb.PBConnectionLost):
                await reading
            with pytest.raises(pb.PBConnectionLost, match="ended"):
                await keeping
            await until(lambda: file.closed or not far.writing._paced)
            assert not ref.broker._watchers
            with pytest.raises(pb.DeadReferenceError):
                getAllPages(ref, "read")

    asyncio.run(main())


def test_a_pager_for_a_connection_that_has_ended_closes_its_file() -> None:
    file = io.BytesIO(b"data")
    root = Library()

    async def main() -> None:
        async with served(root) as (server, ref):
            await ref.callRemote("keep", pb.Referenceable())
            await ref.broker.close()
            await until(lambda: root.kept.broker.lost)
            FilePager(root.kept, file)

    asyncio.run(main())
    assert file.closed


def test_giving_up_waiting_lets_the_rest_go() -> None:
    async def main() -> None:
        async with served(Library(lambda c: StringPager(c, b"x" * 10**6, 100))) as (_, ref):
            pages = getAllPages(ref, "read")
            pages.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pages
            assert await ref.callRemote("echo", "alive") == "alive"

    asyncio.run(main())


@pytest.mark.parametrize("collector", [None, CallbackPageCollector(print), "collector"])
def test_pages_are_sent_to_a_reference(collector: Any) -> None:
    file = io.BytesIO(b"x")
    with pytest.raises(TypeError, match="a collector of the peer's"):
        FilePager(collector, file)
    assert file.closed


def test_what_cannot_be_paged_is_refused_at_once() -> None:
    async def main() -> None:
        _, wire, collector = opened()
        with pytest.raises(TypeError, match="bytes or text, not list"):
            StringPager(collector, [1])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at least one byte, not 0"):
            StringPager(collector, b"x", 0)
        with pytest.raises(TypeError, match="a file that is open, not str"):
            FilePager(collector, "/etc/hostname")  # type: ignore[arg-type]
        await turns()
        assert wire.messages() == []

    asyncio.run(main())


def test_a_pager_without_pages_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="Pager has to say in nextPage"):
        asyncio.run(read(Library(Pager)))


# Collectors


def test_a_collector_calls_once_whatever_a_peer_sends() -> None:
    collected: list[Any] = []
    collector = CallbackPageCollector(collected.append, collected.append)
    collector.remote_gotPage(1)
    collector.remote_endedPaging()
    collector.remote_gotPage(2)
    collector.remote_endedPaging()
    collector.remote_pagingFailed("builtins.OSError", "late")
    assert collected == [[1]]


def test_a_failed_collector_forgets_its_pages() -> None:
    collected: list[Any] = []
    failures: list[pb.Failure] = []
    collector = CallbackPageCollector(collected.append, failures.append)
    collector.remote_gotPage(b"x")
    collector.remote_pagingFailed("builtins.OSError", "gone")
    collector.remote_gotPage("a failure, for others")
    collector.remote_endedPaging()
    assert collected == []
    assert collector.pages == []
    assert [failure.check(OSError) for failure in failures] == [OSError]


def test_without_an_errback_a_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "pbnb"):
        CallbackPageCollector(print).remote_pagingFailed("builtins.OSError", "gone\x1b[2J")
    assert "a pager of the peer's failed: gone" in caplog.text
    assert "\x1b" not in caplog.text


def test_nothing_is_kept_of_a_pager_that_has_ended() -> None:
    root = Library(lambda c: StringPager(c, b"x"))

    async def main() -> None:
        async with served(root) as (_, ref):
            await getAllPages(ref, "read")
            pager = weakref.ref(root.pager)
            root.pager = None
            await until(lambda: gc.collect() < 0 or pager() is None)

    asyncio.run(main())
