"""The companion's side: what it sends, and that it dies with its parent."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from jupyter_client.session import Session

from pbnb.notebook.companion import RICH, TAIL, TEXT, BoundedSession, left_out

PARENT = {"msg_id": "cell", "username": "u", "session": "s", "msg_type": "execute_request"}


class Sent:
    """A socket that keeps what is sent, unpacked."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def send_multipart(self, parts: list[bytes], copy: bool = True) -> None:
        # Delimiter, signature, header, parent, metadata, content.
        start = parts.index(b"<IDS|MSG>")
        header, content = json.loads(parts[start + 2]), json.loads(parts[start + 5])
        self.messages.append((header["msg_type"], content))

    def text(self) -> str:
        return "".join(content["text"] for kind, content in self.messages if kind == "stream")


@pytest.fixture
def session() -> Session:
    return BoundedSession(key=b"secret")


def print_to(session: Session, sent: Sent, text: str, cell: str = "cell") -> None:
    message = session.msg("stream", {"name": "stdout", "text": text}, parent={"msg_id": cell})
    session.send(sent, message, ident=b"stream.stdout")


def end(session: Session, sent: Sent) -> None:
    session.send(sent, "status", {"execution_state": "idle"}, PARENT)


def test_what_fits_is_sent_as_it_is(session: Session) -> None:
    sent = Sent()
    print_to(session, sent, "x" * TEXT)
    end(session, sent)
    assert [kind for kind, _ in sent.messages] == ["stream", "status"]
    assert sent.text() == "x" * TEXT


def test_of_more_the_beginning_and_the_end_are_sent(session: Session) -> None:
    sent = Sent()
    for _ in range(10):
        print_to(session, sent, "x" * TEXT)
    print_to(session, sent, "end")
    assert sent.text() == "x" * TEXT
    end(session, sent)
    assert sent.messages[-1][0] == "status"
    rest = "x" * (TAIL - 3) + "end"
    assert sent.text() == "x" * TEXT + left_out(9 * TEXT + 3 - TAIL) + rest


def test_a_little_too_much_is_sent_whole(session: Session) -> None:
    sent = Sent()
    print_to(session, sent, "x" * TEXT + "y" * TAIL)
    end(session, sent)
    assert sent.text() == "x" * TEXT + "y" * TAIL


def test_every_request_and_every_cell_has_its_own_budget(session: Session) -> None:
    sent = Sent()
    print_to(session, sent, "x" * 2 * TEXT)
    print_to(session, sent, "other", "another cell")
    end(session, sent)
    print_to(session, sent, "again")
    assert sent.text().endswith("again")
    assert "other" in sent.text()


def test_large_displays_are_left_out_and_counted(session: Session) -> None:
    sent = Sent()
    for size in (10, RICH, 10):
        content = {"data": {"image/png": "x" * size}, "metadata": {}}
        session.send(sent, session.msg("display_data", content, parent=PARENT))
    end(session, sent)
    kinds = [kind for kind, _ in sent.messages]
    assert kinds == ["display_data", "display_data", "stream", "status"]
    assert sent.messages[2][1] == {"name": "stderr", "text": left_out(1, "displays")}


def test_long_results_and_errors_are_cut(session: Session) -> None:
    sent = Sent()
    content: dict[str, Any] = {"data": {"text/plain": "x" * 10 * TEXT}, "metadata": {}}
    session.send(sent, session.msg("execute_result", content, parent=PARENT))
    error = {"ename": "E", "evalue": "v" * 10 * TEXT, "traceback": ["t" * 10 * TEXT, "end"]}
    session.send(sent, "error", dict(error), PARENT)
    session.send(sent, "execute_reply", {"status": "error", **error}, PARENT, ident=[b"x"])
    result, shown, reply = (content for _, content in sent.messages)
    assert result["data"]["text/plain"].count("x") == TEXT
    for content in (shown, reply):
        assert content["evalue"].count("v") == TAIL
        assert content["traceback"][-1] == "end"
        assert "".join(content["traceback"]).count("t") <= TEXT + len("characters left out")
    assert reply["status"] == "error"


def test_messages_of_widgets_stay_there(session: Session) -> None:
    sent = Sent()
    session.send(sent, "comm_open", {"comm_id": "c", "data": {}}, PARENT)
    assert sent.messages == []


def test_it_does_not_outlive_a_parent_that_is_gone_already() -> None:
    code = "from pbnb.notebook.companion import die_with; die_with(1); print('lives')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")
