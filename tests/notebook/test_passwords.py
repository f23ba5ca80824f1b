"""``%pb_connect --user``: who is asked for a password, and that it stays nowhere."""

from __future__ import annotations

import getpass
import json
from typing import Any

import pytest
from IPython.core.error import StdinNotImplementedError, UsageError

from pbnb.notebook.passwords import ask_invitation, ask_password
from tests.support.kernels import Cell, Kernel

PASSWORD = "correct horse"

USERS = f"""\
class User(pb.Avatar):
    def __init__(self, name, mind):
        self.name = name
    def perspective_whoami(self):
        return self.name

portal = pb.Portal(User, [pb.PasswordChecker(alice={PASSWORD!r})])
server = %pb_serve portal --name users --legacy-auth
"""

# It spells the password backwards, or it would find itself.
SEARCHED = f"""\
secret = {PASSWORD[::-1]!r}[::-1]
places = {{**globals(), **get_ipython().user_ns_hidden}}
del places["secret"]
history = list(get_ipython().history_manager.get_range(output=True))
found = [name for name, value in places.items() if secret in repr(value)]
found += ["history"] if secret in repr(history) else []
del secret
print(found)
"""


def test_the_password_is_what_is_typed_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return PASSWORD

    monkeypatch.setattr(getpass, "getpass", ask)
    password = ask_password("alice", "127.0.0.1:8789")
    assert password == PASSWORD and password.encode() == PASSWORD.encode()
    assert asked == ["password of alice at 127.0.0.1:8789: "]
    # As a traceback with variables has it, or %debug.
    assert PASSWORD not in repr(password) and PASSWORD not in repr({"password": password})


@pytest.mark.parametrize(
    ("answer", "says"),
    [("", "no password was typed"), (StdinNotImplementedError(), "use pb.connect")],
)
def test_who_cannot_answer_is_told(answer: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(prompt: str) -> str:
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(getpass, "getpass", ask)
    with pytest.raises(UsageError, match=says):
        ask_password("alice", "127.0.0.1:8789")


def test_an_invitation_is_what_is_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda prompt: {"invitation: ": "pbnb:a:1"}[prompt])
    line = ask_invitation()
    assert line == "pbnb:a:1" and "pbnb" not in repr(line)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: " ")
    with pytest.raises(UsageError, match="no invitation was pasted"):
        ask_invitation()

    def nobody(prompt: str) -> str:
        raise StdinNotImplementedError

    monkeypatch.setattr(getpass, "getpass", nobody)
    with pytest.raises(UsageError, match="nobody can be asked for an invitation here"):
        ask_invitation()


@pytest.fixture
def users(kernel: Kernel) -> str:
    """What serves alice, in the first kernel."""
    cell = kernel.run(USERS)
    assert cell.stdout.endswith("connect with: %pb_connect users --user NAME\n")
    assert "user" in kernel.run("%pb_status").stdout.splitlines()[1]
    address = kernel.run("server.address").result
    assert address is not None
    return address.strip("'")


def log_in(peer: Kernel, line: str, password: str) -> tuple[Cell, dict[str, Any]]:
    number = peer.send(line, stdin=True)
    asked = peer.answer(password)
    return peer.wait(number), asked


@pytest.mark.parametrize("where", ["users", "address"])
@pytest.mark.parametrize("options", ["", " --legacy-auth"])
def test_a_user_logs_in(users: str, peer: Kernel, where: str, options: str) -> None:
    target = users if where == "address" else where
    cell, asked = log_in(peer, f"ref = %pb_connect {target} --user alice{options}", PASSWORD)
    assert cell.status == "ok", cell
    assert asked == {"prompt": f"password of alice at {users}: ", "password": True}
    assert peer.run('await ref.callRemote("whoami")').result == "'alice'"
    seen = json.dumps([vars(each) for each in peer.cells.values()])
    assert PASSWORD not in seen
    assert peer.run(SEARCHED).stdout == "[]\n"


def test_a_wrong_password_is_refused_in_one_sentence(users: str, peer: Kernel) -> None:
    cell, _ = log_in(peer, "ref = %pb_connect users --user alice", "wrong")
    assert cell.ename == "UnauthorizedLogin"
    assert cell.traceback == "UnauthorizedLogin: the login was refused"


def test_without_a_name_the_calls_say_how_to_log_in(users: str, peer: Kernel) -> None:
    peer.run("ref = %pb_connect users")
    cell = peer.attempt('await ref.callRemote("whoami")')
    assert cell.ename == "UnauthorizedLogin"
    assert "%pb_connect --user NAME" in (cell.evalue or "")


def test_where_nobody_can_be_asked(users: str, peer: Kernel) -> None:
    cell = peer.attempt("ref = %pb_connect users --user alice")
    assert "nobody can be asked for a password here" in cell.stderr + cell.traceback
