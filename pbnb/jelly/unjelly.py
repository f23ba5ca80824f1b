"""S-expressions to objects, as far as the security options allow.

`pbnb.jelly.jelly` draws the table of expressions. Reading is stricter than writing: every
expression has its arity and its types, an ``unpersistable`` is refused, and a ``dereference``
may come before its ``reference`` but not without one.

Cycles are read without placeholders ever reaching a user: a container that can be filled later
is made first, and a tuple or frozenset waits until all its members are known.
"""

from __future__ import annotations

import datetime
from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from ..errors import InsecureJelly, LimitExceeded
from ..failure import CopiedFailure
from ..flavors import set_attributes
from ..limits import Limits
from ..refs import Refs, RemoteReference
from ..wire.banana import Tree
from .copies import read_cached, read_lcache, read_registered
from .failures import FAILURE_TAG, failure_from_state, shown_tag
from .security import SecurityOptions, global_security

__all__ = ["Unjellier", "text_keys", "unjelly"]

_LARGEST_EXPONENT = 10_000  # a Decimal of a few bytes may not become a million digits
_NOTHING: Counter[int] = Counter()
_MOST_HASHED = 100_000  # members of tuples that are hashed for one dict or set


def unjelly(
    tree: Tree,
    refs: Refs | None = None,
    *,
    security: SecurityOptions = global_security,
    perspective: object = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> Any:
    """Returns the object that an s-expression describes.

    Args:
        tree: The expression.
        refs: The tables of the connection it came by; None refuses references.
        security: Says what may come in.
        perspective: The avatar in whose name it was received.
        limits: ``hash_collisions`` bounds what dicts and sets may cost.

    Raises:
        InsecureJelly: It holds something that may not come in, or makes no sense; the text
            names it.
        LimitExceeded: It costs more than the limits allow.
    """
    unjellier = Unjellier(refs, security, perspective, limits)
    try:
        return unjellier.read(tree)
    except RecursionError:
        raise LimitExceeded("the peer sent an expression that is nested too deep") from None


class Promise:
    """A value that is not known yet, and what waits for it."""

    __slots__ = ("defined", "known", "value", "waiting")

    def __init__(self) -> None:
        self.known = False
        self.defined = False  # its ["reference", n, …] was met
        self.value: Any = None
        self.waiting: list[Callable[[Any], None]] = []


class Unjellier:
    """One deserialization.

    Attributes:
        refs: The tables of the connection, or None.
        security: Says what may come in.
        perspective: The avatar in whose name the expression was received.
        borrowed: How often each luid was received in it, of references and of live copies, so
            that an expression that is refused half-way can still release the rest.
    """

    __slots__ = (
        "_due",
        "_finishing",
        "_keeping",
        "_limits",
        "_numbered",
        "_states",
        "_unknown",
        "borrowed",
        "perspective",
        "refs",
        "security",
    )

    def __init__(
        self,
        refs: Refs | None,
        security: SecurityOptions,
        perspective: object,
        limits: Limits,
    ) -> None:
        self.refs = refs
        self.security = security
        self.perspective = perspective
        self.borrowed: Counter[int] = _NOTHING
        self._limits = limits
        self._numbered: dict[int, Promise] = {}
        self._unknown = 0
        self._keeping = False
        self._states: list[tuple[Callable[[Any], object], Any]] = []
        self._finishing: list[Any] = []
        self._due: deque[tuple[Callable[[Any], None], Any]] = deque()

    def read(self, tree: Tree) -> Any:
        """Returns the object of a whole expression."""
        value = self.unjelly(tree)
        if type(value) is Promise:
            value = value.value if value.known else value
        if self._unknown:
            missing = [n for n, promise in self._numbered.items() if not promise.known]
            raise InsecureJelly(
                f"dereference of {missing[0] if missing else 'something'}, which has no reference"
                if not all(self._numbered[n].defined for n in missing)
                else "a tuple or frozenset contains itself"
            )
        for set_state, state in self._states:
            known = state.value if type(state) is Promise else state
            set_state(_with_text_keys(known))
        for made in self._finishing:
            type(made).postUnjelly(made)
        return value

    def unjelly(self, tree: Tree, promise: Promise | None = None) -> Any:
        """Returns the object of an expression, or a `Promise` where it is not known yet.

        Args:
            tree: A part of the whole expression.
            promise: What is waiting for this very object: kept as soon as the object exists,
                so that its own parts can refer to it.
        """
        if type(tree) is not list:
            return tree
        if not tree or type(tree[0]) is not bytes:
            raise InsecureJelly(f"an expression must begin with a type, not {tree[:1]!r:.60}")
        tag = tree[0]
        reader = READERS.get(tag)
        if reader is not None and tag in self.security.allowed:
            return reader(self, tree, promise)
        maker = self.security.registered.get(tag)
        if maker is not None:
            return read_registered(self, maker, tree, promise)
        cls = self.security.classes.get(tag)
        if cls is not None:
            return _instance(self, cls, tree, promise)
        raise InsecureJelly(
            f"{shown_tag(tag)} is not allowed here: "
            "this side's SecurityOptions do not name that type"
        )

    def count(self, luid: int) -> None:
        """Counts a reference or a live copy that was received."""
        if self.borrowed is _NOTHING:
            self.borrowed = Counter()
        self.borrowed[luid] += 1

    # Objects that are restored from a state

    def restore(self, tree: Tree, set_state: Callable[[Any], object]) -> None:
        """Reads a state and sets it, when all that it holds is known.

        Args:
            tree: The state's expression.
            set_state: Takes the state. Names that Python 2 peers send as bytes are text by then.
        """
        unknown = self._unknown
        state = self.unjelly(tree)
        if type(state) is Promise or self._unknown > unknown:
            self._states.append((set_state, state))
        else:
            set_state(_with_text_keys(state))

    def made_of_state(
        self, tree: Tree, maker: Callable[[Any], Any], promise: Promise | None
    ) -> Any:
        """Returns what a factory makes of a state."""
        return self.once_known(
            [self.unjelly(tree)], lambda states: maker(_with_text_keys(states[0]))
        )

    def finish(self, made: Any) -> None:
        """Runs the ``postUnjelly`` of an object's class, where it has one, after everything else.

        A hook is looked for in the class alone: in a state, it would be the peer's.
        """
        if callable(getattr(type(made), "postUnjelly", None)):
            self._finishing.append(made)

    # Promises

    def keep(self, promise: Promise | None, value: Any) -> None:
        """Makes a promised value known, and passes it to all that wait for it."""
        if promise is None or promise.known:
            return
        promise.known = True
        promise.value = value
        self._unknown -= 1
        self._due.extend((waiter, value) for waiter in promise.waiting)
        promise.waiting.clear()
        # A queue in place of recursion: a chain of promises may be as long as a message is deep.
        if not self._keeping:
            self._keeping = True
            while self._due:
                waiter, value = self._due.popleft()
                waiter(value)
            self._keeping = False

    def promise(self) -> Promise:
        """Returns a new promise, which must be kept before the whole expression is read."""
        self._unknown += 1
        return Promise()

    def reference(self, tree: list[Tree]) -> Any:
        """Reads ``["reference", n, expr]``."""
        number = _part(tree, 1, int, length=3)
        promise = self._numbered.get(number)
        if promise is None:
            promise = self._numbered[number] = self.promise()
        elif promise.defined:
            raise InsecureJelly(f"reference {number} is defined twice")
        promise.defined = True
        value = self.unjelly(tree[2], promise)
        if type(value) is Promise:
            if value is promise:
                raise InsecureJelly(f"reference {number} refers to itself")
            self.when(value, lambda known: self.keep(promise, known))
            return promise if not promise.known else promise.value
        self.keep(promise, value)
        return value

    def dereference(self, tree: list[Tree]) -> Any:
        """Reads ``["dereference", n]``."""
        number = _part(tree, 1, int, length=2)
        promise = self._numbered.get(number)
        if promise is None:
            promise = self._numbered[number] = self.promise()
        return promise.value if promise.known else promise

    def when(self, promise: Promise, waiter: Callable[[Any], None]) -> None:
        """Calls ``waiter(value)`` as soon as a promise is kept."""
        if promise.known:
            waiter(promise.value)
        else:
            promise.waiting.append(waiter)

    def once_known(self, items: list[Any], make: Callable[[list[Any]], Any]) -> Any:
        """Returns ``make(items)``, or a promise of it where an item is a promise."""
        missing = [i for i, item in enumerate(items) if type(item) is Promise]
        if not missing:
            return make(items)
        made = self.promise()
        left = len(missing)

        def put(index: int, value: Any) -> None:
            nonlocal left
            items[index] = value
            left -= 1
            if not left:
                self.keep(made, make(items))

        for index in missing:
            self.when(items[index], partial(put, index))
        return made if not made.known else made.value

    # What dicts and sets cost

    def check_keys(self, keys: Any) -> None:
        """Refuses keys that make a dict or set of a peer's quadratic.

        Integers of the wire reach 2**448 and hash modulo 2**61 - 1, so that a peer can choose
        thousands of keys that share one hash.
        """
        bound = self._limits.hash_collisions
        if len(keys) <= bound:
            return
        most = Counter(map(hash, keys)).most_common(1)[0][1]
        if most > bound:
            raise LimitExceeded(
                f"the peer sent {most} dict or set keys of one hash; {bound} are allowed"
            )


# Readers, one for each type on the wire: reader(unjellier, tree, promise) -> object or Promise


def _part(tree: list[Tree], index: int, kind: type, *, length: int) -> Any:
    if len(tree) != length or type(tree[index]) is not kind:
        raise InsecureJelly(f"malformed {shown_tag(tree[0])} expression")
    return tree[index]


def _none(u: Unjellier, tree: list[Tree], promise: Promise | None) -> None:
    if len(tree) != 1:
        raise InsecureJelly("malformed None expression")


def _boolean(u: Unjellier, tree: list[Tree], promise: Promise | None) -> bool:
    word = _part(tree, 1, bytes, length=2)
    if word not in (b"true", b"false"):
        raise InsecureJelly(f"a boolean is true or false, not {shown_tag(word)}")
    return bool(word == b"true")


def _unicode(u: Unjellier, tree: list[Tree], promise: Promise | None) -> str:
    if len(tree) != 2 or type(tree[1]) is not bytes:
        raise InsecureJelly("malformed unicode expression")
    try:
        return tree[1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InsecureJelly(f"text that is not UTF-8: {error.reason}") from None


def _list(u: Unjellier, tree: list[Tree], promise: Promise | None) -> list[Any]:
    made: list[Any] = []
    u.keep(promise, made)
    for part in tree[1:]:
        item = u.unjelly(part) if type(part) is list else part
        if type(item) is Promise:
            u.when(item, partial(made.__setitem__, len(made)))
        made.append(item)
    return made


def _tuple(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    items = [u.unjelly(part) if type(part) is list else part for part in tree[1:]]
    return u.once_known(items, tuple)


_PLAIN_KEYS = frozenset((bytes, str, int, float, bool, type(None)))


def _hashable(items: list[Any]) -> list[Any]:
    left = [_MOST_HASHED]
    for item in items:
        if type(item) not in _PLAIN_KEYS:
            _weigh(item, left)
            try:
                hash(item)
            except TypeError:
                kind = type(item).__name__
                raise InsecureJelly(f"a {kind} cannot be a key or a member of a set") from None
    return items


def _weigh(item: Any, left: list[int]) -> None:
    # A tuple of a tuple of a tuple, each held twice, takes 2**n steps to hash.
    if type(item) is tuple or type(item) is frozenset:
        for part in item:
            left[0] -= 1
            if left[0] < 0:
                raise LimitExceeded("the peer sent keys that take too long to hash")
            _weigh(part, left)


def _frozenset(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    def make(items: list[Any]) -> frozenset[Any]:
        u.check_keys(_hashable(items))
        return frozenset(items)

    return u.once_known([u.unjelly(part) for part in tree[1:]], make)


def _set(u: Unjellier, tree: list[Tree], promise: Promise | None) -> set[Any]:
    made: set[Any] = set()
    u.keep(promise, made)

    def add(item: Any) -> None:
        _hashable([item])
        made.add(item)

    known = []
    for part in tree[1:]:
        item = u.unjelly(part)
        if type(item) is Promise:
            u.when(item, add)
        else:
            known.append(item)
    u.check_keys(_hashable(known))
    made.update(known)
    return made


def _dictionary(u: Unjellier, tree: list[Tree], promise: Promise | None) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    u.keep(promise, made)
    pairs: list[tuple[Any, Any]] = []
    for pair in tree[1:]:
        if type(pair) is not list or len(pair) != 2:
            raise InsecureJelly("a dictionary is made of pairs")
        pairs.append((u.unjelly(pair[0]), u.unjelly(pair[1])))
    keys = [key for key, _ in pairs if type(key) is not Promise]
    u.check_keys(_hashable(keys))
    for key, value in pairs:
        if type(key) is Promise or type(value) is Promise:
            _set_later(u, made, key, value)
        else:
            made[key] = value
    return made


def _set_later(u: Unjellier, made: dict[Any, Any], key: Any, value: Any) -> None:
    if type(key) is not Promise:
        made[key] = None  # keeps its place in the order
    u.once_known([key, value], lambda pair: made.__setitem__(_hashable(pair[:1])[0], pair[1]))


def _numbers(tag: str, least: int, most: int, make: Callable[..., Any]) -> Reader:
    def read(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
        words = _part(tree, 1, bytes, length=2).split(b" ")
        try:
            if not least <= len(words) <= most or any(len(word) > 20 for word in words):
                raise ValueError("wrong number of fields")
            return make(*map(int, words))
        except (ValueError, OverflowError) as error:
            raise InsecureJelly(f"malformed {tag}: {error}") from None

    return read


def _decimal(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Decimal:
    value = _part(tree, 1, int, length=3)
    exponent = tree[2]
    if exponent == b"F":  # Python 2 sends either infinity so, and does not say which
        return Decimal("Infinity")
    if type(exponent) is not int or abs(exponent) > _LARGEST_EXPONENT:
        raise InsecureJelly(f"a decimal's exponent is an integer up to {_LARGEST_EXPONENT}")
    digits = tuple(map(int, str(abs(value))))
    return Decimal((int(value < 0), digits, exponent))


def _remote(u: Unjellier, tree: list[Tree], promise: Promise | None) -> RemoteReference:
    luid = _part(tree, 1, int, length=2)
    if u.refs is None:
        raise InsecureJelly("a reference can only be read from a connection")
    u.count(luid)
    return u.refs.borrow(luid, u.perspective)


def _local(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    obj = None
    if len(tree) == 2 and u.refs is not None:
        obj = u.refs.find(tree[1])
    if obj is None:
        raise InsecureJelly(f"the peer returned {tree[1:]!r:.60}, an object it was not lent")
    return obj


def _unpersistable(u: Unjellier, tree: list[Tree], promise: Promise | None) -> None:
    reason = tree[1] if len(tree) == 2 and type(tree[1]) is bytes else b"no reason given"
    raise InsecureJelly(f"the peer could not send a value: {shown_tag(reason)}")


def _class(u: Unjellier, tree: list[Tree], promise: Promise | None) -> type:
    name = _part(tree, 1, bytes, length=2)
    cls = u.security.classes.get(name)
    if cls is None:
        raise InsecureJelly(f"the class {shown_tag(name)} is not allowed here")
    return cls


def _instance(u: Unjellier, cls: type, tree: list[Tree], promise: Promise | None) -> Any:
    if len(tree) != 2:
        raise InsecureJelly(f"malformed instance of {shown_tag(tree[0])}")
    make: Any = cls.__new__
    made = make(cls)
    u.keep(promise, made)
    u.restore(tree[1], lambda state: _restore(made, state))
    u.finish(made)
    return made


def _failure(u: Unjellier, tree: list[Tree], promise: Promise | None) -> CopiedFailure:
    state = u.unjelly(tree[1]) if len(tree) == 2 else None
    return failure_from_state(state)


def _restore(made: Any, state: Any) -> None:
    set_state = getattr(made, "__setstate__", None)
    if set_state is not None:
        set_state(state)
        return
    if state is None:
        return
    set_attributes(made, state)


def _with_text_keys(state: Any) -> Any:
    if type(state) is dict and any(type(key) is bytes for key in state):
        return {
            key.decode("utf-8", "replace") if type(key) is bytes else key: value
            for key, value in state.items()
        }
    return state


def text_keys(state: dict[Any, Any]) -> dict[str, Any]:
    """Returns a dict whose keys are text; Python 2 peers send names as bytes.

    Raises:
        InsecureJelly: A key is neither, or is no name.
    """
    made = {}
    for key, value in state.items():
        if type(key) is bytes:
            key = key.decode("utf-8", "replace")
        if type(key) is not str or not key.isidentifier() or key.startswith("__"):
            raise InsecureJelly(f"{key!r:.60} cannot be the name of an attribute or an argument")
        made[key] = value
    return made


Reader = Callable[[Unjellier, list[Tree], Promise | None], Any]

READERS: dict[bytes, Reader] = {
    b"None": _none,
    b"boolean": _boolean,
    b"unicode": _unicode,
    b"list": _list,
    b"tuple": _tuple,
    b"set": _set,
    b"frozenset": _frozenset,
    b"dictionary": _dictionary,
    b"datetime": _numbers("datetime", 7, 7, datetime.datetime),
    b"date": _numbers("date", 3, 3, datetime.date),
    b"time": _numbers("time", 4, 4, datetime.time),
    b"timedelta": _numbers("timedelta", 3, 3, datetime.timedelta),
    b"decimal": _decimal,
    b"reference": lambda u, tree, promise: u.reference(tree),
    b"dereference": lambda u, tree, promise: u.dereference(tree),
    b"remote": _remote,
    b"local": _local,
    b"cached": read_cached,
    b"lcache": read_lcache,
    b"unpersistable": _unpersistable,
    b"class": _class,
    FAILURE_TAG: _failure,
}
