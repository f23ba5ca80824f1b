"""``%pb_invite`` and ``%pb_revoke``, and that no secret is in any output: in real kernels."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pbnb.aio.inviting import InvitationRow
from pbnb.notebook.inviting import _left
from tests.support.kernels import Cell, Kernel

DESK = """\
class Desk(pb.Root):
    def remote_read(self):
        return "read"
    def remote_write(self):
        return "written"
desk = Desk()
"""
LINE = re.compile(r"pbnb:\S+,token=[A-Za-z0-9_.-]{40,}")


@pytest.fixture(scope="module")
def served(kernel: Kernel) -> Kernel:
    kernel.run(DESK)
    return kernel


def seen(cell: Cell) -> str:
    """Returns everything that a cell has put below itself."""
    return cell.stdout + cell.stderr + (cell.result or "") + cell.traceback + repr(cell.displays)


def line_of(kernel: Kernel, expression: str) -> str:
    """Returns the line of an invitation, as it is printed on purpose."""
    (line,) = LINE.findall(kernel.run(f"print({expression}.reveal())").stdout)
    return str(line)


def test_another_machine_is_invited_and_connects(served: Kernel, peer: Kernel) -> None:
    cell = served.run("server = %pb_serve desk --host 0.0.0.0 --name lab")
    (announced,) = cell.stdout.splitlines()
    assert re.fullmatch(
        r"serving Desk as lab on 0\.0\.0\.0:\d+, encrypted — connect with: %pb_connect lab, and on "
        r"another machine: %pb_connect pbnb:[\d.]+:\d+,key=.{8}…,token=… "
        r"\(%pb_invite --show shows the whole line\)",
        announced,
    )
    line = line_of(served, "server.invitation")
    # This user's notebooks need no line.
    assert peer.run("ref = %pb_connect lab\nawait ref.callRemote('read')").result == "'read'"
    peer.run("await ref.broker.close()")
    # Whoever has only the line, and asks for it.
    number = peer.send("ref = %pb_connect --ask\nawait ref.callRemote('read')", stdin=True)
    assert peer.answer(line)["password"] is True
    cell = peer.wait(number)
    assert cell.result == "'read'"
    assert line.partition("token=")[2] not in seen(cell)
    peer.run("await ref.broker.close()")


def test_inviting_listing_and_revoking(served: Kernel, peer: Kernel) -> None:
    served.run("server = %pb_serve desk --name lab")
    cell = served.run("%pb_invite alice --expires 2h --only read")
    assert cell.result is None
    assert re.fullmatch(
        r"invited alice to Desk on 127\.0\.0\.1:\d+, to call read alone, for 2 hours: "
        r"pbnb:127\.0\.0\.1:\d+,token=… \(%pb_invite alice --show shows the whole line\)\n",
        cell.stdout,
    )
    served.run("other = pb.Referenceable()\nbob = %pb_invite bob --object other")
    assert [row.split()[0] for row in served.run("%pb_invite").stdout.splitlines()] == [
        "invitation",
        "owner",
        "alice",
        "bob",
    ]
    line = line_of(served, "server.invitation_of('alice')")
    peer.run(f"import os\nos.environ['LINE'] = {line!r}\nline = os.environ['LINE']")
    peer.run("ref = %pb_connect $line\nassert await ref.callRemote('read') == 'read'")
    assert peer.attempt("await ref.callRemote('write')").ename == "NoSuchMethod"
    assert re.search(r"alice +Desk +\S+ +read +2 hours +1\n", served.run("%pb_invite").stdout)
    assert served.run("%pb_revoke alice").stdout == "revoked alice, connections cut: 1\n"
    assert peer.attempt("await ref.callRemote('read')").ename in (
        "DeadReferenceError",
        "PBConnectionLost",
    )
    refused = peer.attempt("%pb_connect {line}")
    assert refused.evalue == "the login was refused"
    assert line.partition("token=")[2] not in seen(refused)
    assert served.run("%pb_revoke bob").stdout == "revoked bob, nobody was connected with it\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%pb_invite alice", "this kernel serves nothing that somebody could be invited to"),
        ("%pb_revoke", "say which invitation to revoke, as in %pb_revoke alice"),
        ("%pb_invite alice --expires soon", "'soon' is no time that lies ahead"),
        ("%pb_invite alice --only rread", "rread"),
        ("%pb_invite 1", "cannot be the name of an invitation"),
        ("%pb_invite owner", "there is an invitation owner already"),
        ("%pb_revoke nobody", "there is no invitation 'nobody': there is owner"),
        ("%pb_invite alice --on nothing", "this kernel serves nothing as nothing"),
        ("%pb_connect --ask lab", "--ask asks for what to connect to"),
        ("%pb_connect pbnb:a:1, token=x", "beside the invitation there is something that makes no"),
        ("%pb_connect pbnb:a:1,token=", "that is no invitation: it has to be the whole line"),
        ("%pb_serve desk --host 0.0.0.0 --anonymous", "leave out --anonymous, or type --insecure"),
        ("%pb_serve desk --keyfile x", "give --certfile too"),
        ("%pb_serve desk --certfile /none.pem", "cannot read /none.pem"),
        ("%pb_serve desk --unix --port 1", "leave out --host and --port"),
    ],
)
def test_lines_that_make_no_sense(served: Kernel, line: str, says: str) -> None:
    if "nothing that somebody" not in says and "pb_serve" not in line:
        served.run("server = %pb_serve desk --name lab")
    cell = served.attempt(line)
    assert cell.status == "error" and says in seen(cell)
    assert "File" not in cell.traceback and len(cell.traceback.splitlines()) <= 2


def test_of_several_servers_one_is_chosen(served: Kernel) -> None:
    served.run("%pb_serve Desk() --name one\n%pb_serve Desk() --name two")
    cell = served.attempt("%pb_invite alice")
    assert "say to what, with --on: this kernel serves one, two" in seen(cell)
    served.run("%pb_invite alice --on two")
    assert "one" not in served.run("%pb_invite alice --show --on two").stdout


def test_what_needs_no_invitation(served: Kernel) -> None:
    served.run("%pb_serve desk --anonymous")
    assert served.run("%pb_invite").stdout == "nobody is invited\n"
    assert "nobody needs a token" in seen(served.attempt("%pb_invite alice"))
    # Users of a portal need no token, and the key of its server all the same.
    served.run(
        "%pb_stop\nportal = pb.Portal(lambda name, mind: desk, [pb.PasswordChecker(ann='x')])\n"
        "server = %pb_serve portal --host 0.0.0.0"
    )
    shown = served.run("%pb_invite --show").result
    assert shown is not None
    assert re.fullmatch(r"<Invitation pbnb:[\d.]+:\d+,key=.{8}…>", shown)


def test_without_encryption_on_purpose(served: Kernel) -> None:
    said = served.run("server = %pb_serve desk --host 0.0.0.0 --insecure").stdout
    assert ", not encrypted — " in said and "key=" not in said
    assert served.run("server.anonymous, server.key").result == "(False, None)"


def test_a_unix_socket_by_name_path_and_invitation(
    served: Kernel, peer: Kernel, runtime: Path
) -> None:
    said = served.run("server = %pb_serve desk --unix --name desk").stdout
    assert re.match(
        r"serving Desk as desk on unix:\S+/desk — connect with: %pb_connect desk\n", said
    )
    path = served.run("print(server.path)").stdout.strip()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    for target in ("desk", f"unix:{path}", line_of(served, "server.invitation")):
        code = f"ref = %pb_connect {target}\nprint(await ref.callRemote('read'))"
        assert peer.run(code + "\nawait ref.broker.close()").stdout == "read\n"
    # In the same kernel, what a method prints is below the cell that called it.
    served.run("desk.remote_say = lambda: print('said')\nref = %pb_connect desk")
    assert served.run("await ref.callRemote('say')").stdout == "said\n"
    assert served.run("%pb_stop desk").stdout.startswith("stopped serving Desk as desk")
    assert not os.path.exists(path)


def test_the_path_of_a_unix_socket(served: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "my-desk"
    assert f"unix:{path} " in served.run(f"%pb_serve desk --unix {path}").stdout
    served.run("%pb_stop")
    assert f"unix:{path} " in served.run(f"%pb_serve --unix={path} desk").stdout


# It spells the tokens backwards, or it would find itself.
SEARCH = """\
secrets = [str(each)[::-1] for each in {tokens!r}]
history = repr(list(get_ipython().history_manager.get_range(output=True)))
found = [each for each in secrets if each in history]
print(found)
"""


def test_no_secret_is_in_any_output(new_kernel: Callable[..., Kernel]) -> None:
    """Of whatever a notebook shows by itself, verbose tracebacks and the panel among it."""
    kernel = new_kernel()
    kernel.run("%load_ext pbnb\n%xmode Verbose\nimport logging\nlogging.basicConfig(level=0)")
    kernel.run(DESK)
    cells = [
        "server = %pb_serve desk --host 0.0.0.0 --name lab",
        "server",
        "server.token",
        "server.invitation",
        "server.invitation.reveal()",
        "[server.invitation, {'token': server.token}]",
        "alice = %pb_invite alice --expires 1h",
        "alice",
        "%pb_invite",
        "%pb_invite bob",
        "%pb_invite --show",
        "%pb_invite bob --show",
        "%pb_status",
        "%pb_show",
        "%pb_show server",
        "ref = %pb_connect lab",
        "own = await pb.connect(alice)\nown",
        "own.broker, server.connections, own.broker.snapshot()",
        "server.snapshot()",
        "server.invitations",
        "pb.show(alice)",
        "vars(server)",
        "line = alice.reveal()\nline",
        "%pb_connect {line}",
        "%pb_revoke alice",
        "%pb_connect {line}",
        "%pb_connect {line} --certfile /none.pem",
        "%pb_connect {line} {line}",
        "%pb_connect {line}x,more=1",
        "await pb.connect(line)",
        "await pb.connect(alice.address, token=alice.token, timeout=0.2)",
        "await pb.connect(alice.address + 'x', token=alice.token)",
        "await pb.connect(alice, token=alice.token)",
        "await server.close()\n%pb_status",
    ]
    shown = [(code, seen(kernel.attempt(code))) for code in cells]
    tokens = kernel.run("print(server.token, alice.token)").stdout.split()
    assert len(tokens) == 2 and min(map(len, tokens)) > 40
    for code, text in shown:
        # Nor a part of it that would do.
        assert not [token for token in tokens if token[-30:] in text], code
        assert "PRIVATE KEY" not in text, code
    found = kernel.run(SEARCH.format(tokens=[token[::-1] for token in tokens])).stdout
    assert found == "[]\n"
    # Nor where other users of the machine look.
    with open(f"/proc/{kernel.pid}/cmdline", "rb") as file:
        command = file.read()
    assert not any(token.encode() in command for token in tokens)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (None, "ever"),
        (timedelta(hours=2), "2 hours"),
        (timedelta(hours=1), "60 minutes"),
        (timedelta(days=3), "3 days"),
        (timedelta(seconds=90), "90 seconds"),
        (timedelta(seconds=-1), "0 seconds"),
    ],
)
def test_how_long_one_is_good(left: timedelta | None, said: str) -> None:
    now = datetime.now(UTC)
    row = InvitationRow("a", "Desk", None, None if left is None else now + left, 0)
    assert _left(row, now) == said
