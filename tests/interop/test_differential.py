"""Twisted's codec and ours, given the same bytes: what one takes the other takes, as the same.

Values go out with our `jelly`, and both read them back. Expressions that nobody would write are
read by both too; there we refuse more than Twisted does, for the reasons that `STRICTER` lists.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import pbnb as pb
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.wire.banana import NEED_DATA, Decoder, encode
from tests.interop.codec_shape import shape

WORDLESS = None  # Twisted's banana.encode and banana.decode speak the dialect without vocabulary


class Codec:
    """The process in which Twisted reads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self, what: str, data: bytes) -> dict[str, Any]:
        """Returns what Twisted says of some bytes: a ``value``, or an ``error``."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{what} {data.hex() or '00'}\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        assert isinstance(said, dict)
        return said


@pytest.fixture(scope="module")
def twisted() -> Iterator[Codec]:
    script = Path(__file__).with_name("twisted_codec.py")
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], **pipes) as process:
        yield Codec(process)
        assert process.stdin is not None
        process.stdin.close()


def expressions(data: bytes) -> list[Any]:
    decoder = Decoder(pb.Limits(), WORDLESS)
    decoder.feed(data)
    found = []
    while (tree := decoder.next()) is not NEED_DATA:
        found.append(tree)
    return found


def read_as_we_do(what: str, data: bytes) -> dict[str, Any]:
    options = SecurityOptions()
    options.allowBasicTypes()
    try:
        trees = expressions(data)
        value = trees if what == "banana" else unjelly(trees[0], security=options)
        return {"value": json.loads(json.dumps(shape(value)))}
    except (pb.InsecureJelly, pb.ProtocolError, pb.BananaError) as error:
        return {"error": str(error)}


# Values

numbers = st.integers(-(2**448) + 1, 2**448 - 1) | st.floats(allow_nan=False)
texts = st.text(max_size=20)
keys = st.none() | st.booleans() | numbers | texts | st.binary(max_size=20)
atoms = (
    keys
    | st.dates()
    | st.times().map(lambda time: time.replace(fold=0))  # which PB has no place for
    | st.datetimes(min_value=datetime.datetime(1000, 1, 1)).map(lambda time: time.replace(fold=0))
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: d + 0)
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
        | st.lists(inner, max_size=3).map(lambda items: [items, items, (items,)])
    ),
    max_leaves=12,
)
QUICKLY = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


@given(value=values)
@QUICKLY
def test_what_we_send_both_read_as_the_same(twisted: Codec, value: Any) -> None:
    data = encode(jelly(value), WORDLESS)
    ours = read_as_we_do("jelly", data)
    assert ours == {"value": json.loads(json.dumps(shape(value)))}
    assert ours == twisted.read("jelly", data)


# Expressions

# What Twisted lets in and we refuse, by a word of our reason.
STRICTER = {
    "malformed": "an expression has its arity and types; Twisted ignores what it does not read",
    "numbers of objects count from 1": "Twisted takes anything hashable for a number",
    "which has no reference": "Twisted hands out its own placeholder for what never came",
    "refers to itself": "the same",
    "could not send a value": "an unpersistable is refused, as PB's documents promise",
    "persistent": "without a persistentLoad there is nothing to load; Twisted makes a marker",
}
# What we let in and Twisted refuses.
MORE = {
    "I am not to be used as a dictionary key": "a key whose reference comes later in the message",
}

tags = st.sampled_from(
    b"None boolean unicode list tuple set frozenset dictionary date time timedelta decimal "
    b"reference dereference unpersistable persistent nosuch".split()
)
leaves = st.integers(-3, 3) | st.sampled_from([b"", b"true", b"false", b"x", b"1 2 3", b"\xff"])
trees: Any = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda tag, items: [tag, *items], tags, st.lists(inner, max_size=3))
        | st.builds(lambda n, x: [b"reference", n, x], st.integers(1, 3), inner)
        | st.integers(1, 3).map(lambda n: [b"dereference", n])
        | st.builds(lambda a, b: [b"dictionary", [a, b]], inner, inner)
        | st.builds(lambda items: [b"list", *items], st.lists(inner, max_size=4))
    ),
    max_leaves=10,
)


@given(tree=trees)
@QUICKLY
def test_expressions_that_nobody_writes(twisted: Codec, tree: Any) -> None:
    data = encode(tree, WORDLESS)
    ours, theirs = read_as_we_do("jelly", data), twisted.read("jelly", data)
    if "error" in ours and "error" in theirs:
        return
    if "_Dereference" in str(theirs):
        assert "error" in ours, tree  # its placeholder, which no user should ever see
    elif "error" in ours:
        assert any(word in ours["error"] for word in STRICTER), (tree, ours, theirs)
    elif "error" in theirs:
        assert any(word in theirs["error"] for word in MORE), (tree, ours, theirs)
    else:
        assert ours == theirs, tree


# Bytes


@given(data=st.binary(min_size=1, max_size=24) | st.lists(trees).map(lambda t: encode(t, WORDLESS)))
@QUICKLY
def test_bytes_that_nobody_writes(twisted: Codec, data: bytes) -> None:
    ours, theirs = read_as_we_do("banana", data), twisted.read("banana", data)
    assert ours == theirs or ("error" in ours and "error" in theirs)
