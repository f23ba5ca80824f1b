from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import pbnb as pb
from pbnb.notebook.serving import Serving, Servings
from pbnb.notebook.wording import announcement, described, status


class Echoer(pb.Root):
    pass


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
