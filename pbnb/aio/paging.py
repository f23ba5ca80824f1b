"""Values that are too large for one message, sent page by page.

The side that has the value makes a pager, with a reference to a collector of the other side's;
the pager calls the collector, and asks for no answers::

    gotPage(page)                one for each page
    endedPaging()                no more pages

A page is sent when the transport has room for it, so that a value never waits in memory for a
slow reader. By convention the collector is the first argument of the method that pages.

A pager that fails says so with ``pagingFailed(type, text)``. Collectors that do not know that
call find the failure in the place of the next page: what is cut short never looks complete.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..errors import DeadReferenceError, Error, PBConnectionLost, wire_name
from ..failure import CopiedFailure, Failure
from ..flavors import Referenceable
from ..refs import RemoteReference
from .connection import Connection
from .deadlines import seconds_for
from .deferred import Deferred

__all__ = ["CallbackPageCollector", "FilePager", "Pager", "StringPager", "getAllPages"]

log = logging.getLogger("pbnb")

_NO_PAGE = object()


class Pager:
    """Sends pages to a collector of the peer's, until `stopPaging` is called.

    A subclass says in `nextPage` what the pages are. It sets its own attributes before it calls
    this class's ``__init__``, which sends the first page.

    Args:
        collector: A reference to the collector.
        callback: Called when the last page was sent; not called when paging fails.
        *args: What the callback is given.
        **kw: Keyword arguments of the callback.
    """

    def __init__(
        self,
        collector: RemoteReference,
        callback: Callable[..., object] | None = None,
        *args: Any,
        **kw: Any,
    ) -> None:
        connection = getattr(collector, "broker", None)
        if not isinstance(collector, RemoteReference) or not isinstance(connection, Connection):
            raise TypeError(
                f"a pager sends its pages to a collector of the peer's, not to {collector!r:.80}"
            )
        self._paging = True
        self._connection = connection
        self._collector: RemoteReference | None = collector
        self._callback = None if callback is None else (callback, args, kw)
        connection.run_paced(self._step)

    def nextPage(self) -> Any:
        """Returns the next page. Calling `stopPaging` in it makes that page the last one."""
        raise NotImplementedError(f"{type(self).__name__} has to say in nextPage what it sends")

    def stopPaging(self) -> None:
        """Ends the pages. It is called however they end; a subclass may release things in it."""
        self._paging = False

    def stillPaging(self) -> bool:
        """Returns whether there are pages to come."""
        return self._paging

    def _step(self) -> bool:
        collector = self._collector
        if collector is None or self._connection.lost:
            self._finish()
            return False
        try:
            if self._paging:
                page = self.nextPage()
                if page is not _NO_PAGE:
                    collector.remote_only("gotPage", page)
                if page is not _NO_PAGE or self._paging:
                    return True
            collector.remote_only("endedPaging")
        except DeadReferenceError:
            self._finish()
            return False
        except Exception as error:  # from the file, or from a page that cannot be sent
            self._fail(collector, Failure.of(error))
            return False
        self._finish()
        if self._callback is not None:
            callback, args, kw = self._callback
            callback(*args, **kw)
        return False

    def _finish(self) -> None:
        # The peer's collector is let go: it hears that nobody will call it again.
        self._collector = None
        if self._paging:
            try:
                self.stopPaging()
            except Exception:
                log.exception("a pager could not be stopped")
            self._paging = False

    def _fail(self, collector: RemoteReference, failure: Failure) -> None:
        self._finish()
        log.error("a pager failed, and tells its collector so:\n%s", failure.getTraceback())
        kind = failure.type if isinstance(failure, CopiedFailure) else wire_name(failure.type)
        text = failure.getErrorMessage().encode("utf-8", "backslashreplace").decode()[:_LONGEST]
        try:
            collector.remote_only("pagingFailed", kind, text)
            collector.remote_only("gotPage", failure)
            collector.remote_only("endedPaging")
        except DeadReferenceError:
            pass  # whoever waits there has lost the connection too


_LONGEST = 10_000  # characters of a failure's text


class StringPager(Pager):
    """Sends a long string in pieces.

    Args:
        collector: A reference to the collector.
        st: The bytes, or the text.
        chunkSize: The length of a page.
        callback: Called when the last page was sent.
        *args: What the callback is given.
        **kw: Keyword arguments of the callback.
    """

    def __init__(
        self,
        collector: RemoteReference,
        st: bytes | str,
        chunkSize: int = 8192,
        callback: Callable[..., object] | None = None,
        *args: Any,
        **kw: Any,
    ) -> None:
        if not isinstance(st, (bytes, str)):
            raise TypeError(f"a StringPager sends bytes or text, not {type(st).__name__}")
        if chunkSize < 1:
            raise ValueError(f"a page holds at least one byte, not {chunkSize}")
        self.string = st
        self.pointer = 0
        self.chunkSize = chunkSize
        super().__init__(collector, callback, *args, **kw)

    def nextPage(self) -> bytes | str:
        """Returns the next piece."""
        begin, self.pointer = self.pointer, self.pointer + self.chunkSize
        if self.pointer >= len(self.string):
            self.stopPaging()
        return self.string[begin : self.pointer]


class _File(Protocol):
    def read(self, size: int, /) -> Any: ...
    def close(self) -> Any: ...


class FilePager(Pager):
    """Sends what is left of a file, and closes it, however that ends.

    Args:
        collector: A reference to the collector.
        fd: The file, opened for reading.
        callback: Called when the last page was sent.
        *args: What the callback is given.
        **kw: Keyword arguments of the callback.
    """

    chunkSize = 16384

    def __init__(
        self,
        collector: RemoteReference,
        fd: _File,
        callback: Callable[..., object] | None = None,
        *args: Any,
        **kw: Any,
    ) -> None:
        if not callable(getattr(fd, "read", None)):
            raise TypeError(f"a FilePager sends a file that is open, not {type(fd).__name__}")
        self.fd = fd
        self._begun = False
        try:
            super().__init__(collector, callback, *args, **kw)
        except TypeError:
            fd.close()
            raise

    def nextPage(self) -> Any:
        """Returns the next piece."""
        if not self._begun:
            # Nothing is read before the method that pages has been answered, as Twisted has it.
            self._begun = True
            return _NO_PAGE
        page = self.fd.read(self.chunkSize)
        if not isinstance(page, (bytes, str)):
            raise TypeError(f"reading {self.fd!r:.80} returned {type(page).__name__}, not bytes")
        if page:
            return page
        self.stopPaging()
        return _NO_PAGE

    def stopPaging(self) -> None:
        """Ends the pages and closes the file."""
        super().stopPaging()
        self.fd.close()


class CallbackPageCollector(Referenceable):
    """Collects pages, and calls a function with all of them.

    Args:
        callback: Called once, with the list of pages.
        errback: Called in its place, with a `Failure`, when the pager fails. Without one, the
            failure is logged.

    Attributes:
        pages: What has arrived so far.
    """

    def __init__(
        self,
        callback: Callable[[list[Any]], object],
        errback: Callable[[Failure], object] | None = None,
    ) -> None:
        self.pages: list[Any] = []
        self._callback: Callable[[list[Any]], object] | None = callback
        self._errback = errback

    def remote_gotPage(self, page: Any) -> None:
        """Takes one page."""
        if self._callback is not None:
            self.pages.append(page)

    def remote_endedPaging(self) -> None:
        """Passes on what was collected."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(self.pages)

    def remote_pagingFailed(self, kind: str, text: str) -> None:
        """Passes on that the pages will never be complete."""
        if self._callback is None:
            return
        self._callback = None
        self.pages = []
        kind = str(kind)
        failure = CopiedFailure(type=kind, value=str(text), traceback="", parents=[kind])
        if self._errback is not None:
            self._errback(failure)
        else:
            log.error("a pager of the peer's failed: %s", failure.getErrorMessage())


def getAllPages(
    referenceable: RemoteReference, methodName: str, /, *args: Any, **kw: Any
) -> Deferred[list[Any]]:
    """Calls a method that pages, and returns a Deferred of the list of all its pages.

    The Deferred fails when the call or the pager fails, when the connection ends, and when the
    peer lets go of the collector without having ended the pages.

    Args:
        referenceable: What is called. The method gets a collector as its first argument.
        methodName: The method's name.
        *args: What else the method is given.
        **kw: Keyword arguments of the method.

    Raises:
        DeadReferenceError: The connection has ended.
    """
    connection = referenceable.broker
    if isinstance(connection, Connection) and not connection.is_here():
        # The time is read here: in another thread the scope of a deadline may have ended.
        seconds = seconds_for(referenceable.deadline, math.inf)
        ref = referenceable if seconds == math.inf else referenceable.with_deadline(seconds)
        return connection.call_here(partial(getAllPages, ref, methodName, *args, **kw))
    pages: Deferred[list[Any]] = Deferred()

    def lost(ref: RemoteReference) -> None:
        fail(
            PBConnectionLost(
                f"the connection to {getattr(connection, 'peer', 'the peer')} ended while "
                f"{methodName}() was sending pages"
            )
        )

    def fail(failure: Failure | Exception) -> None:
        if not pages.called:
            referenceable.dontNotifyOnDisconnect(lost)
            pages.errback(failure)

    def succeed(collected: list[Any]) -> None:
        if not pages.called:
            referenceable.dontNotifyOnDisconnect(lost)
            pages.callback(collected)

    def abandoned() -> None:
        fail(Error(f"the peer let go of the collector before {methodName}() had ended the pages"))

    # Nothing here holds the collector: the peer does, and when it no longer does, no page will
    # ever come.
    collector = CallbackPageCollector(succeed, fail)
    if isinstance(connection, Connection):
        weakref.finalize(collector, connection.call_soon, abandoned).atexit = False
    referenceable.callRemote(methodName, collector, *args, **kw).addErrback(fail)
    referenceable.notifyOnDisconnect(lost)
    return pages
