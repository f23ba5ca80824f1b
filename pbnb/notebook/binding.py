"""Widgets in step with live copies: ``pb.bind`` and ``pb.view``."""

from __future__ import annotations

import asyncio
import logging
import reprlib
from collections.abc import Callable
from html import escape
from typing import Any

from ipywidgets import HTML  # type: ignore[import-untyped]  # it ships no types
from traitlets import HasTraits, TraitError

from ..aio.threads import running_loop
from ..failure import Failure, shown
from ..flavors import RemoteCache
from .blocking import notebook_loop

__all__ = ["Binding", "bind", "view"]

log = logging.getLogger("pbnb")

# Seconds between two looks at a copy, and between two values that are sent.
_PACE = 0.1
_FIELDS = 200
_WORD = 200


class Binding:
    """A field of a live copy and a widget, each of which follows the other.

    Changes at the owner appear in the widget, the last of them ten times a second. What the
    user sets in the widget is sent, one value at a time and always the newest; until the owner
    has answered the widget keeps what the user has set.

    Args:
        cache: The copy.
        field: The name of its attribute.
        widget: The widget; its ``value`` follows.
        send: Called with each new value of the widget, to tell the owner, such as
            ``ref.remoteMethod("set_gain")``. None makes it follow only.

    Attributes:
        active: Whether they are kept in step.
    """

    def __init__(
        self,
        cache: RemoteCache,
        field: str,
        widget: HasTraits,
        send: Callable[[Any], Any] | None = None,
    ) -> None:
        if not hasattr(cache, field):
            raise AttributeError(f"this {type(cache).__name__} has no field {field!r}")
        self.active = True
        self._cache = cache
        self._field = field
        self._widget: Any = widget
        self._send = send
        self._loop = notebook_loop("pb.bind")
        self._unsent: list[Any] = []
        self._sending: asyncio.Future[None] | None = None
        self._following = False
        widget.observe(self._on_widget, "value")
        if running_loop() is self._loop:
            self._step()
        else:
            self._loop.call_soon_threadsafe(self._step)

    def stop(self) -> None:
        """Ends it; both keep what they have."""
        if self.active:
            self.active = False
            self._widget.unobserve(self._on_widget, "value")

    def _step(self) -> None:
        if not self.active:
            return
        if getattr(getattr(self._cache, "_pb_home", (None,))[0], "lost", False):
            # Nothing comes any more, and nothing that is set would arrive.
            if self._widget.has_trait("disabled"):
                self._widget.disabled = True
            self.stop()
            return
        if not self._unsent and self._sending is None:
            self._follow()
        self._loop.call_later(_PACE, self._step)

    def _follow(self) -> None:
        value = getattr(self._cache, self._field, None)
        if _same(value, self._widget.value):
            return
        self._following = True
        try:
            self._widget.value = value
        except TraitError as error:  # a value that this widget cannot show
            log.warning("%s cannot show %s: %s", type(self._widget).__name__, self._field, error)
            self.stop()
        finally:
            self._following = False

    def _on_widget(self, change: Any) -> None:
        # In the thread of the widget's messages, which may be another one.
        if self._following or self._send is None:
            return
        self._unsent = [change["new"]]
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._sending is None and self.active:
            self._sending = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        assert self._send is not None
        try:
            while self._unsent and self.active:
                value = self._unsent.pop()
                try:
                    told = self._send(value)
                    if hasattr(type(told), "__await__"):
                        await told
                except Exception as error:
                    # The widget goes back to what the owner has.
                    text = shown(Failure(error).getErrorMessage()[:_WORD])
                    log.warning("%s was not set: %s", self._field, text)
                await asyncio.sleep(_PACE)
        finally:
            self._sending = None


def bind(
    cache: RemoteCache,
    field: str,
    widget: HasTraits,
    send: Callable[[Any], Any] | None = None,
) -> Binding:
    """Keeps a widget and a field of a live copy in step.

    Args:
        cache: The copy.
        field: The name of its attribute.
        widget: Any widget with a ``value``.
        send: Tells the owner of each new value, such as ``ref.remoteMethod("set_gain")``; where
            it is None the widget only follows.

    Returns:
        The binding; ``stop()`` ends it.

    Raises:
        AttributeError: The copy has no such field.
    """
    return Binding(cache, field, widget, send)


def view(cache: RemoteCache) -> HTML:
    """Returns a widget that shows the fields of a live copy, and follows their changes.

    Args:
        cache: The copy.
    """
    widget = HTML(value=_table(cache))
    loop = notebook_loop("pb.view")

    def step() -> None:
        if widget.comm is None:
            return  # it was closed
        # One message for all that has changed: nobody sees half of a change.
        widget.value = _table(cache)
        if not getattr(getattr(cache, "_pb_home", (None,))[0], "lost", False):
            loop.call_later(_PACE, step)

    loop.call_soon_threadsafe(loop.call_later, _PACE, step)
    return widget


def _table(cache: RemoteCache) -> str:
    fields = list(vars(cache).items())
    rows = "".join(
        f"<tr><td>{_safe(name)}</td><td>{_safe(_brief(value))}</td></tr>"
        for name, value in fields[:_FIELDS]
    )
    more = f"<tr><td>and {len(fields) - _FIELDS} more</td></tr>" if len(fields) > _FIELDS else ""
    return f"<table><caption>{_safe(type(cache).__name__)}</caption>{rows}{more}</table>"


def _brief(value: object) -> str:
    if isinstance(value, str):
        return value[: _WORD + 1]
    try:
        return reprlib.repr(value)
    except Exception:  # the repr of a class that the user wrote
        return f"a {type(value).__name__}"


def _safe(text: str) -> str:
    return escape(shown(text, _WORD))


def _same(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # arrays are neither equal nor different as a whole
        return False
