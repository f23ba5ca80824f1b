from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pbnb.notebook.journal import Journal
from tests.support.kernels import Kernel

LOG = logging.getLogger("pbnb")

FAULTY = r"""
class Faulty(pb.Root):
    def remote_boom(self):
        raise ZeroDivisionError("kaboom \x1b[31m\r\u202e")
    async def remote_later(self):
        await asyncio.sleep(0)
        raise ZeroDivisionError("kaboom")
    def remote_expected(self):
        raise pb.Error("expected")
    def remote_say(self):
        print("said by a method")
%pb_serve Faulty() --name faulty
"""


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    journal.install()
    yield journal
    journal.uninstall()
    assert journal not in LOG.handlers


@contextmanager
def nobody_listening() -> Iterator[None]:
    """Makes it as in a kernel: pytest listens at the root."""
    listening, logging.root.handlers = logging.root.handlers, []
    try:
        yield
    finally:
        logging.root.handlers = listening


def test_what_is_logged_is_shown(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    with nobody_listening():
        LOG.warning("one %s", "word")
        LOG.info("nothing that anybody asked for")
        LOG.getChild("part").error("line\nline")
    assert capsys.readouterr().err == "one word\nline\nline\n"


def test_it_stands_once(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    journal.install()
    with nobody_listening():
        LOG.error("once")
    assert capsys.readouterr().err == "once\n"


def test_control_characters_are_shown_as_escapes(
    journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    with nobody_listening():
        LOG.error("%s", "a\x1b[31mb\rc\x07d\u202ee\x9b")
    assert capsys.readouterr().err == "a\\x1b[31mb\\rc\\x07d\\u202ee\\x9b\n"


def test_ten_megabytes_are_not_shown(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    with nobody_listening():
        LOG.error("x" * 10_000_000)
    assert 10_000 < len(capsys.readouterr().err) < 30_000


@pytest.mark.parametrize("where", ["pbnb", None])
def test_who_configured_logging_gets_it_alone(
    journal: Journal, capsys: pytest.CaptureFixture[str], where: str | None
) -> None:
    class Theirs(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    heard: list[str] = []
    theirs = Theirs()
    with nobody_listening():
        logging.getLogger(where).addHandler(theirs)
        LOG.error("theirs")
        logging.getLogger(where).removeHandler(theirs)
        LOG.error("ours")
    assert heard == ["theirs"]
    assert capsys.readouterr().err == "ours\n"


@pytest.mark.parametrize("method", ["boom", "later"])
def test_an_error_of_a_method_appears_where_it_is_served(
    kernel: Kernel, peer: Kernel, method: str
) -> None:
    serving = kernel.send(FAULTY)
    kernel.wait(serving)
    peer.run("ref = %pb_connect faulty")
    failed = peer.attempt(f"await ref.callRemote({method!r})")
    assert failed.ename == "ZeroDivisionError"
    cell = kernel.wait_until(serving, lambda cell: "ZeroDivisionError: kaboom" in cell.stderr)
    assert cell.stderr.startswith("Peer will receive following PB traceback:\nTraceback ")
    assert f"remote_{method}" in cell.stderr
    assert not set(cell.stderr) & set("\x1b\r\u202e")
    assert cell.stderr.count("Peer will receive") == 1


def test_an_expected_error_does_not_appear(kernel: Kernel, peer: Kernel) -> None:
    serving = kernel.send(FAULTY)
    kernel.wait(serving)
    peer.run("ref = %pb_connect faulty")
    failed = peer.attempt("await ref.callRemote('expected')")
    assert (failed.ename, failed.evalue) == ("Error", "expected")
    peer.run("await ref.callRemote('say')")
    # What is printed comes in order: it would stand before this.
    cell = kernel.wait_until(serving, lambda cell: "said by a method" in cell.stdout)
    assert cell.stderr == ""
