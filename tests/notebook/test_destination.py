from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import pbnb as pb
from pbnb.aio.listening import reachable
from pbnb.cred import Invitation
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


@pytest.fixture
def files() -> ConnectionFiles:
    return ConnectionFiles()


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
    assert told(destination(target)) == (address, token)


def told(invitation: Invitation) -> tuple[str, str | None]:
    assert invitation.key is None
    return invitation.address, invitation.token


KEY = "k" * 43


def test_what_is_served_with_a_key_is_known_by_it(files: ConnectionFiles) -> None:
    files.write(ConnectionFile("0.0.0.0", 9003, "lab", "secret of lab", KEY))
    for target, address in (
        ("lab", "127.0.0.1:9003"),
        ("localhost:9003", "localhost:9003"),
        ("127.0.0.1:9003", "127.0.0.1:9003"),
        (f"{reachable('0.0.0.0')}:9003", f"{reachable('0.0.0.0')}:9003"),
    ):
        found = destination(target)
        assert (found.address, found.key, found.token) == (address, KEY, "secret of lab")
    assert destination("192.0.2.77:9003").token is None
    assert "127.0.0.1:9003" in targets()


def test_a_unix_socket(files: ConnectionFiles, tmp_path: Path) -> None:
    files.write(ConnectionFile("", 0, "desk", "secret", None, str(tmp_path / "desk")))
    address = f"unix:{tmp_path / 'desk'}"
    for target in ("desk", address, f"unix:{tmp_path}/./desk"):
        assert told(destination(target)) == (address, "secret")
    assert told(destination("unix:/elsewhere")) == ("unix:/elsewhere", None)
    assert address in targets()


def test_an_invitation_says_everything_by_itself() -> None:
    line = Invitation("127.0.0.1:8789", KEY, "secret").reveal()
    found = destination(line)
    assert (found.address, found.key, found.token) == ("127.0.0.1:8789", KEY, "secret")
    place = Place(line)
    assert place.look_up().reveal() == line
    assert "secret" not in repr(vars(place))
    asyncio.run(place.check_refused("secret"))  # at once: there will be no other token


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


def test_a_place_is_looked_up_anew(files: ConnectionFiles) -> None:
    first = ConnectionFile("127.0.0.1", 9100, "lab", "old")
    files.write(first)
    by_name, by_address = Place("lab"), Place("127.0.0.1:9100")
    assert told(by_name.look_up()) == told(by_address.look_up()) == ("127.0.0.1:9100", "old")
    files.remove(first)
    with pytest.raises(pb.ConnectError, match="^nothing is served as lab now$"):
        by_name.look_up()
    # Whoever listens there meanwhile gets no login, and is not taken for the server.
    with pytest.raises(pb.ConnectError, match=r"^nothing of yours is served on 127.0.0.1:9100 now"):
        by_address.look_up()
    files.write(ConnectionFile("127.0.0.1", 9101, "lab", "new"))
    assert told(by_name.look_up()) == ("127.0.0.1:9101", "new")
    with pytest.raises(pb.ConnectError):
        by_address.look_up()


def test_a_place_without_a_token_stays_one() -> None:
    assert told(Place("bar").look_up()) == ("127.0.0.1:9002", None)
    assert told(Place("example.com:8789").look_up()) == ("example.com:8789", None)


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
