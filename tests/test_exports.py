"""The public names: adding or taking away one is a decision, made here too."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import pbnb
from tests.support.processes import ran

PUBLIC = {
    # serving and connecting
    *("serve", "Server", "connect", "Connection", "parse_address", "Limits"),
    *("keep", "KeptReference", "Backoff"),
    *("PBServerFactory", "PBClientFactory"),
    *("load_ipython_extension", "unload_ipython_extension"),
    # objects and references
    *("Root", "Referenceable", "RemoteReference", "RemoteMethod", "Serializable"),
    *("Copyable", "RemoteCopy", "Cacheable", "RemoteCache", "Jellyable", "Unjellyable"),
    *("Viewable", "ViewPoint", "Avatar", "AsReferenceable"),
    *("setUnjellyableForClass", "setUnjellyableFactoryForClass", "setUnjellyableForClassTree"),
    *("setCopierForClass", "setFactoryForClass", "setCopierForClassTree"),
    # logging in
    *("Portal", "checkers", "PasswordChecker", "AllowAnonymousAccess", "IPerspective"),
    *("UsernamePassword", "Anonymous", "Invitation"),
    # long values, and objects of this process in a reference's place
    *("Pager", "StringPager", "FilePager", "CallbackPageCollector", "getAllPages"),
    *("Stream",),
    *("LocalAsRemote", "LocalMethod", "LocalAsyncForwarder"),
    # results
    *("Deferred", "Failure", "CopiedFailure"),
    # errors
    *("deadline", "DeadlineExceeded", "PeerBusy"),
    *("Error", "RemoteError", "NoSuchMethod", "PBConnectionLost"),
    *("ConnectError", "ConnectTimeout", "LoginFailed", "Unauthorized", "UnauthorizedLogin"),
    *("ProtocolError", "DeadReferenceError", "LocalProtocolError", "RemoteProtocolError"),
    *("LimitExceeded", "BananaError", "InsecureJelly"),
    # looking at it
    *("show", "bind", "view"),
    # the wire
    *("banana", "jelly", "SecurityOptions", "global_security"),
}


def test_these_names_are_public() -> None:
    assert set(pbnb.__all__) == PUBLIC
    assert sorted(pbnb.__all__) == list(pbnb.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_says_what_it_is(name: str) -> None:
    text = inspect.getdoc(getattr(pbnb, name))
    assert text and text.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (pbnb.banana, ["encode", "decode"]),
        (pbnb.jelly, ["jelly", "unjelly", "SecurityOptions", "InsecureJelly"]),
    ],
)
def test_the_codecs_are_public_modules(module: ModuleType, names: list[str]) -> None:
    for name in names:
        assert name in module.__all__
        assert callable(getattr(module, name))


def test_importing_pbnb_brings_no_notebook_along() -> None:
    program = (
        "import sys, pbnb; "
        "unwanted = {'IPython', 'ipykernel', 'traitlets', 'twisted', 'pickle', 'cryptography'}; "
        "print(*unwanted & set(sys.modules))"
    )
    assert ran(program) == ("\n", "")
