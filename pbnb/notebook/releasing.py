"""Where a kernel holds references, and how it lets go of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, MutableMapping
from typing import Any

from ..aio.connection import Connection
from ..aio.keeping import Keeper, KeptReference, keeper_of
from ..refs import RemoteReference

__all__ = ["Holders", "found_in", "release"]

# IPython's own variables for the last results. It keeps them, and all of Out, until it ends.
_LAST = ("_", "__", "___")


class Holders:
    """The variables of a notebook, and its results.

    Args:
        namespace: The notebook's variables; ``Out`` among them where there is one.
    """

    def __init__(self, namespace: MutableMapping[str, Any]) -> None:
        self._namespace = namespace

    def of(self, obj: object) -> list[str]:
        """Returns where an object is held: variables, then results such as ``Out[3]``.

        Args:
            obj: Any object. A reference stands for those that equal it, and a `Keeper` for
                the references that it keeps; anything else is itself alone.
        """
        variables = [
            name
            for name, value in list(self._namespace.items())
            if _is(value, obj) and not name.startswith("_")
        ]
        return [*variables, *(f"Out[{n}]" for n, value in self._out().items() if _is(value, obj))]

    def names(self) -> dict[Hashable, str]:
        """Returns where everything in the variables and results is held.

        Returns:
            Names, by the identity of what they hold; for a reference that of its connection, and
            the luid.
        """
        found: dict[Hashable, list[str]] = {}
        for name, value in list(self._namespace.items()):
            if not name.startswith("_"):
                found.setdefault(_key(value), []).append(name)
        for number, value in self._out().items():
            found.setdefault(_key(value), []).append(f"Out[{number}]")
        return {key: ", ".join(names[:5])[:120] for key, names in found.items()}

    def forget(self, obj: object) -> list[str]:
        """Deletes the variables and the results that hold an object.

        Args:
            obj: The object.

        Returns:
            Their names.
        """
        names = self.of(obj)
        for name, value in list(self._namespace.items()):
            if _is(value, obj):
                # The last results stay variables, as IPython expects.
                if name in _LAST:
                    self._namespace[name] = ""
                else:
                    del self._namespace[name]
        out = self._out()
        for number, value in list(out.items()):
            if _is(value, obj):
                del out[number]
        return names

    def _out(self) -> dict[Any, Any]:
        out = self._namespace.get("_oh")
        return out if isinstance(out, dict) else {}


def release(ref: RemoteReference, holders: Holders) -> str:
    """Gives an object back to the peer that owns it, whoever still holds the reference here.

    Args:
        ref: The reference; calls through it fail from now on.
        holders: What is to forget it.

    Returns:
        What was done, in a sentence.
    """
    connection = ref.broker
    keeper = _keeper_of(ref)
    if keeper is not None:
        what, names = repr(ref), holders.forget(keeper)
        keeper.disconnect()
        return f"released {what}, and ended its connection" + _held_by(names)
    if isinstance(ref.luid, bytes):
        return f"{ref!r} was lent by no call: end its connection to let go of it"
    names = holders.forget(ref)
    if isinstance(connection, Connection):
        connection.give_back(ref.luid)
    return f"released {ref!r}" + _held_by(names)


def _keeper_of(ref: RemoteReference) -> Keeper | None:
    if isinstance(ref.broker, Keeper):
        return ref.broker
    keeper = keeper_of(ref.broker) if isinstance(ref.broker, Connection) else None
    return keeper if keeper is not None and keeper.current == ref else None


def _key(value: object) -> Hashable:
    if isinstance(value, KeptReference):
        # In the tables of a connection stands what came by it.
        value = value.broker.current or value
    return (id(value.broker), value.luid) if isinstance(value, RemoteReference) else id(value)


def _held_by(names: list[str]) -> str:
    return f", held by {', '.join(names[:20])}" if names else ""


def _is(value: object, obj: object) -> bool:
    # All references that are kept by one keeper are the same to a user.
    if isinstance(value, KeptReference):
        return value is obj or value.broker is obj
    if isinstance(obj, RemoteReference):
        return isinstance(value, RemoteReference) and value == obj
    return value is obj


def found_in(namespace: Mapping[str, Any], name: str) -> object:
    """Returns the value of a variable, or of a result such as ``Out[3]`` or ``_3``.

    Args:
        namespace: The notebook's variables.
        name: What was written.

    Raises:
        KeyError: There is no such thing.
    """
    if name.startswith("Out[") and name.endswith("]") and name[4:-1].isdigit():
        return namespace["_oh"][int(name[4:-1])]
    return namespace[name]
