from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pbnb.notebook.connection_files import (
    ConnectionFile,
    ConnectionFiles,
    NameTaken,
    find,
    is_name,
    living,
    socket_path,
)

ONE = ConnectionFile("127.0.0.1", 8789, None, "secret")
NAMED = ConnectionFile("127.0.0.1", 9001, "foo", "another secret")


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    runtime = tmp_path / "runtime"  # which does not exist yet
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    return runtime


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(runtime: Path) -> list[str]:
    return sorted(path.name for path in runtime.iterdir())


def test_a_file_is_private_and_says_everything(runtime: Path) -> None:
    files = ConnectionFiles()
    files.write(ONE)
    files.write(NAMED)
    assert names(runtime) == ["pbnb-8789.json", "pbnb-foo.json"]
    for path in runtime.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = json.loads((runtime / "pbnb-foo.json").read_text())
    assert written["token"] == "another secret"
    assert (written["host"], written["port"], written["name"]) == ("127.0.0.1", 9001, "foo")
    assert written["pid"] == os.getpid()
    assert living() == [ONE, NAMED]


def test_no_secret_is_in_the_repr() -> None:
    assert "secret" not in repr(ONE)


def test_removing(runtime: Path) -> None:
    files = ConnectionFiles()
    files.write(ONE)
    files.write(NAMED)
    files.remove(ONE)
    assert living() == [NAMED]
    files.remove(ONE)
    files.remove_all()
    assert names(runtime) == []


def test_a_name_is_never_taken_over(runtime: Path) -> None:
    ConnectionFiles().write(NAMED)
    with pytest.raises(NameTaken) as caught:
        ConnectionFiles().write(replace(NAMED, port=9002))
    assert caught.value.owner == NAMED
    assert living() == [NAMED]
    assert names(runtime) == ["pbnb-foo.json"]


def test_two_addresses_may_have_the_same_port(runtime: Path) -> None:
    other = replace(ONE, host="::1", token="of the other")
    first, second = ConnectionFiles(), ConnectionFiles()
    first.write(ONE)
    second.write(other)
    assert sorted(map(str, living())) == sorted(map(str, [ONE, other]))
    assert find("[::1]:8789", ("::1", 8789)) == other
    second.remove(other)
    assert living() == [ONE]
    first.remove(ONE)
    assert names(runtime) == []


def test_the_file_of_an_ended_process_is_cleared_away(runtime: Path) -> None:
    ConnectionFiles().write(replace(NAMED, pid=ended_process()))
    assert names(runtime) == ["pbnb-foo.json"]
    assert living() == []
    assert names(runtime) == []


def test_the_socket_of_an_ended_process_is_cleared_away_too(runtime: Path) -> None:
    path = Path(socket_path("desk"))
    path.touch()
    elsewhere = runtime / "mine"
    elsewhere.touch()
    for number, each in enumerate((path, elsewhere)):
        record = replace(NAMED, name=f"foo{number}", path=str(each), pid=ended_process())
        ConnectionFiles().write(record)
    assert living() == []
    assert not path.exists() and elsewhere.exists()


def test_a_socket_whose_path_would_be_too_long_is_put_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / ("x" * 120)))
    path = Path(socket_path(None))
    assert len(str(path)) < 100 and path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.rmdir()


def test_a_name_of_an_ended_process_is_free(runtime: Path) -> None:
    ConnectionFiles().write(replace(NAMED, pid=ended_process()))
    ConnectionFiles().write(NAMED)
    assert living() == [NAMED]


def test_the_file_of_another_machine_is_left_alone(runtime: Path) -> None:
    ConnectionFiles().write(replace(NAMED, pid=ended_process(), machine="elsewhere.example"))
    assert living() == []
    assert names(runtime) == ["pbnb-foo.json"]


def test_a_file_that_another_process_owns_now_is_not_removed(runtime: Path) -> None:
    files = ConnectionFiles()
    files.write(NAMED)
    (runtime / "pbnb-foo.json").unlink()
    ConnectionFiles().write(replace(NAMED, port=9005))
    files.remove(NAMED)
    assert [record.port for record in living()] == [9005]


def test_a_child_does_not_remove_its_parents_files(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ConnectionFiles()
    files.write(NAMED)
    monkeypatch.setattr(os, "getpid", lambda: NAMED.pid + 1)
    files.remove_all()
    assert names(runtime) == ["pbnb-foo.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.chmod(0o644),
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"host": "127.0.0.1"}'),
        lambda path: path.write_text(path.read_text().replace("9001", "true")),
        lambda path: path.write_text(path.read_text().replace("9001", '"9001"')),
        lambda path: path.write_text(path.read_text() + " " * 20_000),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: (path.rename(path.parent / "x"), path.symlink_to(path.parent / "x")),
    ],
    ids=["readable", "cut", "list", "short", "bool", "text", "long", "binary", "link"],
)
def test_a_file_that_cannot_be_ours_is_passed_over(runtime: Path, change: object) -> None:
    ConnectionFiles().write(NAMED)
    assert living() == [NAMED]
    assert callable(change)
    change(runtime / "pbnb-foo.json")
    assert living() == []
    assert "pbnb-foo.json" in names(runtime)


def test_what_an_address_finds() -> None:
    ConnectionFiles().write(ONE)
    ConnectionFiles().write(NAMED)
    assert find("foo", None) == NAMED
    assert find("localhost:8789", ("localhost", 8789)) == ONE
    assert find("127.0.0.1:8790", ("127.0.0.1", 8790)) is None
    assert find("nosuch", None) is None


@pytest.mark.parametrize("text", ["foo", "a.b-c_1", "X" * 64])
def test_names(text: str) -> None:
    assert is_name(text)


@pytest.mark.parametrize(
    "text",
    ["", "1", "8789", "a:1", "../x", "a/b", ".a", "all", "localhost", "a b", "ä", "a\n", "X" * 65],
)
def test_no_names(text: str) -> None:
    assert not is_name(text)
