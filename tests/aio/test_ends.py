"""What is known of a connection's two ends."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.ends import Ends


class Transport(asyncio.Transport):
    def __init__(self, **known: Any) -> None:
        super().__init__(known)


HERE, THERE = ("127.0.0.1", 1), ("::ffff:127.0.0.2", 2, 0, 0)


@pytest.mark.parametrize(
    ("listening", "own", "other", "peer", "channel"),
    [
        (True, HERE, THERE, "[::ffff:127.0.0.2]:2", "127.0.0.1:1"),
        (False, HERE, THERE, "[::ffff:127.0.0.2]:2", "127.0.0.2:2"),
        (True, "/run/a", "", "a peer", "unix:/run/a"),
        (False, "", "/run/a", "/run/a", "unix:/run/a"),
        (False, "", b"\0a", "\0a", "unix:\0a"),
        (True, None, None, "a peer", ""),
    ],
)
def test_both_ends_have_the_same_words(
    listening: bool, own: Any, other: Any, peer: str, channel: str
) -> None:
    ends = Ends.of(Transport(sockname=own, peername=other), listening)
    assert ends == (peer, channel, own, other)


async def _ends(server: pb.Server) -> tuple[Any, Any]:
    ref = await pb.connect(server.address)
    assert await ref.callRemote("nothing").addErrback(lambda failure: "none") == "none"
    (far,) = server.connections
    found = ref.broker, far
    await ref.broker.close()
    return found


def test_the_ends_of_a_unix_socket(tmp_path: Path) -> None:
    async def main() -> None:
        async with await pb.serve(pb.Root(), path=tmp_path / "desk") as server:
            near, far = await _ends(server)
            assert near.peer == server.address == f"unix:{tmp_path / 'desk'}"
            assert far.peer == f"process {os.getpid()}"
            assert near.channel == far.channel == server.address

    asyncio.run(main())


def test_a_certificate_that_is_not_of_pbnb_s_making_is_not_known_to_the_server() -> None:
    class TLS:
        context = object()

    ends = Ends.of(Transport(sockname=HERE, peername=THERE, ssl_object=TLS()), True)
    assert ends.channel == "a certificate not known here"
