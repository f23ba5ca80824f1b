from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import pbnb as pb
from pbnb.notebook import destination as module
from pbnb.notebook.connection_files import ConnectionFile, ConnectionFiles
from pbnb.notebook.destination import Place, address_of, destination, targets


@pytest.fixture(autouse=True)
def _served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    files = ConnectionFiles()
    files.write(ConnectionFile("127.0.0.1", 8789, None, "secret of the port"))
    files.write(ConnectionFile("::1", 9001, "foo", "secret of foo"))
    files.write(ConnectionFile("127.0.0.1", 9002, "bar", None))


@pytest.mark.parametrize(
    ("target", "address", "token"),
    [
        ("127.0.0.1:8789", "127.0.0.1:8789", "secret of the port"),
        ("localhost:8789", "localhost:8789", "secret of the port"),
        ("localhost", "localhost:8789", "secret of the port"),
        ("[::1]:9001", "[::1]:9001", "secret of foo"),
        ("foo", "[::1]:9001", "secret of foo"),
        ("bar", "127.0.0.1:9002", None),
        ("localhost:9002", "localhost:9002", None),
        # A secret goes only where it belongs.
        ("127.0.0.2:8789", "127.0.0.2:8789", None),
        ("127.0.0.1:9001", "127.0.0.1:9001", None),
        ("[::1]:8789", "[::1]:8789", None),
        ("example.com:8789", "example.com:8789", None),
    ],
)
def test_where_a_target_leads(target: str, address: str, token: str | None) -> None:
    assert destination(target) == (address, token)


def test_an_unknown_name_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(pb.ConnectError, match="^nothing is served as nosuch: .* now bar, foo$"):
        destination("nosuch")


@pytest.mark.parametrize("target", ["::1:8789", "foo:bar", ":8789", "host:0", "host:99999"])
def test_an_address_that_cannot_be_read(target: str) -> None:
    with pytest.raises(ValueError, match=r"^'.*' (is|has|names) "):
        destination(target)
    assert address_of(target) is None


def test_what_can_be_connected_to() -> None:
    assert targets() == ["bar", "foo", "127.0.0.1:8789", "127.0.0.1:9002", "[::1]:9001"]


@pytest.fixture
def files() -> ConnectionFiles:
    return ConnectionFiles()


def test_a_place_is_looked_up_anew(files: ConnectionFiles) -> None:
    first = ConnectionFile("127.0.0.1", 9100, "lab", "old")
    files.write(first)
    by_name, by_address = Place("lab"), Place("127.0.0.1:9100")
    assert by_name.look_up() == by_address.look_up() == ("127.0.0.1:9100", "old")
    files.remove(first)
    with pytest.raises(pb.ConnectError, match="^nothing is served as lab now$"):
        by_name.look_up()
    # Whoever listens there meanwhile gets no login, and is not taken for the server.
    with pytest.raises(pb.ConnectError, match=r"^nothing of yours is served on 127.0.0.1:9100 now"):
        by_address.look_up()
    files.write(ConnectionFile("127.0.0.1", 9101, "lab", "new"))
    assert by_name.look_up() == ("127.0.0.1:9101", "new")
    with pytest.raises(pb.ConnectError):
        by_address.look_up()


def test_a_place_without_a_token_stays_one() -> None:
    assert Place("bar").look_up() == ("127.0.0.1:9002", None)
    assert Place("example.com:8789").look_up() == ("example.com:8789", None)


@pytest.mark.parametrize("target", ["nosuch", "::1:8789"])
def test_a_place_has_to_be_one_at_first(target: str) -> None:
    with pytest.raises((pb.ConnectError, ValueError)):
        Place(target)


def test_a_token_is_refused_for_good_where_there_is_no_other(
    files: ConnectionFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK", 0.001)
    files.write(ConnectionFile("127.0.0.1", 9100, "lab", "new"))
    place = Place("lab")
    asyncio.run(place.check_refused("new"))
    asyncio.run(place.check_refused(None))
    with pytest.raises(pb.ConnectError, match="lab is served anew, with another token"):
        asyncio.run(place.check_refused("old"))
