"""Bytes made by hand, sent to each of our ends, and what Twisted made of them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

import pbnb as pb
from tests.support.replay import Stage, differences
from tests.support.scenarios import Root, security
from tests.support.vectors import load

CASES = [
    (side, name, python)
    for side in ("to_server", "to_client")
    for name, case in load("sessions/raw")[side].items()
    for python in ("py3", "py2")
]


Found = dict[str, tuple[Any, Any]]


async def replay(side: str, name: str, python: str, step: int) -> tuple[bool, Found]:
    """Returns whether we closed the connection, and what we said that Twisted did not."""
    recorded = load("sessions/raw")[side][name][python]
    program = "Python 2.7" if python == "py2" else "Python 3.11"
    record = {"server": program, "client": program, "connections": [recorded]}
    stage = Stage(record, "s2c" if side == "to_server" else "c2s", step)
    options = security("raw")
    if side == "to_server":
        stage.open(
            pb.PBServerFactory(Root(stage.native), security=options, dialects=("pb", "none"))
        )
        await stage.run()
        return result(stage)
    client = pb.PBClientFactory(security=options)
    stage.open(client)

    async def play() -> None:
        root = await client.getRootObject()
        await stage.outcome(lambda: root.callRemote("unknown"))
        await stage.outcome(lambda: root.callRemote("echo", 1))

    playing = asyncio.ensure_future(play())
    await stage.run()
    found = result(stage)
    while not playing.done():
        if stage.lines[0].connection.machine.dialect is None:
            playing.cancel()  # there is no root to wait for
        await stage.give_up()
    return found


def result(stage: Stage) -> tuple[bool, Found]:
    (line,) = stage.lines
    return line.connection.error is not None, differences(line, stage.python2)


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Lets each settling collect what a case has made, and look at nothing else."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Where we differ from Twisted, and why. An error is an error whatever its words; what is listed
# is an answer in place of an error or the other way round, and a connection that lives or ends.

LIVES = "Twisted closes the connection; here the one call has a typed error"
STRICT = "Twisted makes something of it, None or an object of its own; here it is refused"
LIMIT = "the peer went over Limits.depth: the message cannot be followed any further"
READS = "a failure is read whether its keys are text or bytes, and without parents too"

DIFFERENT = {
    "unknown_command": "Twisted on Python 3 fails to say didNotUnderstand; here it is said",
    "method_text": LIVES,
    "method_not_utf8": LIVES,
    "method_none": LIVES,
    "args_list": STRICT,
    "args_bare_string": STRICT,
    "local_unknown": STRICT,
    "reference_text_id": STRICT,
    "persistent": STRICT,
    "unpersistable": STRICT,
    "remote_text_id": STRICT,
    "copyablefailure_bytes_keys": READS,
    "deep_2000": LIMIT,
    "error_bytes_state": READS,
    "error_no_parents": READS,
    "error_bare_bytes": READS,
    "answer_insecure": LIVES,
    "answer_cached_unknown": LIVES,
}
met: set[str] = set()


@pytest.mark.parametrize("step", [0, 1], ids=["as recorded", "byte by byte"])
@pytest.mark.parametrize(("side", "name", "python"), CASES, ids=map("-".join, CASES))
def test_raw_case_ends_as_it_did_with_twisted(side: str, name: str, python: str, step: int) -> None:
    check(side, name, python, step)


def check(side: str, name: str, python: str, step: int) -> None:
    closed, found = asyncio.run(replay(side, name, python, step))
    # Before we close a connection we say what we had to say; Twisted drops it.
    found.pop("[b'version', 6]", None)
    unlike = {key: pair for key, pair in found.items() if not both_errors(*pair)}
    if closed != load("sessions/raw")[side][name][python]["closed_by_twisted"] or unlike:
        assert name in DIFFERENT, (closed, unlike)
        met.add(name)


def both_errors(ours: Any, then: Any) -> bool:
    return all(isinstance(each, list) and each[0] == b"error" for each in (ours, then))


def test_no_difference_is_listed_that_is_no_more() -> None:
    if met != DIFFERENT.keys():
        for case in CASES:
            check(*case, 0)
    assert met == DIFFERENT.keys()
