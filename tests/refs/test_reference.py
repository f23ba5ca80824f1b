"""References: what they ask of their connection, and which of them are one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pbnb.refs import RemoteReference


class FakePeer:
    peer = "127.0.0.1:8787"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def call(self, ref: RemoteReference, name: str, args: Any, kw: Any) -> Any:
        self.asked.append(("call", ref, name, args, kw))
        return "a Deferred"

    def call_only(self, ref: RemoteReference, name: str, args: Any, kw: Any) -> None:
        self.asked.append(("call_only", ref, name, args, kw))

    def watch(self, ref: RemoteReference, callback: Callable[..., object]) -> None:
        self.asked.append(("watch", ref, callback))

    def unwatch(self, ref: RemoteReference, callback: Callable[..., object]) -> None:
        self.asked.append(("unwatch", ref, callback))

    def gone(self, luid: int) -> None:
        self.asked.append(("gone", luid))


@pytest.fixture
def peer() -> FakePeer:
    return FakePeer()


@pytest.mark.parametrize("name", ["echo", b"echo"])
def test_a_call_goes_to_the_connection(peer: FakePeer, name: Any) -> None:
    ref = RemoteReference(peer, 1)
    assert ref.callRemote(name, 1, b"two", three=3) == "a Deferred"
    assert ref.remote_only(name, 4) is None  # type: ignore[func-returns-value]
    assert peer.asked == [
        ("call", ref, "echo", (1, b"two"), {"three": 3}),
        ("call_only", ref, "echo", (4,), {}),
    ]


def test_every_keyword_is_the_user_s(peer: FakePeer) -> None:
    ref = RemoteReference(peer, 1)
    kw = {"self": 1, "name": 2, "_name": 3, "pbanswer": 0, "pbcallback": 5, "pberrback": 6}
    ref.callRemote("echo", **kw)
    ref.remote_only("echo", **kw)
    ref.remoteMethod("echo")(**{key: kw[key] for key in kw if key != "self"})
    assert [asked[4] for asked in peer.asked[:2]] == [kw, kw]
    assert "_name" in peer.asked[2][4]


def test_a_method_is_something_to_call(peer: FakePeer) -> None:
    ref = RemoteReference(peer, 1)
    method = ref.remoteMethod("echo")
    assert method(1, two=2) == "a Deferred"
    assert peer.asked == [("call", ref, "echo", (1,), {"two": 2})]
    assert method == RemoteReference(peer, 1).remoteMethod("echo")
    assert hash(method) == hash(RemoteReference(peer, 1).remoteMethod("echo"))
    assert method != ref.remoteMethod("other")
    assert method != RemoteReference(peer, 2).remoteMethod("echo")
    assert method != "echo"
    assert "echo" in repr(method) and repr(ref) in repr(method)


def test_watching_goes_to_the_connection(peer: FakePeer) -> None:
    ref, callback = RemoteReference(peer, 1), [].append
    ref.notifyOnDisconnect(callback)
    ref.dontNotifyOnDisconnect(callback)
    assert peer.asked == [("watch", ref, callback), ("unwatch", ref, callback)]


def test_references_to_one_object_over_one_connection_are_equal(peer: FakePeer) -> None:
    ref = RemoteReference(peer, 1)
    assert ref == RemoteReference(peer, 1, perspective=object())
    assert hash(ref) == hash(RemoteReference(peer, 1, perspective=object()))
    assert ref != RemoteReference(peer, 2)
    assert ref != RemoteReference(FakePeer(), 1)
    assert ref != 1
    root = RemoteReference(peer, b"root")
    assert {root: 1}[RemoteReference(peer, b"root")] == 1


def test_the_repr_says_what_and_where(peer: FakePeer) -> None:
    assert repr(RemoteReference(peer, 7)) == "<RemoteReference 7 at 127.0.0.1:8787>"
    assert repr(RemoteReference(peer, b"root")) == "<RemoteReference root at 127.0.0.1:8787>"


def test_a_card_of_a_reference_asks_nobody() -> None:
    class Silent:
        peer = "<b>127.0.0.1:1"

        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    peer: Any = Silent()
    made = RemoteReference(peer, 5)._repr_html_()
    assert "RemoteReference" in made and "&lt;b&gt;127.0.0.1:1" in made and "ended" not in made
    peer.lost = True
    assert "ended" in RemoteReference(peer, b"<root>")._repr_html_()
