"""The protocol machine of one connection: bytes in, events out; no sockets, no event loop.

After the opening (`pbnb.protocol.handshake`) both ends are equal. Every message is a list that
begins with a command::

    ["version", 6]
    ["message", request, object, name, wants answer, args, keywords]
    ["answer", request, value]        ["error", request, failure]
    ["decref", luid]                  one sending of an object is no longer held
    ["cachemessage", request, cache, name, wants answer, args, keywords]
    ["decache", luid]                 one sending of a live copy is no longer held
    ["uncache", luid]                 the owner has stopped observing, drop the copy
    ["didNotUnderstand", command]

``request`` is 1, 2, 3… for each sender; the answer repeats it. ``object`` is a luid that this
side lent, or a name such as ``"root"``. ``name`` is UTF-8; ``args`` a jellied tuple and
``keywords`` a jellied dictionary, each with sharing of its own.

To its dialect the machine gives arguments, keywords and answers as they are, where they are plain,
and jellied, as an `Expression`, where they are not; and so it gets them (`pbnb.protocol.dialects`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from traceback import clear_frames
from typing import Any

from ..errors import (
    DeadReferenceError,
    Error,
    InsecureJelly,
    LimitExceeded,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
)
from ..failure import CopiedFailure, Failure
from ..flavors import (
    AsReferenceable,
    Copyable,
    Jellyable,
    Referenceable,
    RemoteCache,
    ViewPoint,
)
from ..jelly.copies import LARGEST_NUMBER
from ..jelly.extras import ABOUT, ABOUT_NAME, EXTRA_TYPES, PeerNotAsked
from ..jelly.failures import FAILURE_TAG, failure_state, shown_tag
from ..jelly.jelly import Jellier, is_lent
from ..jelly.security import FAILURES_ALLOWED, SecurityOptions, global_security
from ..jelly.unjelly import READERS, Unjellier, text_keys
from ..limits import Limits
from ..refs import CachedRemotely, Loan, Observer, Peer, Refs, RemoteReference
from ..wire.banana import NEED_DATA, Tree
from ..wire.dialect import Dialect
from ..wire.frames import Expression
from .events import (
    AnswerReceived,
    CallReceived,
    CallRefused,
    ConnectionBroken,
    Ended,
    ErrorReceived,
    Event,
    NotUnderstood,
    ObjectReleased,
    ObservingStopped,
    Opened,
    PendingCall,
)
from .handshake import VERSION, Handshake

__all__ = ["Broker"]

ROOT = b"root"


class Broker:
    """One end of a connection.

    Args:
        peer: What borrowed references call through: whoever owns this broker.
        listening: Whether this is the side that listened for the connection.
        root: The object offered to the peer as its root, or None.
        limits: What the peer may cost.
        security: What may come in.
        guarded: Hold the peer to `Limits.before_login` until `admit_peer` is called.
        dialects: Names of the dialects to speak, in the order of preference.
        unsafe_tracebacks: Send tracebacks with failures.
        note: Called, from any thread, when `release_borrowed` has something to do.

    Attributes:
        refs: The tables of what is lent and borrowed.
        pending: The calls that wait for an answer, by their request numbers.
        dialect: The name of the dialect that was agreed on, or None before.
        wire: The dialect that is spoken now. It knows of parts of large messages that are to be
            written when what is queued was, and where the next bytes are wanted.
        broken: Whether the peer broke the protocol, so that nothing more can be read.
        out: The buffers that wait to be written, in order; whoever writes them takes them out.
        peer_types: Which types of `pbnb.jelly.extras` the peer reads; None until it was asked.
    """

    __slots__ = (
        "__weakref__",
        "_allowed",
        "_handshake",
        "_last_request",
        "_note",
        "_plain",
        "_reads_plain",
        "_released",
        "_unsafe_tracebacks",
        "broken",
        "closed",
        "dialect",
        "limits",
        "out",
        "peer_types",
        "pending",
        "refs",
        "security",
        "wire",
    )

    def __init__(
        self,
        peer: Peer,
        *,
        listening: bool,
        root: Referenceable | None = None,
        limits: Limits | None = None,
        guarded: bool = False,
        security: SecurityOptions | None = None,
        dialects: Sequence[str] = ("pb", "none"),
        unsafe_tracebacks: bool = False,
        note: Callable[[], object] = lambda: None,
    ) -> None:
        self.limits = limits or Limits()
        self.security = security or global_security
        self._allowed = self.limits.before_login() if guarded else self.limits
        self.refs = Refs(peer, self._allowed.references, note)
        self.pending: dict[int, PendingCall] = {}
        self.peer_types: frozenset[bytes] | None = None
        self.dialect: str | None = None
        self.broken = False
        self.closed = False
        self._unsafe_tracebacks = unsafe_tracebacks
        self._note = note
        self._last_request = 0
        self._released: list[object] = []
        self.out: list[Any] = []
        # Whether plain values are written, and read, as they are.
        self._plain = self._reads_plain = False
        self._handshake: Handshake | None = Handshake(
            dialects, listening=listening, limits=self.limits
        )
        self.wire: Dialect = self._handshake.decoder
        self.out.append(self._handshake.greeting())
        if root is not None:
            self.refs.named[ROOT] = root

    # Bytes

    def receive_data(self, data: bytes) -> None:
        """Stores bytes from the peer; `next_event` says what they mean."""
        if self.broken or self.closed:
            return
        self.wire.feed(data)

    def room(self) -> memoryview | None:
        """Returns where the next bytes are wanted, in place of `receive_data`, if anywhere."""
        return None if self.broken or self.closed else self.wire.room()

    def filled(self, count: int) -> None:
        """Counts bytes that were received into the last `room`."""
        self.wire.filled(count)

    def next_event(self) -> Event | None:
        """Returns what happened next, or None when more bytes are needed.

        It may be called again while an event is still being handled, as a nested event loop does.
        """
        while not (self.broken or self.closed):
            if self._released:
                return ObjectReleased(self._released.pop(0))
            wire = self.wire
            if not wire.readable:
                if wire.replies:
                    self.out += wire.replies
                    wire.replies = ()
                return None
            try:
                if self._handshake is not None:
                    return self._open()
                tree = wire.next()
                if tree is not NEED_DATA and (event := self._receive(tree)) is not None:
                    return event
            except ProtocolError as error:
                self.broken = True
                return ConnectionBroken(error)
        return None

    @property
    def drained(self) -> bool:
        """Whether it is known that `next_event` has nothing to say until more bytes come."""
        wire = self.wire
        return not (wire.readable or wire.replies or self._released)

    def data_to_send(self) -> list[Any]:
        """Returns the buffers to write, in order, and forgets them."""
        out = self.out
        self.out = []
        return out

    def share(self, written: Callable[[], object]) -> None:
        """Lets large values lie in memory that both ends reach, where they seem to have some.

        Args:
            written: Called when `trim` will have something to give back.
        """
        self.wire.share(self._note, written)

    def trim(self) -> bool:
        """Gives shared memory back that was not in use lately; returns whether there is more."""
        return self.wire.trim()

    def _open(self) -> Opened | None:
        assert self._handshake is not None
        agreed = self._handshake.next()
        if agreed is None:
            return None
        self.wire, reply = agreed
        self.wire.limits = self._allowed
        self._handshake = None
        self.dialect = self.wire.name.decode("ascii")
        # What a persistentStore keeps is its owner's affair, whatever it is.
        self._plain = self.security.persistentStore is None
        self._reads_plain = self.security.allows_plain()
        self.out.append(reply)
        self._send([b"version", VERSION])
        return Opened(self.dialect)

    def _send(self, tree: list[Any], ordered: bool = False) -> None:
        self.out += self.wire.encode(tree, ordered)

    def admit_peer(self) -> None:
        """Lifts the tighter limits that hold before a login."""
        self._allowed = self.limits
        self.refs.limit = self.limits.references
        self.wire.limits = self.limits

    # Calls of ours

    def call(
        self,
        ref: RemoteReference,
        name: str,
        args: tuple[Any, ...],
        kw: dict[str, Any],
        *,
        wants_answer: bool = True,
    ) -> PendingCall | None:
        """Sends a call.

        Returns:
            The entry that waits for the answer; None when none is wanted.

        Raises:
            DeadReferenceError: The connection has ended.
            InsecureJelly: An argument may not be sent.
            BananaError: An argument does not fit the wire.
        """
        if self.closed or self.broken:
            raise DeadReferenceError("Calling Stale Broker")
        if self._handshake is not None:
            raise LocalProtocolError(f"{name}() was called before the connection was open")
        luid = ref.luid
        if self._plain:
            request_id = self._last_request + 1
            message = [b"message", request_id, luid, name, int(wants_answer), args, kw]
            frames = self.wire.call(message)
            if frames is not None:
                self.out += frames
                self._last_request = request_id
                if not wants_answer:
                    return None
                call = self.pending[request_id] = PendingCall(request_id, ref, name)
                return call
        return self._call_jellied(b"message", ref, luid, name, args, kw, wants_answer)

    def call_cache(
        self, cached: CachedRemotely, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> PendingCall:
        """Sends a call to the peer's live copy of an object.

        Raises:
            DeadReferenceError: The connection has ended.
            InsecureJelly: An argument may not be sent.
            BananaError: An argument does not fit the wire.
        """
        if self.closed or self.broken:
            raise DeadReferenceError("Calling Stale Broker")
        observer, luid = cached.observer, cached.luid
        call = self._call_jellied(b"cachemessage", observer, luid, name, args, kw, True)
        assert call is not None
        return call

    def _call_jellied(
        self,
        command: bytes,
        ref: RemoteReference | Observer,
        luid: int | bytes,
        name: str,
        args: tuple[Any, ...],
        kw: dict[str, Any],
        wants_answer: bool,
    ) -> PendingCall | None:
        loan = self.refs.loan()
        # In a call, unlike in an answer, a type that the peer does not know is an error of that
        # call alone: nobody has to be asked first.
        types = EXTRA_TYPES if self.peer_types is None else self.peer_types
        try:
            args_tree: Tree = [b"tuple"]
            kw_tree: Tree = [b"dictionary"]
            if args:
                args_tree = self._jelly(args, loan, ref.perspective, types)
            if kw:
                kw_tree = self._jelly(kw, loan, ref.perspective, types)
            # Jellying runs the user's code, which may call too: only now is the number ours.
            request_id = self._last_request + 1
            wire_name = name.encode("utf-8")
            wants = int(wants_answer)
            ordered = loan.names or not wants_answer or command == b"cachemessage"
            head = [command, request_id, luid, wire_name, wants]
            self._send([*head, Expression(args_tree), Expression(kw_tree)], ordered)
        except Exception as error:
            loan.abandon(error)
            raise
        # Pinned until the answer is decoded: a peer that returns an argument may send its
        # decref before the answer that names it.
        pinned = loan.commit(pin=wants_answer)
        self._last_request = request_id
        if not wants_answer:
            return None
        call = self.pending[request_id] = PendingCall(request_id, ref, name, pinned)
        return call

    def drop_call(self, call: PendingCall) -> bool:
        """Gives a call up whose arguments are on their way; returns whether there was still time.

        The peer never sees it, and there will be no answer.
        """
        frames = self.wire.drop((b"message", call.request_id))
        if frames is None or self.pending.get(call.request_id) is not call:
            return False
        self.out += frames
        del self.pending[call.request_id]
        self._released += self.refs.unpin(call.pinned)
        return True

    def release_borrowed(self) -> None:
        """Tells the peer of every reference that is gone here."""
        for command, luid, count in self.refs.released():
            if not (self.closed or self.broken):
                for _ in range(count):
                    self._send([command, luid])
        if self._handshake is None and not (self.closed or self.broken):
            self.out += self.wire.released()

    # Answers of ours

    def answer(
        self, request_id: Any, value: object, perspective: object = None, may_ask: bool = False
    ) -> Failure | None:
        """Sends what a method returned, or the reason why that cannot be sent.

        Args:
            request_id: Of the call that is answered.
            value: What the method returned.
            perspective: The avatar that the call was made as.
            may_ask: Leave the call unanswered where `peer_types` has to be known first.

        Returns:
            The failure that was sent in its place, or None.

        Raises:
            PeerNotAsked: `may_ask` was given, and the peer has to be asked for its types.
        """
        if self.closed or self.broken:
            return None  # nobody is left to read it, and nothing may enter a table any more
        lent = value if isinstance(value, Referenceable) and is_lent(value) else None
        if self._plain and lent is None:
            try:
                frames = self.wire.answer(request_id, value)
            except Exception:
                frames = None  # what follows says in whose name it fails
            if frames is not None:
                self.out += frames
                return None
        loan = self.refs.loan()
        try:
            tree: Tree
            if self._plain and lent is not None:
                tree = [b"remote", loan.lend(lent)]
            else:
                tree = self._jelly(value, loan, perspective, self.peer_types)
            self._send([b"answer", request_id, Expression(tree)], loan.names)
        except Exception as error:  # the state of an object comes from its owner's code
            loan.abandon(error)
            if may_ask and isinstance(error, PeerNotAsked):
                raise
            failure = Failure.of(error)
            self.fail(request_id, failure)
            return failure
        loan.commit()
        return None

    def drop_answer(self, request_id: int) -> bool:
        """Sends a failure in place of an answer that is on its way, if there is one."""
        frames = self.wire.drop((b"answer", request_id))
        if frames is None:
            return False
        self.out += frames
        self.fail(request_id, Failure(Error("the answer was given up: its call was cancelled")))
        return True

    def fail(self, request_id: Any, failure: Failure) -> None:
        """Sends a failure as the answer to a call.

        Args:
            request_id: Of the call that failed.
            failure: Why; an exception whose class is allowed travels as itself.
        """
        if self.closed or self.broken:
            return
        loan = self.refs.loan()
        try:
            tree = Expression(self._failure_tree(failure, loan))
            self._send([b"error", request_id, tree], loan.names)
        except Exception as error:  # as above; this one always fits
            loan.abandon(error)
            text = f"{failure.getErrorMessage()[:200]} (the failure itself could not be sent)"
            substitute = CopiedFailure(
                type=_type_name(failure), value=text, traceback="", parents=failure.parents[:20]
            )
            tree = Expression(self._failure_tree(substitute, self.refs.loan()))
            self._send([b"error", request_id, tree])
        else:
            loan.commit()

    def _failure_tree(self, failure: Failure, loan: Loan) -> Tree:
        value = failure.value
        if isinstance(value, (Copyable, Jellyable)) or self.security.isClassAllowed(type(value)):
            return self._jelly(value, loan, None, self.peer_types)
        state = failure_state(failure, self._unsafe_tracebacks)
        return [FAILURE_TAG, self._jelly(state, loan, None)]

    def _jelly(
        self,
        value: object,
        loan: Loan,
        perspective: object,
        types: frozenset[bytes] | None = EXTRA_TYPES,
    ) -> Tree:
        jellier = Jellier(
            loan,
            self.security,
            perspective,
            self.limits,
            peer_types=types,
            carries_memory=self.wire.carries_memory,
        )
        return jellier.write(value)

    def _unjelly(
        self, tree: Tree, perspective: object, security: SecurityOptions | None = None
    ) -> Any:
        unjellier = Unjellier(self.refs, security or self.security, perspective, self._allowed)
        try:
            return unjellier.read(tree)
        except Exception as error:
            # What the rest of the expression would have lent us is given back at once. What was
            # read of it must not live on in the locals of the error's traceback.
            clear_frames(error.__traceback__)
            self._give_back(tree, unjellier.borrowed)
            del unjellier
            if isinstance(error, (InsecureJelly, LimitExceeded)):
                raise
            if isinstance(error, RecursionError):
                raise LimitExceeded("the peer sent an expression nested too deep") from None
            raise InsecureJelly(f"a value could not be restored: {error}") from error

    def _unjelly_answer(self, tree: Tree, perspective: object) -> Any:
        if type(tree) is list and len(tree) == 2 and tree[0] == b"remote":
            # A reference and nothing else, as an answer often is.
            luid = tree[1]
            allowed = b"remote" in self.security.allowed
            if allowed and type(luid) is int and 0 < luid < LARGEST_NUMBER and self.refs.has_room:
                return self.refs.borrow(luid, perspective)
        return self._unjelly(tree, perspective)

    def _give_back(self, tree: Tree, kept: Mapping[int, int]) -> None:
        lent, copied, new = _lent_in(tree)
        for luid, count in lent.items():
            for _ in range(count - kept.get(luid, 0)):
                self._send([b"decref", luid])
        for luid in new:
            if not self.refs.caches.refuse(luid, self.refs.limit):
                del copied[luid]
        for luid, count in copied.items():
            if self.refs.caches.has(luid):
                for _ in range(count - kept.get(luid, 0)):
                    self._send([b"decache", luid])

    # Messages of the peer's

    def _receive(self, tree: Any) -> Event | None:
        try:
            handler, length = _COMMANDS[tree[0]]
        except (KeyError, TypeError, IndexError):
            if type(tree) is list and tree and type(tree[0]) is bytes:
                self._send([b"didNotUnderstand", tree[0]])
                return NotUnderstood(tree[0], by_peer=False)
            raise RemoteProtocolError(
                f"a message begins with a command, not {tree!r:.80}"
            ) from None
        if type(tree) is not list or len(tree) != length:
            raise RemoteProtocolError(
                f"{shown_tag(tree[0])} takes {length - 1} items, the peer sent {len(tree) - 1}"
            )
        return handler(self, tree)

    def _on_version(self, tree: list[Any]) -> None:
        if tree[1] != VERSION:
            raise RemoteProtocolError(f"the peer speaks version {tree[1]!r:.40}, not {VERSION}")

    def _on_message(self, tree: list[Any]) -> Event:
        _, request_id, luid, name, wants_answer, args, kw = tree
        target = self.refs.named.get(luid) if type(luid) is bytes else self.refs.find(luid)
        if target is None and luid == ABOUT_NAME:
            target = ABOUT
        if not isinstance(target, Referenceable):
            # Twisted's words, then ours.
            error = Error(f"Invalid Object ID: {luid!r:.40} is not lent to this peer")
            return self._refuse(tree, error, tree[5:])
        perspective = None
        if isinstance(target, _IN_SOMEBODY_S_NAME):
            perspective = target.perspective
        if self._reads_plain and type(args) is list and type(name) is str and kw == {}:
            # The usual call, of which there is nothing to check.
            return _new(
                CallReceived,
                (request_id, target, name, tuple(args), kw, wants_answer != 0, perspective),
            )
        return self._called(tree, target, perspective)

    def _on_cachemessage(self, tree: list[Any]) -> Event:
        try:
            _, master = self.refs.caches.copy(tree[2])
        except InsecureJelly as error:
            return self._refuse(tree, error, tree[5:])
        return self._called(tree, master, None)

    def _called(
        self, tree: list[Any], target: Referenceable | RemoteCache, perspective: object
    ) -> Event:
        _, request_id, _, name, wants_answer, args_tree, kw_tree = tree
        if type(name) is bytes:
            name = name.decode("utf-8", "replace")
        elif type(name) is not str:
            wrong = RemoteProtocolError("the name of a method is a byte string")
            return self._refuse(tree, wrong, tree[5:])
        unread = [kw_tree]
        try:
            args = self._arguments(args_tree, perspective)
            unread.clear()
            kw = self._keywords(kw_tree, perspective)
        except (InsecureJelly, ProtocolError) as error:
            return self._refuse(tree, error, unread)
        return CallReceived(request_id, target, name, args, kw, wants_answer != 0, perspective)

    def _refuse(self, tree: list[Any], error: Exception, unread: Sequence[Tree]) -> CallRefused:
        # The stream is in step: this call has failed, and nothing else.
        for part in unread:
            self._give_back(part, {})
        if tree[4] != 0:
            self.fail(tree[1], Failure.of(error))
        return CallRefused(shown_tag(tree[3]), error)

    def _arguments(self, tree: Any, perspective: object) -> tuple[Any, ...]:
        if type(tree) is list:
            if self._reads_plain or not tree:  # an empty tuple is allowed everywhere
                return tuple(tree)
            return self._read_plain(tuple(tree))  # type: ignore[no-any-return]
        tree = _tree_in(tree)
        if tree == [b"tuple"]:
            return ()
        args = self._unjelly(tree, perspective)
        if type(args) is not tuple:
            raise InsecureJelly(f"the arguments of a call are a tuple, not {type(args).__name__}")
        return args

    def _keywords(self, tree: Any, perspective: object) -> dict[str, Any]:
        if type(tree) is dict:
            if not tree:
                return {}
            return text_keys(tree if self._reads_plain else self._read_plain(tree))
        tree = _tree_in(tree)
        if tree == [b"dictionary"]:
            return {}
        kw = self._unjelly(tree, perspective)
        if type(kw) is not dict:
            raise InsecureJelly(f"the keywords of a call are a dict, not {type(kw).__name__}")
        return text_keys(kw)

    def _read_plain(self, value: Any) -> Any:
        """Returns a plain value that was received, as far as the security options allow."""
        self._reads_plain = self.security.allows_plain()
        if self._reads_plain:
            return value
        return self._unjelly(Jellier(None, self.security, None, self.limits).write(value), None)

    def _on_answer(self, tree: list[Any]) -> Event:
        request_id, value = tree[1], tree[2]
        call = self.pending.pop(request_id, None) if type(request_id) is int else None
        if call is None:
            raise _not_open(request_id)
        if self._reads_plain and type(value) is not Expression and not call.pinned:
            return _new(AnswerReceived, (call, value))
        try:
            if type(value) is Expression:
                value = self._unjelly_answer(value.tree, call.ref.perspective)
            elif not self._reads_plain:
                value = self._read_plain(value)
        except (InsecureJelly, LimitExceeded) as error:
            value = Failure.of(error)
        self._released += self.refs.unpin(call.pinned)
        if isinstance(value, Failure):
            return ErrorReceived(call, value)
        return AnswerReceived(call, value)

    def _on_error(self, tree: list[Any]) -> Event:
        request_id = tree[1]
        call = self.pending.pop(request_id, None) if type(request_id) is int else None
        if call is None:
            raise _not_open(request_id)
        failure = _tree_in(tree[2])
        is_failure = type(failure) is list and failure[:1] == [FAILURE_TAG]
        security = FAILURES_ALLOWED if is_failure else self.security
        try:
            value = self._unjelly(failure, call.ref.perspective, security)
        except (InsecureJelly, LimitExceeded) as error:
            value = error
        self._released += self.refs.unpin(call.pinned)
        return ErrorReceived(call, _as_failure(value))

    def _on_decref(self, tree: list[Any]) -> ObjectReleased | None:
        obj = self.refs.release(tree[1])
        return None if obj is None else ObjectReleased(obj)

    def _on_decache(self, tree: list[Any]) -> ObservingStopped | None:
        entry = self.refs.caches.decache(tree[1])
        if entry is None:
            return None
        self._send([b"uncache", entry.luid])
        return ObservingStopped(entry)

    def _on_uncache(self, tree: list[Any]) -> None:
        self.refs.caches.uncache(tree[1])

    def _on_did_not_understand(self, tree: list[Any]) -> NotUnderstood:
        return NotUnderstood(shown_tag(tree[1]).encode(), by_peer=True)

    # The end

    def close(self) -> Ended:
        """Ends the connection's state, and returns what ended with it."""
        self.closed = True
        if self._handshake is None:
            self.wire.close()
        ended = Ended(
            calls=tuple(self.pending.values()),
            observed=tuple(self.refs.caches.clear()),
            released=tuple(self.refs.clear()),
        )
        self.pending.clear()
        self.out.clear()
        return ended


_COMMANDS: dict[bytes, tuple[Callable[[Broker, list[Any]], Event | None], int]] = {
    b"message": (Broker._on_message, 7),
    b"answer": (Broker._on_answer, 3),
    b"error": (Broker._on_error, 3),
    b"decref": (Broker._on_decref, 2),
    b"version": (Broker._on_version, 2),
    b"cachemessage": (Broker._on_cachemessage, 7),
    b"decache": (Broker._on_decache, 2),
    b"uncache": (Broker._on_uncache, 2),
    b"didNotUnderstand": (Broker._on_did_not_understand, 2),
}


_IN_SOMEBODY_S_NAME = (ViewPoint, AsReferenceable)

# Makes an event, without the frame that a named tuple's own constructor takes.
_new = tuple.__new__


def _not_open(request_id: object) -> RemoteProtocolError:
    return RemoteProtocolError(f"the peer answered request {request_id!r:.40}, which is not open")


def _tree_in(part: Any) -> Tree:
    """Returns the expression of a part of a message, where it is one."""
    return part.tree if type(part) is Expression else part  # type: ignore[no-any-return]


def _as_failure(value: Any) -> Failure:
    if isinstance(value, Failure):
        return value
    if isinstance(value, Exception):
        return Failure.of(value)
    return CopiedFailure(
        type="twisted.spread.pb.Error",
        value=shown_tag(value),
        traceback="",
        parents=["twisted.spread.pb.Error"],
    )


def _type_name(failure: Failure) -> str:
    return failure.parents[0] if failure.parents else "builtins.Exception"


def _lent_in(tree: Tree) -> tuple[Counter[int], Counter[int], set[int]]:
    """Returns what an expression lends, which was refused half-way.

    Returns:
        How often each luid is lent, how often each live copy is sent, and which of those are new.
    """
    lent: Counter[int] = Counter()
    copied: Counter[int] = Counter()
    new: set[int] = set()
    waiting: list[Any] = [_tree_in(tree)]
    while waiting:
        part = waiting.pop()
        if type(part) is not list or not part:
            continue
        tag = part[0]
        if tag == b"dictionary":
            # A pair is no expression, even where its key is the word "remote".
            for pair in part[1:]:
                waiting.extend(pair if type(pair) is list else [])
            continue
        waiting.extend(part[1:])
        if len(part) < 2 or type(tag) is not bytes or type(part[1]) is not int:
            continue
        if not 0 < part[1] < LARGEST_NUMBER:
            continue
        if tag == b"remote":
            lent[part[1]] += 1
        elif tag == b"cached":
            copied[part[1]] += 1
        elif len(part) == 3 and tag not in READERS:
            copied[part[1]] += 1
            new.add(part[1])
    return lent, copied, new
