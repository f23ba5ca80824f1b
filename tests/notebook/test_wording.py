from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.notebook.serving import Serving, Servings
from pbnb.notebook.wording import (
    announcement,
    blocked,
    busy_with,
    described,
    pending,
    state_of,
    status,
    waiting,
)
from tests.support.serving import served as connected
from tests.support.serving import until


class Echoer(pb.Root):
    async def remote_never(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))


async def served(servings: Servings, name: str | None, anonymous: bool) -> Serving:
    return await servings.serve(Echoer(), host="127.0.0.1", port=0, name=name, anonymous=anonymous)


def test_what_is_said() -> None:
    async def main() -> None:
        servings = Servings()
        plain = await served(servings, None, False)
        named = await served(servings, "foo", True)
        one, two = plain.file.address, named.file.address
        assert described(plain) == f"Echoer on {one}"
        assert described(named) == f"Echoer as foo on {two}"
        assert announcement(plain) == f"serving Echoer on {one} — connect with: %pb_connect {one}"
        assert announcement(named) == (
            f"serving Echoer as foo on {two}, without a login — connect with: %pb_connect foo"
        )
        ref = await pb.connect(two)
        (connection,) = named.server.connections
        lines = list(status(servings.open(), [ref.broker.peer]))
        words = [line.split() for line in lines]
        assert words == [
            ["serving", "on", "as", "login", "peers"],
            ["Echoer", one, "-", "token", "none"],
            ["Echoer", two, "foo", "none", connection.peer],
            ["connected", "to", two],
        ]
        # Columns stand under each other.
        assert len({line.index(word[1]) for line, word in zip(lines[:3], words, strict=False)}) == 1
        said = [announcement(plain), described(plain), repr(plain), *lines]
        assert plain.server.token is not None
        assert not any(plain.server.token in text for text in said)
        await servings.stop_all()

    asyncio.run(main())


def test_where_users_log_in_it_says_how() -> None:
    async def main() -> None:
        servings = Servings()
        portal = pb.Portal(lambda name, mind: pb.Avatar(), [pb.PasswordChecker(alice="secret")])
        serving = await servings.serve(
            portal, host="127.0.0.1", port=0, name="users", anonymous=False
        )
        assert announcement(serving) == (
            f"serving Portal as users on {serving.file.address} — "
            "connect with: %pb_connect users --user NAME"
        )
        assert list(status([serving], []))[1].split()[3] == "user"
        await servings.stop_all()

    asyncio.run(main())


def test_nothing_to_say() -> None:
    assert list(status([], [])) == ["serving nothing", "connected to nothing"]


def test_what_is_kept_and_away_says_what_it_waits_for() -> None:
    async def main() -> None:
        server = await pb.serve(Echoer())
        ref: Any = await pb.connect(server.address, keep=pb.Backoff(nearby=60))
        keeper = ref.broker
        assert waiting(keeper) == ""
        connection = keeper.connection
        await server.close()
        await until(lambda: keeper.connection is not connection and keeper.failures > 1)
        calls = [ref.callRemote("echo", 1)]
        line = re.compile(
            rf"{server.address}: connecting again( in \d+\.\d s)?: nothing listens .* "
            r"\(1 call waiting\)"
        )
        assert line.fullmatch(list(status([], [], [keeper]))[-1])
        calls.append(ref.callRemote("echo", 2))
        assert waiting(keeper).endswith(" (2 calls waiting)")
        await keeper.close()
        assert waiting(keeper) == "kept no longer: closed here"
        for call in calls:
            with pytest.raises(pb.PBConnectionLost):
                await call


def test_what_is_said_of_calls_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with connected(Echoer()) as (_, ref):
            connection = ref.broker
            call = ref.callRemote("never")
            (row,) = connection.pending_rows()
            assert list(pending([connection])) == []
            # As seen some time later: nothing was heard, then the answer to a question, then not.
            now = row.since
            monkeypatch.setattr(pb.Connection, "time", lambda connection: now)
            here = f"never() at {connection.peer}"
            connection.liveness.heard_at = row.since
            now = row.since + 12
            assert list(pending([connection])) == [f"{here} pending for 12 s"]
            connection.liveness.heard_at = now - 1
            assert state_of(connection, row.since) == "the peer is alive"
            assert list(pending([connection])) == [f"{here} pending for 12 s, the peer is alive"]
            connection.liveness._asked_at = now
            now += 9
            busy = "peer's kernel busy for 10 s"
            assert list(pending([connection])) == [f"{here} pending for 21 s, {busy}"]
            assert busy_with(connection, ["never"], 10.0) == f"{here}: {busy}"
            assert (
                busy_with(connection, ["a", "b"], 10.0) == f"2 calls at {connection.peer}: {busy}"
            )
            assert busy_with(connection, ["\x1b"], 10.0) == f"\\x1b() at {connection.peer}: {busy}"
            call.cancel()

    asyncio.run(main())


def test_what_is_said_of_a_kernel_that_was_busy() -> None:
    assert blocked(12.3, 3) == "this kernel's loop was blocked for 12 s, until 3 s ago"
    assert blocked(12.3, 300) == "this kernel's loop was blocked for 12 s, until 5 min ago"


def test_a_server_in_a_thread_is_known_by_it() -> None:
    async def main() -> None:
        servings = Servings()
        aside = await servings.serve(
            Echoer(), host="127.0.0.1", port=0, name="aside", anonymous=False, thread=True
        )
        assert announcement(aside).startswith(
            f"serving Echoer as aside on {aside.file.address}, from a thread — connect with: "
        )
        assert "Echoer (thread)" in list(status(servings.open(), []))[1]
        await servings.stop_all()

    asyncio.run(main())
