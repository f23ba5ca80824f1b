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
from ..limits import Limits
from ..refs import Refs, RemoteReference
from ..wire.banana import Tree
from .code import read_class, read_function, read_method, read_module
from .copies import number_in, read_cached, read_lcache, read_registered
from .extras import EXTRA_READERS
from .failures import FAILURE_TAG, failure_from_state, shown_tag
from .instances import hashed_parts, read_instance, read_old_instance
from .security import Load, SecurityOptions, global_security

__all__ = ["Unjellier", "text_keys", "unjelly"]

_LARGEST_EXPONENT = 10_000  # a Decimal of a few bytes may not become a million digits
_NOTHING: Counter[int] = Counter()
# Tuples within a cycle wait until its first is known. That takes ten times what others take.
_MOST_UNKNOWN = 10_000


def unjelly(
    tree: Tree,
    refs: Refs | None = None,
    *,
    security: SecurityOptions = global_security,
    perspective: object = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    persistentLoad: Load | None = None,
) -> Any:
    """Returns the object that an s-expression describes.

    Args:
        tree: The expression.
        refs: The tables of the connection it came by; None refuses references.
        security: Says what may come in.
        perspective: The avatar in whose name it was received.
        limits: ``hash_collisions`` and ``message_items`` bound what dicts and sets may cost.
        persistentLoad: Called with the id of a persistent object and with the `Unjellier`;
            returns the object. The id is the peer's word. Where it is not given, that of the
            security options counts; without one, such ids are refused.

    Raises:
        InsecureJelly: It holds something that may not come in, or makes no sense; the text
            names it.
        LimitExceeded: It costs more than the limits allow.
    """
    unjellier = Unjellier(refs, security, perspective, limits, persistentLoad)
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
        load: Returns the object of a persistent id, or None.
    """

    __slots__ = (
        "_due",
        "_finishing",
        "_keeping",
        "_limits",
        "_may_hash",
        "_numbered",
        "_states",
        "_unknown",
        "borrowed",
        "load",
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
        load: Load | None = None,
    ) -> None:
        self.refs = refs
        self.security = security
        self.load = security.persistentLoad if load is None else load
        self.perspective = perspective
        self.borrowed: Counter[int] = _NOTHING
        self._limits = limits
        self._may_hash = limits.message_items
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
            return read_instance(self, cls, tree, promise)
        raise InsecureJelly(
            f"{shown_tag(tag)} is not allowed here: the side that receives it has not named that "
            "type, with setUnjellyableForClass or in its SecurityOptions"
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
        state = self.unjelly(tree)
        if self._unknown:
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
        if not promise.waiting:
            return
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
        if self._unknown >= _MOST_UNKNOWN:
            raise LimitExceeded(
                f"the peer sent more than {_MOST_UNKNOWN} tuples that wait for one around them"
            )
        self._unknown += 1
        return Promise()

    def reference(self, tree: list[Tree], around: Promise | None) -> Any:
        """Reads ``["reference", n, expr]``."""
        number = number_in(tree, 3)
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

    def dereference(self, tree: list[Tree], around: Promise | None) -> Any:
        """Reads ``["dereference", n]``."""
        number = number_in(tree, 2)
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
        if not self._numbered:  # as in most messages
            return make(items)
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

    def is_promise(self, value: object) -> bool:
        """Returns whether a value is not known yet."""
        return type(value) is Promise

    def has_references(self) -> bool:
        """Returns whether any was met so far; without them there are no promises."""
        return bool(self._numbered)

    def known(self, items: list[Any]) -> list[Any]:
        """Returns items with each promise that was kept in the meantime replaced by its value."""
        return [item.value if type(item) is Promise and item.known else item for item in items]

    # What dicts and sets cost

    def check_keys(self, keys: list[Any]) -> None:
        """Refuses keys of a dict or set that cannot be hashed, or that make it quadratic.

        Integers of the wire reach 2**448 and hash modulo 2**61 - 1, so that a peer can choose
        thousands of keys that share one hash.
        """
        for key in keys:
            if type(key) not in _PLAIN_KEYS:
                self._check_hash(key)
        bound = self._limits.hash_collisions
        if len(keys) <= bound or len(keys) - len(set(map(hash, keys))) < bound:
            return
        self._check_collisions(Counter(map(hash, keys)).most_common(1)[0][1])

    def late_keys(self, keys: list[Any]) -> Callable[[Any], None]:
        """Returns what checks each key that is known only after a dict or set has others.

        Args:
            keys: Those that it has.
        """
        hashes = Counter(map(hash, keys))

        def check(key: Any) -> None:
            self._check_hash(key)
            hashes[hash(key)] += 1
            self._check_collisions(hashes[hash(key)])

        return check

    def _check_collisions(self, most: int) -> None:
        bound = self._limits.hash_collisions
        if most > bound:
            raise LimitExceeded(
                f"the peer sent {most} dict or set keys of one hash; {bound} are allowed"
            )

    def _check_hash(self, key: Any) -> None:
        if type(key) in _PLAIN_KEYS:
            return
        self._weigh(key)
        try:
            hash(key)
        except TypeError:
            kind = type(key).__name__
            raise InsecureJelly(f"a {kind} cannot be a key or a member of a set") from None

    def _weigh(self, key: Any) -> None:
        # A tuple of a tuple of a tuple, each held twice, takes 2**n steps to hash, and two
        # frozensets of that kind take as many to compare; and one large tuple may be the key of
        # any number of dicts. A message in which nothing is shared has no more to hash than it
        # has items.
        if type(key) in _PLAIN_KEYS or not (parts := hashed_parts(key)):
            return
        self._may_hash -= len(parts)
        if self._may_hash < 0:
            raise LimitExceeded("the peer sent keys that take too long to hash")
        for part in parts:
            self._weigh(part)


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


# Lists and tuples are read without a function for what they have in common: every frame here is
# paid for at each level of nesting.


def _list(u: Unjellier, tree: list[Tree], promise: Promise | None) -> list[Any]:
    made: list[Any] = []
    u.keep(promise, made)
    if len(tree) > _LONG and list not in set(map(type, tree)):
        made += tree[1:]  # numbers and bytes alone, which stay as they are
        return made
    for part in tree[1:]:
        item = u.unjelly(part) if type(part) is list else part
        if type(item) is Promise:
            u.when(item, partial(made.__setitem__, len(made)))
        made.append(item)
    return made


def _tuple(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    items: list[Any] = tree[1:]
    for index, part in enumerate(items):
        if type(part) is list:
            items[index] = u.unjelly(part)
    return u.once_known(items, tuple)


_LONG = 16  # items from which on it is quicker to ask first what a list holds
_PLAIN_KEYS = frozenset((bytes, str, int, float, bool, type(None)))


def _frozenset(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    def make(items: list[Any]) -> frozenset[Any]:
        u.check_keys(items)
        return frozenset(items)

    items: list[Any] = tree[1:]
    for index, part in enumerate(items):
        items[index] = u.unjelly(part)
    return u.once_known(items, make)


def _set(u: Unjellier, tree: list[Tree], promise: Promise | None) -> set[Any]:
    made: set[Any] = set()
    u.keep(promise, made)
    now = [u.unjelly(part) for part in tree[1:]]
    later = []
    if u.has_references():
        items = u.known(now)
        later = [item for item in items if type(item) is Promise]
        now = [item for item in items if type(item) is not Promise]
    u.check_keys(now)
    made.update(now)
    if later:
        check = u.late_keys(now)

        def add(item: Any) -> None:
            check(item)
            made.add(item)

        for item in later:
            u.when(item, add)
    return made


def _dictionary(u: Unjellier, tree: list[Tree], promise: Promise | None) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    u.keep(promise, made)
    keys: list[Any] = []
    values: list[Any] = []
    for pair in tree[1:]:
        if type(pair) is not list or len(pair) != 2:
            raise InsecureJelly("a dictionary is made of pairs")
        key, value = pair
        keys.append(u.unjelly(key) if type(key) is list else key)
        values.append(u.unjelly(value) if type(value) is list else value)
    if u.has_references():
        _fill_when_known(u, made, u.known(keys), u.known(values))
    else:
        u.check_keys(keys)
        made.update(zip(keys, values, strict=True))
    return made


def _fill_when_known(
    u: Unjellier, made: dict[Any, Any], keys: list[Any], values: list[Any]
) -> None:
    now = [key for key in keys if type(key) is not Promise]
    u.check_keys(now)
    check = u.late_keys(now) if len(now) < len(keys) else None

    def put(pair: list[Any]) -> None:
        made[pair[0]] = pair[1]

    def check_and_put(pair: list[Any]) -> None:
        if check is not None:
            check(pair[0])
        put(pair)

    for key, value in zip(keys, values, strict=True):
        if type(key) is Promise:
            u.once_known([key, value], check_and_put)
        elif type(value) is Promise:
            made[key] = None  # keeps its place in the order
            u.once_known([key, value], put)
        else:
            made[key] = value


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
    return Decimal(f"{value}E{exponent}")


def _remote(u: Unjellier, tree: list[Tree], promise: Promise | None) -> RemoteReference:
    luid = number_in(tree, 2)
    if u.refs is None:
        raise InsecureJelly("a reference can only be read from a connection")
    ref = u.refs.borrow(luid, u.perspective)
    u.count(luid)
    return ref


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


def _persistent(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    if u.load is None:
        raise InsecureJelly("persistent is not allowed here: there is no persistentLoad")
    known = u.unjelly(tree[1]) if len(tree) == 2 else None
    if type(known) not in (int, bytes, str):
        raise InsecureJelly("malformed persistent: an id is an integer, bytes or text")
    return u.load(known, u)


def _failure(u: Unjellier, tree: list[Tree], promise: Promise | None) -> CopiedFailure:
    state = u.unjelly(tree[1]) if len(tree) == 2 else None
    return failure_from_state(state)


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
    if type(state) is not dict:
        raise InsecureJelly(f"a {type(state).__name__} where a dict was due")
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
    b"reference": Unjellier.reference,
    b"dereference": Unjellier.dereference,
    b"remote": _remote,
    b"local": _local,
    b"cached": read_cached,
    b"lcache": read_lcache,
    b"unpersistable": _unpersistable,
    b"persistent": _persistent,
    b"class": read_class,
    b"module": read_module,
    b"function": read_function,
    b"method": read_method,
    b"instance": read_old_instance,
    FAILURE_TAG: _failure,
    **EXTRA_READERS,
}
