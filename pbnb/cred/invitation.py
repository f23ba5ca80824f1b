"""An invitation: one line that says where a server is, how to know it, and what opens it.

::

    pbnb:192.0.2.7:8789,key=<fingerprint>,token=<token>
    pbnb:unix:/run/user/1000/desk.sock,token=<token>

The address comes first. ``key`` is the SHA-256 of the server's public key (of its
SubjectPublicKeyInfo, RFC 5280, section 4.1), in base64 for URLs without padding, as pins of keys
are written; a server without TLS has none. ``token`` is what logs in, where a login is asked
for. Whatever could end a word or a line, or mean something to IPython, is written ``%XX``.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from ..cards import card
from ..failure import shown
from .secret import Secret

__all__ = ["Invitation"]

_SCHEME = "pbnb:"
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
# So much of a key is shown where it stands for the whole.
_SHORT = 8
_LONGEST = 2000
_NO_INVITATION = "that is no invitation: it has to be the whole line, pbnb:ADDRESS,key=…,token=…"


class Invitation:
    """Where a server is, how to know it, and the token that opens it.

    Neither its repr nor its text holds the token; `reveal` returns the line that does.

    Args:
        address: ``host:port``, or ``unix:`` and a path.
        key: The fingerprint of the server's key, or None where there is no TLS.
        token: What logs in, or None where no token does.

    Attributes:
        address: The address.
        key: The fingerprint, or None.
        token: The token, or None; its repr is hidden.
    """

    __slots__ = ("address", "key", "token")

    def __init__(self, address: str, key: str | None = None, token: str | None = None) -> None:
        self.address = address
        self.key = key
        self.token = None if token is None else Secret(token)

    @classmethod
    def of(cls, address: str | Invitation, token: str | None = None) -> Invitation:
        """Returns what is known of a server of which somebody was told.

        Args:
            address: A line, an invitation, or an address alone.
            token: What logs in, where that was told by itself.

        Raises:
            ValueError: It begins as a line and is none.
            TypeError: There are two tokens.
        """
        if isinstance(address, str):
            address = cls.parse(address) if cls.is_line(address) else cls(str(address))
        if token is None:
            return address
        if address.token is not None:
            raise TypeError("the invitation holds a token already: leave out token=")
        return cls(address.address, address.key, token)

    @staticmethod
    def is_line(text: str) -> bool:
        """Returns whether a text is meant as the line of an invitation."""
        return text.strip().startswith(_SCHEME)

    @classmethod
    def parse(cls, line: str) -> Invitation:
        """Returns the invitation that a line says.

        Args:
            line: What `reveal` has returned.

        Raises:
            ValueError: It is no such line. The text quotes nothing of it.
        """
        address, parts = _split(line.strip())
        if not address or parts is None or not parts.keys() <= {"key", "token"}:
            raise ValueError(_NO_INVITATION)
        key = parts.get("key")
        if key is not None and not _KEY.fullmatch(key):
            raise ValueError("the key of that invitation is not whole: copy the line again")
        return cls(address, key, parts.get("token"))

    def reveal(self) -> Secret:
        """Returns the line. ``print`` shows it; the output of a cell does not."""
        return Secret(self._line(self.key, None if self.token is None else quote(self.token, "")))

    def _line(self, key: str | None, token: str | None) -> str:
        line = _SCHEME + quote(self.address, "/:[]@._~+-")
        return line + (f",key={key}" if key else "") + (f",token={token}" if token else "")

    def __str__(self) -> str:
        key = None if self.key is None else f"{self.key[:_SHORT]}…"
        return shown(self._line(key, None if self.token is None else "…"), None)

    def __repr__(self) -> str:
        return f"<Invitation {self}>"

    def _repr_html_(self) -> str:
        key = "" if self.key is None else f"{self.key[:_SHORT]}…"
        token = "" if self.token is None else "hidden"
        return card("Invitation", to=shown(self.address, None), key=key, token=token)


def _split(line: str) -> tuple[str, dict[str, Secret] | None]:
    """Returns the address and the named parts of a line; None for parts that make no sense."""
    if not line.startswith(_SCHEME) or len(line) > _LONGEST or not line.isascii():
        return "", None
    address, *words = line.removeprefix(_SCHEME).split(",")
    parts: dict[str, Secret] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in parts or not value:
            return "", None
        parts[name] = Secret(unquote(value))
    return unquote(address), parts
