"""Exceptions that are carried instead of raised: from here, or from a peer.

A `Failure` holds an exception of this process and a `CopiedFailure` the description of one that a
peer sent. Both are asked in the same way (``check``, ``trap``, ``getErrorMessage``), and both can
be raised: the first as the exception that it holds, the second as a `RemoteError`.
"""

from __future__ import annotations

import builtins
import re
import sys
import traceback
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from types import TracebackType
from typing import Any, NoReturn, TextIO, TypeVar, cast

from .cards import card
from .errors import LocalProtocolError, local_class, wire_name

__all__ = ["CopiedFailure", "Failure", "RemoteError", "shown"]

_Match = TypeVar("_Match", bound=type[BaseException] | str)

# What a failure carries in place of a traceback when its sender keeps tracebacks to itself.
NO_TRACEBACK = "Traceback unavailable\n"

# Longest text of a failure on one line, and longest traceback of a peer that is shown.
_LINE = 200
_TRACEBACK = 20_000

# How many names of a peer's bases are looked up, and how long a name may be to become a class's.
_PARENTS = 100
_NAME = 100

# Characters that a terminal or a notebook obeys instead of showing: C0 but for tab and newline,
# C1, bidi controls, line separators, interlinear annotations and tags. Lone surrogates are among
# them because they cannot be printed at all.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)

# Python 2 knew its built-ins under other modules, and some of them under names that are aliases
# now: exceptions.IOError is builtins.OSError. The table is closed at import, so that nothing is
# looked up on a peer's word.
_PYTHON_2_NAMES = {
    f"{module}.{name}": wire_name(cls)
    for module in ("exceptions", "__builtin__", "builtins")
    for name, cls in vars(builtins).items()
    if isinstance(cls, type)
}

# Static built-in types lack this flag (Py_TPFLAGS_HEAPTYPE); classes made by a class statement
# have it.
_HEAP_TYPE = 1 << 9


def shown(text: str, limit: int | None = _LINE, *, lines: bool = False) -> str:
    r"""Returns text from a peer in a form that is safe to show.

    Characters that steer a terminal or turn the direction of writing are shown as escapes, such
    as ``\x1b``.

    Args:
        text: Any text.
        limit: Longest result; what is cut ends in an ellipsis. ``None`` cuts nothing.
        lines: Whether the text may keep its line ends and tabs.
    """
    if limit is not None:
        text = text[: limit + 1]
    if lines:
        text = text.replace("\r\n", "\n")
    else:
        text = text.replace("\n", "\\n").replace("\t", "\\t")
    text = _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 1, 0)] + "…"
    return text


class Failure:
    """An exception that is carried to whoever handles it.

    Attributes:
        value: The exception; in a `CopiedFailure`, its text.
        type: The exception's class; in a `CopiedFailure`, its qualified name.
        tb: The traceback that the exception had when the failure was made.
    """

    __slots__ = ("tb", "type", "value")

    value: Any
    type: Any
    tb: TracebackType | None

    def __init__(self, value: BaseException | None = None) -> None:
        """Holds an exception.

        Args:
            value: The exception; ``None`` means the one that is being handled.

        Raises:
            LocalProtocolError: If no exception is given and none is being handled.
        """
        if value is None:
            value = sys.exception()
            if value is None:
                raise LocalProtocolError("Failure() needs an exception: none is being handled")
        if not isinstance(value, BaseException):
            raise TypeError(f"a Failure holds an exception, not {value!r:.{_LINE}}")
        self.value = value
        self.type = value.__class__
        self.tb = value.__traceback__

    @staticmethod
    def of(exception: BaseException) -> Failure:
        """Returns the failure that an exception stands for.

        A `RemoteError` gives back the `CopiedFailure` that it was made from, so that passing an
        error on keeps the peer's own type and bases.
        """
        if isinstance(exception, RemoteError) and exception.failure is not None:
            return exception.failure
        return Failure(exception)

    @property
    def type_name(self) -> str:
        """The qualified name of the exception's class, as it travels."""
        return wire_name(self.type)

    @property
    def parents(self) -> list[str]:
        """The names under which the exception's class and all its bases travel."""
        return [wire_name(cls) for cls in self.type.__mro__]

    def check(self, *errors: _Match) -> _Match | None:
        """Returns the first of some classes or qualified names that the failure is of.

        Args:
            errors: Exception classes, or names such as ``"__main__.MyError"``.
        """
        names: set[str] | None = None
        for error in errors:
            if isinstance(error, str):
                names = names or {_modern(name) for name in self.parents}
                if _modern(error) in names:
                    return error
            elif isinstance(self.value, error):
                return error
        return None

    def trap(self, *errors: _Match) -> _Match:
        """Returns what `check` finds, and passes the failure on if that is nothing.

        Raises:
            BaseException: What `raiseException` raises; an errback that lets it out leaves this
                same failure in its Deferred.
        """
        matched = self.check(*errors)
        if matched is None:
            self.raiseException()
        return matched

    def exception(self) -> BaseException:
        """Returns the exception to raise, with the traceback that it had when it was caught."""
        # Without this the traceback would grow each time that the failure is awaited.
        return cast(BaseException, self.value.with_traceback(self.tb))

    def raiseException(self) -> NoReturn:
        """Raises the exception."""
        raise self.exception()

    def getErrorMessage(self) -> str:
        """Returns the exception's message."""
        return _text(self.value)

    def getTraceback(self) -> str:
        """Returns the traceback as Python prints it."""
        return "".join(traceback.format_exception(self.type, self.value, self.tb))

    def getBriefTraceback(self) -> str:
        """Returns the message and one line for each frame, without the source."""
        frames = [f"{f.filename}:{f.lineno}:{f.name}\n" for f in traceback.extract_tb(self.tb)]
        return f"Traceback: {self.type_name}: {self.getErrorMessage()}\n{''.join(frames)}"

    def printTraceback(self, file: TextIO | None = None) -> None:
        """Prints `getTraceback`, by default to the standard error."""
        print(self.getTraceback(), end="", file=file or sys.stderr)

    def printBriefTraceback(self, file: TextIO | None = None) -> None:
        """Prints `getBriefTraceback`, by default to the standard error."""
        print(self.getBriefTraceback(), end="", file=file or sys.stderr)

    def printDetailedTraceback(self, file: TextIO | None = None) -> None:
        """Prints the traceback with the local variables of each frame."""
        described = traceback.TracebackException(
            self.type, self.value, self.tb, capture_locals=True
        )
        print("".join(described.format()), end="", file=file or sys.stderr)

    def __repr__(self) -> str:
        text = f"{self.type_name}: {self.getErrorMessage()}"
        return f"<{type(self).__name__} {shown(text)}>"

    def _repr_html_(self) -> str:
        message = shown(self._beginning())
        return card(type(self).__name__, wrong=True, type=shown(self.type_name), message=message)

    def _beginning(self) -> str:
        return self.getErrorMessage()


class CopiedFailure(Failure):
    """A failure that happened at a peer, as the peer described it.

    Attributes:
        value: The message, as it was sent.
        type: The qualified name of the exception's class.
        traceback: The traceback as text; peers send ``"Traceback unavailable\\n"`` unless they
            were told to show theirs.
        parents: The names of the class and of all its bases.
    """

    __slots__ = ("parents", "traceback")

    parents: list[str]  # a slot here, and a property of its base

    def __init__(
        self,
        *,
        type: str,
        value: str,
        traceback: str = NO_TRACEBACK,
        parents: Iterable[str] = (),
    ) -> None:
        self.type = type
        self.value = value
        self.tb = None
        self.traceback = traceback
        self.parents = list(parents)

    @property
    def type_name(self) -> str:
        """The qualified name of the exception's class, as it travelled."""
        return cast(str, self.type)

    def check(self, *errors: _Match) -> _Match | None:
        """Returns the first of some classes or qualified names that the failure is of.

        Names decide, also for a class: the peer's ``__main__.MyError`` is the one defined here.
        Built-in exceptions match under Python 2's names too, and `RemoteError` always matches.

        Args:
            errors: Exception classes, or names such as ``"__main__.MyError"``.
        """
        names = {_modern(name) for name in (self.type, *self.parents)}
        for error in errors:
            if error is RemoteError:
                return error
            name = error if isinstance(error, str) else wire_name(error)
            if _modern(name) in names:
                return error
        return None

    def exception(self) -> RemoteError:
        """Returns a new exception that says what the peer said.

        It is a `RemoteError`, and an instance of the local classes that the peer's names mean.
        """
        known = _known_bases((self.type, *self.parents))
        own = local_class(self.type)
        name = self.type if own is None else f"{own.__module__}.{own.__name__}"
        return _make(_remote_class(*_class_name(name), known), self)

    def getErrorMessage(self) -> str:
        """Returns the message, safe to show; ``value`` holds it as it was sent."""
        return shown(self.value, None, lines=True)

    def _beginning(self) -> str:
        return str(self.value[: _LINE + 1])  # a peer's may be megabytes, which nobody has to read

    def getTraceback(self) -> str:
        """Returns what is known of the traceback, safe to show."""
        text = self.getBriefTraceback()
        if self.traceback != NO_TRACEBACK:
            text += shown(self.traceback, _TRACEBACK, lines=True).rstrip("\n") + "\n"
        return text

    def getBriefTraceback(self) -> str:
        """Returns the type and the message, safe to show."""
        what = f"{shown(self.type)}: {self.getErrorMessage()}"
        return f"Traceback from remote host -- {what}\n"

    def printDetailedTraceback(self, file: TextIO | None = None) -> None:
        """Prints the same as `printTraceback`: a peer's frames stay with the peer."""
        self.printTraceback(file)


class RemoteError(Exception):
    """What is raised here for a failure of the peer.

    The exception is also an instance of the local class of that name, where one is known: of a
    built-in exception, or of a subclass of `pbnb.Error` that this process has defined. Its
    ``str()`` is the peer's message, made safe to show.

    Attributes:
        failure: The `CopiedFailure` that it was made from.
        remoteType: The qualified name of the exception's class at the peer.
        remoteTraceback: The traceback as text, as the peer sent it.
    """

    failure: CopiedFailure | None = None

    def __init_subclass__(cls, *, remote: bool = False, **kwargs: object) -> None:
        # A class made for a peer's failure is no definition: it must neither take the place of
        # the class it stands for in the registry of Error, nor run the user's own hook.
        if not remote:
            super().__init_subclass__(**kwargs)

    @property
    def remoteType(self) -> str:
        """The qualified name of the exception's class at the peer."""
        return wire_name(type(self)) if self.failure is None else self.failure.type_name

    @property
    def remoteTraceback(self) -> str:
        """The traceback as text, as the peer sent it."""
        return NO_TRACEBACK if self.failure is None else self.failure.traceback

    def __str__(self) -> str:
        # Not inherited: KeyError shows the repr of its argument, OSError its errno.
        return Exception.__str__(self) if self.failure is None else self.failure.getErrorMessage()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(str(self))!r})"

    def __reduce__(self) -> Any:
        # The class exists in no module that another process could import.
        if self.failure is None:
            return super().__reduce__()
        return CopiedFailure.exception, (self.failure,)


# Failures that a peer may name and that are never raised for it. They would steer this process
# instead of reaching the caller's except clause...
_STEERING = (StopIteration, StopAsyncIteration)
# ... or are only half an object until their own __init__ has parsed arguments nobody has sent.
_NEEDS_MORE = (
    BaseExceptionGroup,
    UnicodeDecodeError,
    UnicodeEncodeError,
    UnicodeTranslateError,
)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} whose str() failed>"


def _modern(name: str) -> str:
    """Returns the name that a class of Python 2's built-ins has today, and any other unchanged."""
    return _PYTHON_2_NAMES.get(name, name)


def _can_stand_in(cls: type[Exception]) -> bool:
    """Tells whether instances of a class can be made for a peer's failure."""
    if issubclass(cls, _STEERING + _NEEDS_MORE) or type(cls) is not type:
        return False
    # Error and KeyboardInterrupt can be bases of one class; such a one steers too.
    # So does CancelledError, which this floor cannot name.
    return all(
        base is BaseException or issubclass(base, Exception)
        for base in cls.__mro__
        if issubclass(base, BaseException)
    )


def _known_bases(names: Iterable[str]) -> tuple[type[Exception], ...]:
    """Returns the local classes that a failure's names mean, the most derived ones only."""
    bases: list[type[Exception]] = []
    for name in islice(names, _PARENTS):
        cls = local_class(name)
        if cls is None or cls is Exception or any(issubclass(base, cls) for base in bases):
            continue
        if _can_stand_in(cls):
            bases.append(cls)
    return tuple(bases)


def _class_name(qualified: str) -> tuple[str, str]:
    """Returns module and name for a class called after a peer's, both harmless in a traceback."""
    module, _, name = _modern(qualified).rpartition(".")
    if len(name) > _NAME or not name.isidentifier():
        name = RemoteError.__name__
    if len(module) > _NAME or not all(part.isidentifier() for part in module.split(".")):
        module = RemoteError.__module__
    return module, name


# The key holds the classes, not their names: a cell that runs again defines the class anew.
@lru_cache(maxsize=256)
def _remote_class(module: str, name: str, known: tuple[type[Exception], ...]) -> type[RemoteError]:
    """Returns a class that is a `RemoteError` and, as far as they combine, the known classes."""
    made: type[RemoteError] = _combine(module, name, (RemoteError,))
    bases: tuple[type[Exception], ...] = (RemoteError,)
    for cls in known:
        try:
            combined = _combine(module, name, (*bases, cls))
            _allocate(combined, "")
        except TypeError:
            continue  # layouts or orders of bases that exclude each other
        made, bases = combined, (*bases, cls)
    return made


def _combine(module: str, name: str, bases: tuple[type[Exception], ...]) -> type[RemoteError]:
    namespace = {"__module__": module, "__doc__": RemoteError.__doc__}
    return cast(type[RemoteError], type(name, bases, namespace, remote=True))


def _allocate(cls: type[RemoteError], message: str) -> RemoteError:
    """Returns an instance without running any code of the classes it derives from."""
    static: Any = cls
    while static.__flags__ & _HEAP_TYPE:
        static = static.__base__
    made: RemoteError = static.__new__(cls, message)
    # OSError leaves args to its __init__ when a subclass has one of its own.
    vars(BaseException)["args"].__set__(made, (message,))
    return made


def _make(cls: type[RemoteError], failure: CopiedFailure) -> RemoteError:
    made = _allocate(cls, failure.value)
    set_attribute = Exception.__setattr__  # a user's class may have its own
    set_attribute(made, "failure", failure)
    if isinstance(made, SyntaxError | ImportError):
        # Python and IPython show these by their parts, not by str().
        set_attribute(made, "msg", failure.getErrorMessage())
    if failure.traceback != NO_TRACEBACK:
        note = "Traceback from remote host:\n" + shown(failure.traceback, _TRACEBACK, lines=True)
        set_attribute(made, "__notes__", [note.rstrip("\n")])
    return made
