"""Objects of this process under the interface of a reference.

They let a program be written once for an object that may be here or at a peer: each has
``callRemote``, and what it returns is a Deferred.
"""

from __future__ import annotations

import logging
from typing import Any

from ..failure import Failure
from .deferred import Deferred, fail, maybeDeferred, succeed

__all__ = ["LocalAsRemote", "LocalAsyncForwarder", "LocalMethod"]

log = logging.getLogger("pbnb")


class LocalAsRemote:
    """An object that is called as a reference is, without leaving the process.

    ``callRemote("name")`` runs the method ``sync_name``, and returns what that returns; where
    there is none it runs ``async_name``, and returns a Deferred of what that returns or raises.

    Attributes:
        reportAllTracebacks: Log what a method raises, before its caller gets it.
    """

    reportAllTracebacks: bool = True

    def callRemote(self, _name: str | bytes, /, *args: Any, **kw: Any) -> Any:
        """Calls one of the methods.

        Args:
            _name: The method's name, without its prefix.
            *args: What the method is given.
            **kw: Keyword arguments of the method.

        Returns:
            What a ``sync_`` method returns; a Deferred of what an ``async_`` method returns. A
            name that neither has, fails the Deferred with AttributeError.
        """
        name = _name.decode("utf-8") if isinstance(_name, bytes) else _name
        method = getattr(self, f"sync_{name}", None)
        if callable(method):
            return method(*args, **kw)
        method = getattr(self, f"async_{name}", None)
        if not callable(method):
            return fail(
                AttributeError(
                    f"{type(self).__name__} has neither sync_{name} nor async_{name} to call"
                )
            )
        result: Deferred[Any] = maybeDeferred(method, *args, **kw)
        return result.addErrback(self._reported, name) if self.reportAllTracebacks else result

    def remoteMethod(self, name: str) -> LocalMethod:
        """Returns one method as something to call.

        Args:
            name: The method's name, without its prefix.
        """
        return LocalMethod(self, name)

    def _reported(self, failure: Failure, name: str) -> Failure:
        log.error("%s.%s failed:\n%s", type(self).__name__, name, failure.getTraceback())
        return failure


class LocalMethod:
    """One method of a `LocalAsRemote`.

    Attributes:
        local: The object.
        name: The method's name.
    """

    def __init__(self, local: LocalAsRemote, name: str) -> None:
        self.local = local
        self.name = name

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Calls the method, as ``callRemote`` does."""
        return self.local.callRemote(self.name, *args, **kw)

    def __repr__(self) -> str:
        return f"<LocalMethod {self.name!r} of {self.local!r:.80}>"


class LocalAsyncForwarder:
    """Offers, of an object of this process, what an interface names.

    Args:
        forwarded: The object.
        interfaceClass: A class, an abstract one or a Protocol, whose public methods are the
            interface; or an interface that says itself what provides it (``providedBy``) and
            what belongs to it (``name in interface``).
        failWhenNotImplemented: Fail calls of other methods, with NotImplementedError; otherwise
            they return None.

    Raises:
        TypeError: The object lacks a method of the interface.
    """

    def __init__(
        self, forwarded: object, interfaceClass: Any, failWhenNotImplemented: bool = False
    ) -> None:
        missing = _missing(forwarded, interfaceClass)
        if missing:
            raise TypeError(
                f"{type(forwarded).__name__} does not provide {_name(interfaceClass)}: {missing}"
            )
        self.forwarded = forwarded
        self.interfaceClass = interfaceClass
        self.failWhenNotImplemented = failWhenNotImplemented

    def callRemote(self, method: str | bytes, /, *args: Any, **kw: Any) -> Deferred[Any]:
        """Calls a method of the object, if it belongs to the interface.

        Args:
            method: The method's name.
            *args: What the method is given.
            **kw: Keyword arguments of the method.
        """
        name = method.decode("utf-8") if isinstance(method, bytes) else method
        if _belongs(name, self.interfaceClass):
            called: Deferred[Any] = maybeDeferred(getattr(self.forwarded, name), *args, **kw)
            return called
        if self.failWhenNotImplemented:
            return fail(
                NotImplementedError(f"{_name(self.interfaceClass)} has no method {name!r:.80}")
            )
        return succeed(None)


def _missing(obj: object, interface: Any) -> str:
    provided_by = getattr(interface, "providedBy", None)
    if callable(provided_by):
        return "" if provided_by(obj) else "it does not say so"
    if not isinstance(interface, type):
        return f"{interface!r:.80} is no interface"
    lacking = [name for name in _methods(interface) if not callable(getattr(obj, name, None))]
    return f"it has no method {', '.join(lacking)}" if lacking else ""


def _belongs(name: str, interface: Any) -> bool:
    if isinstance(interface, type):
        return name in _methods(interface)
    return not name.startswith("_") and name in interface


def _methods(cls: type) -> list[str]:
    # Read from the classes themselves: Protocol and ABC bring private names and no public ones.
    found = (
        name
        for base in cls.__mro__
        if base is not object
        for name, value in vars(base).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, _WRAPPERS))
    )
    return list(dict.fromkeys(found))


_WRAPPERS = (staticmethod, classmethod)


def _name(interface: Any) -> str:
    return getattr(interface, "__name__", None) or repr(interface)[:80]
