"""Every exception of pbnb, and the names by which they travel.

::

    Exception
    ├── Error                       expected: raised by a remote method for its caller
    │   └── PeerBusy                too many calls run and wait at the peer
    ├── DeadlineExceeded (TimeoutError)     a call was not answered in time
    ├── RemoteError                 what ``await`` raises for a failure of the peer (in failure.py)
    ├── PBConnectionLost            the connection ended while a call was pending
    ├── InsecureJelly               a value may not be sent, or may not be received
    ├── BananaError                 a value does not fit the wire
    ├── NoSuchMethod (AttributeError)
    ├── ProtocolError               the protocol does not allow this
    │   ├── DeadReferenceError      the reference's connection has ended
    │   ├── LocalProtocolError      this side asked for something impossible
    │   └── RemoteProtocolError     the peer broke the protocol
    │       └── LimitExceeded       the peer went over a budget (pbnb.Limits)
    ├── LoginFailed
    │   └── UnauthorizedLogin       (also an Unauthorized)
    └── ConnectError (ConnectionError)      no connection was made
        └── ConnectTimeout (TimeoutError)

Classes that Twisted's peers know travel under Twisted's names, so that a Twisted program
traps ``twisted.spread.pb.Error`` where a pbnb program raised `Error`. Their bases are the
same as there, because the names of all bases travel with a failure.
"""

from __future__ import annotations

import builtins
from weakref import WeakValueDictionary

__all__ = [
    "BananaError",
    "ConnectError",
    "ConnectTimeout",
    "DeadReferenceError",
    "DeadlineExceeded",
    "Error",
    "InsecureJelly",
    "LimitExceeded",
    "LocalProtocolError",
    "LoginFailed",
    "NoSuchMethod",
    "PBConnectionLost",
    "PeerBusy",
    "ProtocolError",
    "RemoteProtocolError",
    "Unauthorized",
    "UnauthorizedLogin",
    "local_class",
    "wire_name",
]

# Every live subclass of Error by its qualified name; a later one of that name takes its place.
_defined_here: WeakValueDictionary[str, type[Error]] = WeakValueDictionary()


class Error(Exception):
    """An expected error: a remote method raises it, and its caller handles it.

    Subclass it for the errors that belong to an interface. They travel to the caller without
    being logged where they were raised.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        _defined_here[f"{cls.__module__}.{cls.__name__}"] = cls


class PeerBusy(Error):
    """The peer runs and keeps waiting as many calls of this side as its `Limits` allow."""


class DeadlineExceeded(TimeoutError):
    """A call was not answered in the time that it had; the text names the method and the peer."""


class PBConnectionLost(Exception):
    """The connection ended while a call was waiting for its answer."""


class InsecureJelly(Exception):
    """A value was refused: it may not leave this process, or may not enter it."""


class BananaError(Exception):
    """A value does not fit the wire: too long, too large or of no type it has."""


class NoSuchMethod(AttributeError):
    """The object has no remote method of that name."""


class ProtocolError(Exception):
    """The protocol does not allow what was asked for or received."""


class DeadReferenceError(ProtocolError):
    """The connection that this reference belongs to has ended."""


class LocalProtocolError(ProtocolError):
    """This side asked for something that the protocol cannot do."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""


class LimitExceeded(RemoteProtocolError):
    """The peer sent more than this side's `Limits` allow."""


class Unauthorized(Exception):
    """Access was refused."""


class LoginFailed(Exception):
    """A login did not succeed."""


class UnauthorizedLogin(LoginFailed, Unauthorized):
    """A login was refused; which part of it was wrong is not said."""


class ConnectError(ConnectionError):
    """No connection was made; the text says to where and why."""


class ConnectTimeout(ConnectError, TimeoutError):
    """No connection was made within the time allowed."""


# What each class is called on the wire: the names under which Twisted's peers trap them.
_TWISTED_NAMES: dict[type[Exception], str] = {
    Error: "twisted.spread.pb.Error",
    PBConnectionLost: "twisted.spread.pb.PBConnectionLost",
    ProtocolError: "twisted.spread.pb.ProtocolError",
    DeadReferenceError: "twisted.spread.pb.DeadReferenceError",
    NoSuchMethod: "twisted.spread.flavors.NoSuchMethod",
    InsecureJelly: "twisted.spread.jelly.InsecureJelly",
    BananaError: "twisted.spread.banana.BananaError",
    Unauthorized: "twisted.cred.error.Unauthorized",
    LoginFailed: "twisted.cred.error.LoginFailed",
    UnauthorizedLogin: "twisted.cred.error.UnauthorizedLogin",
}
# Where built-in exceptions live: Python 3, Python 2's exceptions, Python 2's other built-ins.
_BUILTIN_MODULES = ("builtins", "exceptions", "__builtin__")

# Built-ins that would steer the process that raises them: a peer's failure never becomes one.
_STEERING = (StopIteration, StopAsyncIteration)


def wire_name(cls: type) -> str:
    """Returns the qualified name under which a class travels.

    Args:
        cls: Any class; for the classes of this module the result is Twisted's name.
    """
    if issubclass(cls, Exception) and cls in _TWISTED_NAMES:
        return _TWISTED_NAMES[cls]
    # Twisted names a class by __name__, not by __qualname__: peers compare these texts.
    return f"{cls.__module__}.{cls.__name__}"


# The classes of this module by what they are called on the wire.
_OURS: dict[str, type[Exception]] = {
    wire_name(cls): cls
    for cls in (
        *_TWISTED_NAMES,
        LocalProtocolError,
        RemoteProtocolError,
        LimitExceeded,
        ConnectError,
        ConnectTimeout,
        PeerBusy,
        DeadlineExceeded,
    )
}


def local_class(name: str) -> type[Exception] | None:
    """Returns the exception class that a peer means by a name, or None where none is known.

    Known are the classes of this module, the built-in exceptions (under Python 2's names
    too), and every subclass of `Error` that this process has defined. Nothing is imported.
    Of several classes of one name, as a cell that ran twice leaves behind, the newest counts.

    Args:
        name: A qualified name, such as ``"__main__.MyError"``.
    """
    if name in _OURS:
        return _OURS[name]
    module, _, short = name.rpartition(".")
    if module in _BUILTIN_MODULES:
        cls = getattr(builtins, short, None)
        if isinstance(cls, type) and issubclass(cls, Exception) and not issubclass(cls, _STEERING):
            return cls
        return None
    return _defined_here.get(name)
