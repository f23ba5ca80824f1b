"""What bytes of PB's wire mean, whichever way they are read."""

from __future__ import annotations

from typing import Any

from pbnb.errors import InsecureJelly, LimitExceeded, RemoteProtocolError
from pbnb.jelly.unjelly import unjelly
from pbnb.protocol.dialects import PBDialect
from pbnb.wire.banana import NEED_DATA, Decoder
from pbnb.wire.dialect import Dialect
from pbnb.wire.frames import Expression


def meanings(reader: Decoder | Dialect, parts: list[bytes]) -> list[str]:
    """Returns what bytes say that come in parts, and the error that ends it, as text."""
    said = []
    for part in parts:
        reader.feed(part)
        try:
            while (message := reader.next()) is not NEED_DATA:
                said.append(repr(_meaning(message, isinstance(reader, PBDialect))))
        except RemoteProtocolError as error:
            return [*said, repr(error)]
    return said


def _meaning(message: Any, has_plain: bool) -> Any:
    """Returns a message with its values, whether they came as trees or as they are."""
    if type(message) is not list:
        return message
    bare = [each.tree if isinstance(each, Expression) else each for each in message]
    is_call = len(message) == 7 and message[0] == b"message"
    if not is_call and not (len(message) == 3 and message[0] == b"answer"):
        return bare
    first = 5 if is_call else 2
    values = []
    for part, tree in zip(message[first:], bare[first:], strict=True):
        try:
            value = part if has_plain and part is tree else unjelly(tree)
        except (InsecureJelly, LimitExceeded) as error:
            value = error
        values.append(tuple(value) if is_call and type(value) is list else value)
    head = [each.decode("utf-8", "replace") if type(each) is bytes else each for each in message]
    return [*head[:first], *values]
