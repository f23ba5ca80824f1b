"""The record of one connection's calls: what failed, and while somebody watches, everything."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..cred import Guest, Session
from ..failure import CopiedFailure, Failure, shown
from ..jelly.extras import ABOUT_NAME, About
from ..protocol.events import CallReceived, PendingCall
from ..protocol.snapshot import LogRow, kind_of, target_of

__all__ = ["CallLog", "reason", "user_of"]

# Rows that are kept, and the longest name and the longest reason in one.
_ROWS = 200
_NAME = 80
_REASON = 300


class CallLog:
    """What ended on a connection, the last rows of it.

    Args:
        clock: Tells the time.

    Attributes:
        rows: The rows, the oldest first.
        watchers: How many watch: calls that succeed are recorded only for them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.rows: deque[LogRow] = deque(maxlen=_ROWS)
        self.watchers = 0
        self._clock = clock
        self._number = 0
        self._began: dict[int, tuple[CallReceived, float]] = {}

    def began(self, call: CallReceived) -> None:
        """Notes when a call of the peer's began.

        Args:
            call: The call. One that wants no answer has no end that could be seen.
        """
        if not self.watchers or isinstance(call.target, About):
            return
        if call.wants_answer:
            # Its identity, and not the peer's number for it, which may be anything; the entry
            # keeps it alive.
            self._began[id(call)] = (call, self._clock())
        else:
            self.add(True, call.name, target_of(call.target), None, None)

    def replied(self, call: CallReceived, error: str | None = None) -> None:
        """Records that a call of the peer's has been answered.

        Args:
            call: The call.
            error: Why it failed.
        """
        if isinstance(call.target, About):
            return
        _, since = self._began.pop(id(call), (None, None))
        if error is not None or self.watchers:
            self.add(True, call.name, target_of(call.target), since, error)

    def answered(self, call: PendingCall, error: str | None = None) -> None:
        """Records that a call of ours has been answered.

        Args:
            call: The call.
            error: Why it failed.
        """
        # What connections ask each other is not what their users have asked.
        if (error is not None or self.watchers) and call.ref.luid != ABOUT_NAME:
            self.add(False, call.name, target_of(call.ref), call.since, error)

    def add(
        self, incoming: bool, method: str, target: str, since: float | None, error: str | None
    ) -> None:
        """Adds a row.

        Args:
            incoming: Whether the peer made the call, or did what was wrong.
            method: The method's name, or ``""``.
            target: What was called, safe to show.
            since: When it began, or None where that is not known.
            error: Why it failed, or None.
        """
        now = self._clock()
        self._number += 1
        self.rows.append(
            LogRow(
                self._number,
                now,
                incoming,
                shown(method, _NAME),
                target,
                None if since is None else now - since,
                None if error is None else shown(error, _REASON),
            )
        )

    def unwatch(self) -> None:
        """Takes one watcher back."""
        self.watchers -= 1
        if not self.watchers:
            self._began.clear()


def reason(failure: Failure) -> str:
    """Returns the name and the beginning of the message of a failure; not safe to show yet.

    Args:
        failure: The failure. A peer's may be megabytes long.
    """
    # A copied message is cut before it is looked at.
    long = isinstance(failure, CopiedFailure)
    message = str(failure.value)[:_REASON] if long else failure.getErrorMessage()
    return f"{failure.type_name[:_NAME].rpartition('.')[2]}: {message[:_REASON]}"


def user_of(session: Session) -> str:
    """Returns who has logged in, safe to show; runs nothing of the avatar's.

    Args:
        session: What was logged in to.
    """
    who = session.avatar_id
    if isinstance(who, Guest):
        who = who.name
    if isinstance(who, bytes):
        who = who[: _NAME + 1].decode("utf-8", "replace")
    return shown(who, _NAME) if isinstance(who, str) and who else kind_of(session.avatar)
