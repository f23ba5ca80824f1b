"""Coverage-guided fuzzing with atheris: of banana, jelly, both ends of a broker, and the login.

::

    pip install atheris
    python -m tests.attacks.fuzz TARGET [directory for the corpus] [options of libFuzzer]

A target is one of ``TARGETS``. Each begins with the recorded sessions, or with expressions that
Twisted has written. What it finds is added to ``FOUND`` in test_fuzz.py. Without atheris,
``python -m tests.attacks.fuzz TARGET --plain SECONDS`` changes the same beginnings at random.

The first byte of an input says how the others are split: into so many bytes each, or not at all.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import logging
import random
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

import pbnb as pb
from pbnb.cred import LoginRoot, Portal, Salts, Session
from pbnb.cred import scram as proofs
from pbnb.cred.challenge import respond
from pbnb.failure import Failure
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.protocol.broker import Broker
from pbnb.protocol.dialects import DIALECTS
from pbnb.protocol.events import AnswerReceived, CallReceived, ConnectionBroken, ErrorReceived
from pbnb.refs import Refs, RemoteReference
from pbnb.wire.banana import NEED_DATA, Decoder, decode, encode
from pbnb.wire.frames import Expression, FrameDialect
from tests.support.meanings import meanings

VECTORS = Path(__file__).parent.parent / "vectors"
LIMITS = pb.Limits(message_bytes=100_000, message_items=10_000)

WHOLE = b"\0"  # as the first byte of an input: do not split it
VERSION = encode([b"version", 6])
OPENED = encode(b"pb", None) + VERSION
FRAMES = encode(b"pbnb1", None)


class Desk(pb.Root):
    def remote_echo(self, *args: Any, **kw: Any) -> Any:
        return args[0] if args else None


class Nobody:
    """The peer that borrowed references call through."""

    peer = "nobody"

    def call(self, *args: Any) -> None:
        raise AssertionError("a fuzzer is not called")

    call_only = watch = unwatch = call

    def gone(self, luid: int) -> None:
        """Takes no note."""


def broker(
    guarded: bool = False,
    listening: bool = True,
    root: Any = None,
    dialects: tuple[str, ...] = ("pb", "none"),
    security: SecurityOptions | None = None,
) -> Broker:
    nobody = Nobody()
    machine = Broker(
        nobody,  # type: ignore[arg-type]
        listening=listening,
        root=root or Desk(),
        guarded=guarded,
        limits=LIMITS,
        dialects=dialects,
        security=security,
    )
    nobody.gone = machine.refs.gone  # type: ignore[method-assign]
    return machine


def feed(machine: Broker, data: bytes, answers: bool = False) -> None:
    """Does with bytes what a connection does.

    Args:
        machine: The broker.
        data: What the peer has said.
        answers: Whether the peer may answer anything.
    """
    machine.receive_data(data)
    while (event := machine.next_event()) is not None:
        if isinstance(event, CallReceived):
            try:
                value = event.target.find_remote(event.name)(*event.args, **event.kw)
                if inspect.iscoroutine(value):
                    value = run(value)
            except Exception as error:
                machine.fail(event.request_id, Failure.of(error))
            else:
                if isinstance(value, Session):
                    machine.admit_peer()
                    value = value.avatar
                machine.answer(event.request_id, value, event.perspective)
        elif isinstance(event, ConnectionBroken):
            assert isinstance(event.error, pb.ProtocolError)
            assert len(str(event.error)) < 1000
        else:
            assert answers or not isinstance(event, (AnswerReceived, ErrorReceived))


def run(coroutine: Any) -> Any:
    """Returns what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("nothing here waits")


def end(machine: Broker) -> None:
    machine.close()
    assert not machine.pending and not list(machine.refs.lent())
    assert not machine.data_to_send()


def parts(data: bytes) -> list[bytes]:
    """Splits an input as its first byte says."""
    size, data = data[0] if data else 0, data[1:]
    if not size:
        return [data]
    return [data[at : at + size] for at in range(0, len(data), size)]


# The targets: each takes any bytes and raises where they have done harm.


def read(pieces: list[bytes]) -> tuple[list[Any], str]:
    """Returns the trees of a stream of banana, and how it ended."""
    decoder, found = Decoder(LIMITS), []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (tree := decoder.next()) is not NEED_DATA:
                found.append(tree)
    except pb.ProtocolError as error:
        return found, type(error).__name__
    return found, "open"


def banana(data: bytes) -> None:
    """Reads the same in whatever pieces, and what it writes of it is read as the same."""
    trees, ended = read([data[1:]])
    in_pieces, ended_so = read(parts(data))
    # As bytes, because NaN is not equal to itself.
    written = [encode(tree, limits=LIMITS) for tree in trees]
    assert (written, ended) == ([encode(tree, limits=LIMITS) for tree in in_pieces], ended_so)
    for each in written:
        assert encode(decode(each, limits=LIMITS), limits=LIMITS) == each


def objects(data: bytes) -> None:
    """Refuses, or makes objects that are written and read again as the same."""
    for tree in read([data[1:]])[0]:
        refs = Refs(Nobody(), 100, lambda: None)  # type: ignore[arg-type]
        try:
            made = unjelly(tree, refs, limits=LIMITS)
        except (pb.InsecureJelly, pb.LimitExceeded):
            continue
        try:
            written = encode(jelly(made, refs.loan(), limits=LIMITS), limits=LIMITS)
        except (pb.InsecureJelly, pb.BananaError):
            continue  # a failure, a copy: what comes in may not all go out
        # A set has no order, a failure is counted, and a reference is another one's over there.
        if any(word in written for word in (b"set", b"CopyableFailure", b"\x10\x87", b"\x11\x87")):
            continue
        again = unjelly(decode(written, limits=LIMITS), refs, limits=LIMITS)
        assert encode(jelly(again, refs.loan(), limits=LIMITS), limits=LIMITS) == written


def server(data: bytes) -> None:
    """A client says anything."""
    machine = broker()
    for piece in parts(data):
        feed(machine, piece)
    end(machine)


def client(data: bytes) -> None:
    """A server says anything, and answers anything to three calls."""
    machine = broker(listening=False)
    feed(machine, encode([b"pb", b"none"], None))
    for value in (1, "text", Desk()):
        ref = RemoteReference(machine, b"root")  # type: ignore[arg-type]
        machine.call(ref, "echo", (value,), {})
    for piece in parts(data):
        feed(machine, piece, answers=True)
    end(machine)


def frames(data: bytes) -> None:
    """A pbnb client says anything in frames; the dialect reads them the same in pieces."""
    machine = broker(dialects=("pbnb1", "pb"))
    feed(machine, FRAMES)
    for piece in parts(data):
        feed(machine, piece)
    end(machine)
    assert read_frames([data[1:]]) == read_frames(parts(data))


def read_frames(pieces: list[bytes]) -> tuple[list[str], str]:
    """Returns the messages of a stream of frames, and how it ended."""
    dialect, found = FrameDialect(LIMITS), []
    try:
        for piece in pieces:
            dialect.feed(piece)
            while (tree := dialect.next()) is not NEED_DATA:
                found.append(shown(tree))
    except pb.ProtocolError as error:
        return found, type(error).__name__
    return found, "open"


def shown(value: Any) -> str:
    """Returns a message as text, without the addresses of what it holds."""
    if type(value) is list:
        return f"[{', '.join(map(shown, value))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{key!r}: {shown(each)}' for key, each in value.items())}}}"
    if isinstance(value, memoryview):
        return f"memory of {bytes(value)!r}"
    return f"expression {shown(value.tree)}" if isinstance(value, Expression) else repr(value)


class Avatar(pb.Avatar):
    def perspective_echo(self, value: Any) -> Any:
        return value


USER, PASSWORD, CHANNEL = b"alice", b"secret", "127.0.0.1:8787"
SALTS = Salts(b"server")


def constant(count: int | None = None) -> bytes:
    """Stands for chance, so that a recorded login is good again."""
    return b"\x07" * (count or 32)


def proof(client_nonce: bytes = bytes(32)) -> bytes:
    """Returns the one proof that the server takes."""
    salt = SALTS.of(USER)
    keys = proofs.derive(PASSWORD, salt, proofs.ROUNDS)
    said = proofs.transcript(USER, client_nonce, constant(), salt, proofs.ROUNDS, CHANNEL.encode())
    return proofs.client_proof(keys, said)


RESPONSE = respond(constant(16), PASSWORD)


def login(data: bytes) -> None:
    """Says anything to a server that asks for a login: nobody is let in without a secret."""
    admitted: list[Any] = []

    def realm(avatar_id: Any, mind: Any) -> Avatar:
        admitted.append(avatar_id)
        return Avatar()

    with mock.patch.object(secrets, "token_bytes", constant):
        portal = Portal(realm, [pb.PasswordChecker({USER.decode(): PASSWORD})])
        root = LoginRoot(portal, SALTS, CHANNEL, legacy_auth=True, advice="log in")
        machine = broker(guarded=True, root=root)
        for piece in parts(data):
            feed(machine, piece)
    if admitted:
        # A proof is good for one nonce of the client's: whoever sends another knows the secret.
        assert RESPONSE in data or PROOF in data, admitted
        assert set(admitted) == {"alice"}
    end(machine)


PROOF = proof()


def plain_values(data: bytes) -> None:
    """Reads in one pass what banana and jelly read in two, in whatever pieces."""
    pieces = parts(data)
    assert meanings(DIALECTS[b"pb"](LIMITS), pieces) == meanings(Decoder(LIMITS), pieces)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "banana": banana,
    "jelly": objects,
    "server": server,
    "client": client,
    "login": login,
    "frames": frames,
    "plain": plain_values,
}


# Where fuzzing begins.


def recorded(direction: str = "c2s") -> list[bytes]:
    """Returns what one side said in the recorded sessions."""
    found = []
    for path in sorted((VECTORS / "sessions").glob("*.json")):
        for connection in json.loads(path.read_text()).get("connections", []):
            chunks = [
                bytes.fromhex(c["hex"])
                for c in connection["chunks"]
                if c["dir"] == direction and "hex" in c
            ]
            found.append(b"".join(chunks))
    return [each for each in found if each]


RECORDED = recorded()


def message(number: int, obj: Any, name: bytes, *args: Any) -> bytes:
    return encode([b"message", number, obj, name, 1, [b"tuple", *args], [b"dictionary"]])


def begin(target: str) -> list[bytes]:
    """Returns the inputs that fuzzing of a target begins with."""
    if target in ("banana", "jelly"):
        vectors = json.loads((VECTORS / "jelly.json").read_text())["jelly"]
        written = [
            bytes.fromhex(peer["banana_pb"])
            for vector in vectors
            for peer in [vector.get("same", vector.get("py3", {})).get("any", {})]
            if "banana_pb" in peer
        ]
        trees = [tree for said in RECORDED for tree in read([said[len(OPENED) - 4 :]])[0]]
        inputs = written + [encode(tree) for tree in trees if len(encode(tree)) < 4096]
    elif target == "client":
        greeting = len(encode([b"pb", b"none"], None))
        inputs = [said[greeting:] for said in recorded("s2c")]
    elif target == "login":
        channel = [b"unicode", CHANNEL.encode()]
        echo = message(4, 3, b"echo", b"x")
        inputs = [
            OPENED
            + message(1, b"root", b"login_scram", USER, bytes(32))
            + message(2, 1, b"prove", PROOF, channel)
            + message(3, 2, b"enter", [b"None"])
            + echo,
            OPENED + message(1, b"root", b"login", USER) + message(2, 1, b"respond", RESPONSE),
            OPENED + message(1, b"root", b"loginAnonymous", [b"remote", 1]) + echo,
        ]
    elif target == "frames":
        vectors = json.loads((VECTORS / "frames.json").read_text())
        inputs = [bytes.fromhex(vector["hex"]) for vector in vectors]
        inputs += [in_frames(read([said[4:]])[0]) for said in RECORDED]
    elif target == "plain":
        value = [None, True, {"key": [1, 2.5, "x" * 131], b"k": (2**40, -1)}, b"tuple", "tuple"]
        calls = [
            message(200, obj, b"echo", jelly(value), 1, [b"unicode", b"x"]) for obj in (b"root", 7)
        ]
        answers = [
            encode([b"answer", 7, each])
            for each in (jelly(value), [b"remote", 5], [b"unicode", b"x"])
        ]
        inputs = [*calls, *answers, encode([b"decref", 5]), b"".join(calls + answers), *RECORDED]
    else:
        inputs = RECORDED
    unique = dict.fromkeys(WHOLE + each for each in inputs)
    return [*unique, *(b"\1" + each[1:] for each in list(unique)[:20])]


def in_frames(trees: list[Any]) -> bytes:
    """Returns messages of PB's as frames, in so far as frames hold them."""
    dialect, out = FrameDialect(LIMITS), []
    for tree in trees:
        if type(tree) is list:
            message = [Expression(each) if type(each) is list else each for each in tree]
            out += dialect.encode(message)
        while dialect.sending:
            out += dialect.pieces()
    return b"".join(map(bytes, out))


def plain(target: str, seconds: float, seed: int = 0) -> int:
    """Changes what a target begins with at random; returns how many were tried.

    Args:
        target: Its name.
        seconds: How long, for ten at least.
        seed: Where chance begins.
    """
    one, inputs = TARGETS[target], begin(target)
    chance, tried, until = random.Random(seed), 0, time.monotonic() + seconds
    # However busy the machine is.
    while tried < 10 or time.monotonic() < until:
        said = bytearray(chance.choice(inputs))
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(said) + 1)
            if chance.random() < 0.3:
                other = chance.choice(inputs)
                start = chance.randrange(len(other))
                said[place:place] = other[start : start + chance.randint(1, 60)]
            else:
                said[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        try:
            one(bytes(said))
        except Exception:
            print(f"found: {target!r}, bytes.fromhex({said.hex()!r})")
            raise
        tried += 1
    return tried


def main() -> None:
    target, *rest = sys.argv[1:] or ["server"]
    logging.disable()
    if rest[:1] == ["--plain"]:
        print(plain(target, float(rest[1]), int(rest[2]) if rest[2:] else 0), "tried")
        return
    import atheris

    corpus = Path(rest[0] if rest else f"corpus-{target}")
    corpus.mkdir(exist_ok=True)
    for said in begin(target):
        (corpus / hashlib.sha1(said).hexdigest()).write_bytes(said)
    # Of ours alone: instrumenting everything that is imported takes a minute.
    for found in gc.get_objects():
        if isinstance(found, FunctionType) and found.__module__.startswith("pbnb."):
            atheris.instrument_func(found)
    atheris.Setup([sys.argv[0], str(corpus), *rest[1:]], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
