"""A login that has succeeded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..flavors import AsReferenceable, Serializable, Viewable, ViewPoint

__all__ = ["Session"]


class Session:
    """What somebody has logged in to; it ends once.

    A login method returns it to the connection, which sends `avatar` and calls `end` when the
    peer has let go of that, or is gone, or could not be sent it.

    Args:
        avatar: The avatar.
        logout: What to call at the end.
        avatar_id: Who it is, as the checker has it.

    Attributes:
        avatar_id: Who it is, as the checker has it.
        avatar: What the peer is given: the avatar, if it can be sent; or else a reference to its
            ``perspective_`` methods.
    """

    __slots__ = ("_logout", "avatar", "avatar_id")

    def __init__(self, avatar: Any, logout: Callable[[], Any], avatar_id: Any = None) -> None:
        # One reference for each login, so that each has an end of its own.
        self.avatar = _sendable(avatar)
        self.avatar_id = avatar_id
        self._logout: Callable[[], Any] | None = logout

    def end(self) -> Any:
        """Calls the logout, the first time; returns what it returns, perhaps an awaitable."""
        logout, self._logout = self._logout, None
        return None if logout is None else logout()


def _sendable(avatar: Any) -> Serializable:
    if isinstance(avatar, Viewable):
        return ViewPoint(None, avatar)  # made here, so that its release is known for the end
    if isinstance(avatar, Serializable):
        return avatar
    return AsReferenceable(avatar, "perspective")
