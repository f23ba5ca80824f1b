"""Every recorded scenario, replayed against each of our ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from unittest import mock

import pytest

import pbnb as pb
from pbnb.aio.login import _NoProof
from pbnb.jelly.failures import FAILURE_TAG
from tests.support.plays import PLAYS
from tests.support.replay import Stage, differences, messages, settle
from tests.support.scenarios import RemoteDuck, Root, portal, security
from tests.support.vectors import load, session_names

EXAMPLES = {"pbsimple", "pb1", "pb2", "pb3", "exc_broken", "exc_broken2"}
# Its receiver opens files whose names the peer says, and reads them with everything allowed.
NOT_PORTED = {"publish"}
# Twisted's client fails on text, or looks for a user of that name; ours never sends a name as text.
ONLY_SERVED = {"logintext"}
SESSIONS = [name for name in session_names() if name.split(".")[0] not in EXAMPLES | NOT_PORTED]
ROLES = [
    (session, ours)
    for session in SESSIONS
    for ours in ("s2c", "c2s")
    if ours == "s2c" or session.split(".")[0] not in ONLY_SERVED
]


def server(stage: Stage) -> pb.PBServerFactory:
    """Returns what serves a scenario."""
    scenario = stage.record["name"]
    logs_in = scenario.startswith("login") or scenario == "viewable"
    return pb.PBServerFactory(
        portal(stage.native) if logs_in else Root(stage.native),
        unsafeTracebacks=scenario == "unsafe",
        security=security(scenario),
        legacy_auth=True,
        dialects=("pb", "none"),
    )


def challenges(stage: Stage) -> list[bytes]:
    """Returns the challenges that were sent in a session: its responses answer them."""
    return [
        tree[2][1]
        for recorded in stage.record["connections"]
        for tree in messages(
            b"".join(
                bytes.fromhex(chunk.get("hex", ""))
                for chunk in recorded["chunks"]
                if chunk["dir"] == "s2c"
            )
        )
        if tree[0] == b"answer"
        and isinstance(tree[2], list)
        and tree[2][:1] == [b"tuple"]
        and len(tree[2]) == 3
        and isinstance(tree[2][1], bytes)
        and len(tree[2][1]) == 16
    ]


async def replay(session: str, ours: str, step: int = 0) -> Stage:
    stage = Stage(load(f"sessions/{session}"), ours, step)
    RemoteDuck.native = staticmethod(stage.native)
    if ours == "s2c":
        factory = server(stage)
        for _ in stage.record["connections"]:
            stage.open(factory)
        with mock.patch("pbnb.cred.login.new_challenge", side_effect=challenges(stage)):
            await stage.run()
    else:
        client = pb.PBClientFactory(security=security(stage.record["name"]), legacy_auth=True)
        stage.open(client)

        async def begin() -> None:
            root = await client.getRootObject()
            await PLAYS[stage.record["name"]](stage, root, client)

        playing = asyncio.ensure_future(begin())
        with mock.patch("pbnb.aio.login._with_proof", side_effect=_NoProof):
            await stage.run()
        while not playing.done():
            await stage.give_up()
        await playing
    gc.collect()
    await settle()
    return stage


def run(session: str, ours: str, step: int = 0) -> Stage:
    return asyncio.run(replay(session, ours, step))


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Lets each settling collect what a session has made, and look at nothing else."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Where we differ from Twisted, and why. Each entry must still be met in some session.

LIVES = "Twisted's end closed the connection here; ours answers the call and lives on"
CALLS_ON = "Twisted's client was dead by then; ours has an error for the one call, and calls on"
REFUSES = (
    "what may not be sent is an InsecureJelly; Twisted sends a marker, or what nobody may read"
)
NAMES = "a user's name is found whether it comes as text or as bytes"
UNSENT = "it is refused before it is sent"
WORDS = "the same error in our words"
UNIFIED = "a missing method is a NoSuchMethod whatever its prefix; that is an AttributeError too"
KEYWORDS = "Python 2's keywords reach every kind of method, not only remote_"
EMPTY = "an instance without attributes has an empty dict, which Python 2 can restore"
PARENTS = "parents are names, also of what is no Exception: a class there kills a Twisted peer"
ASKS = "an extra type goes to peers that say they know it; the recording does not answer that"
UNWRAPPED = "a Failure that is returned is the failure of the call"
RELEASES = "the mind is let go with the avatar at once; Twisted's garbage collector came later"

Table = dict[tuple[str, str], dict[str, str]]

DIFFERENT: Table = {
    ("allowed", "s2c"): {"reply 3": EMPTY, "reply 4": EMPTY},
    ("baseexception", "c2s"): {"call 2 echo": CALLS_ON},
    ("baseexception", "s2c"): {"reply 1": PARENTS},
    ("copyable", "s2c"): {"reply 7": REFUSES},
    ("copybad", "c2s"): {"call 2 echo": CALLS_ON},
    ("errorone", "c2s"): {"call 2 echo": CALLS_ON},
    ("errors", "c2s"): {"call 2 unknown": CALLS_ON, "call 18 echo": UNSENT, "call 20 echo": UNSENT},
    ("errors", "s2c"): {
        "reply 10": REFUSES,
        "reply 11": UNWRAPPED,
        "call 1 types": ASKS,
        "reply 12": ASKS,
        "reply 14": WORDS,
        "reply 15": WORDS,
        "reply 18": REFUSES,
        "reply 19": WORDS,
        "reply 20": WORDS,
    },
    ("hugeargs", "c2s"): {"call 3 echo": UNSENT},
    ("hugeargs", "s2c"): {"reply 3": WORDS},
    ("hugeint", "s2c"): {"[b'version', 6]": LIVES, "reply 1": LIVES},
    ("hugeintlater", "s2c"): {"reply 1": LIVES},
    ("hugestring", "s2c"): {"[b'version', 6]": LIVES, "reply 1": LIVES},
    ("login", "c2s"): {"call 8 self": CALLS_ON},
    ("login", "s2c"): {
        "reply 5": KEYWORDS,
        "reply 8": REFUSES,
        "[b'decref', 1]": RELEASES,
        "reply 13": UNIFIED,
    },
    ("loginbad", "c2s"): {"call 3 login": CALLS_ON},
    ("loginbad", "s2c"): {"reply 2": WORDS, "reply 4": WORDS},
    ("logintext", "s2c"): {"reply 2": NAMES, "reply 3": NAMES, "reply 4": NAMES},
    ("maxrefs", "c2s"): {"call 3 newThing": CALLS_ON, "call 6 echo": CALLS_ON},
    ("maxrefs", "s2c"): {f"reply {number}": WORDS for number in range(2, 6)},
    ("relay", "c2s"): {"call 3 relay": CALLS_ON},
    ("relay", "s2c"): {"reply 2": LIVES},
    ("someclass", "c2s"): {"call 2 echo": CALLS_ON},
    ("someclass", "s2c"): {"reply 1": REFUSES},
    ("somefunction", "c2s"): {"call 2 echo": CALLS_ON},
    ("somefunction", "s2c"): {"[b'version', 6]": LIVES, "reply 1": REFUSES},
    ("somemodule", "c2s"): {"call 2 echo": CALLS_ON},
    ("somemodule", "s2c"): {"[b'version', 6]": LIVES, "reply 1": REFUSES},
    ("stateless", "c2s"): {"call 2 echo": CALLS_ON},
    ("thirdparty", "s2c"): {"reply 1": WORDS},
    ("trap", "c2s"): {"call 2 fooMethod": UNSENT, "call 4 shutdown": CALLS_ON},
    ("trap", "s2c"): {"reply 2": REFUSES},
    ("unicodeerror", "s2c"): {"[b'version', 6]": LIVES, "reply 1": LIVES},
    ("unsafe", "c2s"): {"call 2 unknown": CALLS_ON},
    ("viewable", "c2s"): {"call 15 duck": CALLS_ON},
    ("viewable", "s2c"): {"reply 11": KEYWORDS, "reply 14": UNIFIED},
}
met: Table = {}


@pytest.mark.parametrize(("session", "ours"), ROLES, ids=map("-".join, ROLES))
def test_scenario_goes_as_it_went_with_twisted(session: str, ours: str) -> None:
    check(session, ours, 0)


@pytest.mark.parametrize("ours", ["s2c", "c2s"], ids=["our server", "our client"])
@pytest.mark.parametrize("scenario", PLAYS)
def test_scenario_goes_byte_by_byte(scenario: str, ours: str) -> None:
    check(f"{scenario}.py3-server_py3-client", ours, 1)


def check(session: str, ours: str, step: int) -> None:
    if step and any(word in session for word in LONG):
        step = 1021  # half a megabyte in single bytes would take minutes
    stage = run(session, ours, step)
    scenario = session.split(".")[0]
    intended = DIFFERENT.get((scenario, ours), {})
    for line in stage.lines:
        found = differences(line, stage.python2)
        assert found.keys() <= intended.keys(), found
        met.setdefault((scenario, ours), {}).update({key: intended[key] for key in found})
        if not found and not stage.python2 and FAILURE_TAG not in line.written:
            assert sorted(line.written) == sorted(line.sent)
        assert line.connection.error is None
        assert line.connection.machine.pending.keys() <= NEVER_ANSWERED.get(session[:12], set())


LONG = ("pager", "maxrefs", "hugestring")
NEVER_ANSWERED = {"hugeintlater": {1}}  # by Twisted, whose error found no way back


def test_no_difference_is_listed_that_is_no_more() -> None:
    if len(met) < len(DIFFERENT):
        for session, ours in ROLES:
            check(session, ours, 0)
    for at, intended in DIFFERENT.items():
        assert met[at] == intended, at


def test_all_sessions_are_there() -> None:
    names = {name.split(".")[0] for name in session_names()}
    assert {name.split(".")[0] for name in SESSIONS} | EXAMPLES | NOT_PORTED == names
    assert names - EXAMPLES - NOT_PORTED == PLAYS.keys() | ONLY_SERVED
    assert len(SESSIONS) == 4 * len(PLAYS | dict.fromkeys(ONLY_SERVED))
