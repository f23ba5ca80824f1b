"""TLS: what both ends of an encrypted connection are set up with, and how they know each other.

Only TLS 1.3 is spoken. A server without a certificate of its user's makes a key for itself, which
lives as long as it does; those who connect know that by its fingerprint, which their invitation
holds. It is compared at the end of the handshake, inside of it: before that no byte of PB leaves.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .keys import SelfSigned

__all__ = [
    "END_POINT",
    "ServerContext",
    "WrongKey",
    "channel_of",
    "client_context",
    "server_context",
]

END_POINT = "tls-server-end-point:"
"""What `channel_of` begins with."""

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class WrongKey(ssl.SSLCertVerificationError):
    """The peer has another key than the fingerprint says."""


class ServerContext(ssl.SSLContext):
    """What a server speaks TLS with.

    Attributes:
        key: The fingerprint of its key.
        channel: What a login over its connections is bound to; see `channel_of`.
    """

    key: str
    channel: str


class _PinningContext(ssl.SSLContext):
    """What a client speaks TLS with, where it knows the server's key."""

    key: str
    fingerprint: Callable[[bytes], str]


class _PinnedObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        # It returns when the handshake is complete, and raises as long as it is not.
        super().do_handshake()
        context = self.context
        assert isinstance(context, _PinningContext)
        try:
            found = context.fingerprint(self.getpeercert(binary_form=True) or b"")
        except ValueError:
            found = ""
        if not hmac.compare_digest(found, context.key):
            raise WrongKey("the server has another key than its invitation says")


def server_context(
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    client_ca: str | os.PathLike[str] | None = None,
) -> ServerContext:
    """Returns what a server needs.

    Args:
        certfile: Its certificate, with those that lead to a CA, as PEM; one is made if None.
        keyfile: The key of that, if it is in a file of its own.
        client_ca: A file or directory of the CAs of clients, which then have to show a
            certificate; or None.

    Raises:
        ValueError: A file holds no such thing.
        OSError: A file cannot be read.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Nobody here resumes a session; each login is bound to a handshake that showed the key.
    context.num_tickets = 0
    if certfile is None:
        made = _keys().self_signed(datetime.now(UTC))
        text = made.certificate.decode("ascii")
        with _file_of(made) as path:
            context.load_cert_chain(path)
    else:
        _load(context, certfile, keyfile)
        text = Path(certfile).read_text("ascii", "replace")
    found = _PEM.search(text)
    assert found is not None  # or else loading it would have failed
    certificate = ssl.PEM_cert_to_DER_cert(found[0])
    context.key = _keys().fingerprint(certificate)
    context.channel = channel_of(certificate)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, client_ca)
    return context


def client_context(
    key: str | None = None,
    cafile: str | os.PathLike[str] | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
) -> ssl.SSLContext:
    """Returns what a client needs, who knows the server by its key, by a CA, or by both.

    Args:
        key: The fingerprint of the server's key.
        cafile: A file or directory of CAs, one of which vouches for the server and its name.
        certfile: The client's own certificate, where the server wants one, as PEM.
        keyfile: The key of that, if it is in a file of its own.

    Raises:
        ValueError: A file holds no such thing.
        OSError: A file cannot be read.
    """
    context = _PinningContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if cafile is None:
        assert key is not None
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _trust(context, cafile)
    if key is not None:
        context.key, context.fingerprint = key, _keys().fingerprint
        context.sslobject_class = _PinnedObject
    if certfile is not None:
        _load(context, certfile, keyfile)
    return context


def channel_of(certificate: bytes) -> str:
    """Returns what a login is bound to under TLS, so that nobody in between can pass it on.

    That is a hash of the server's certificate as an end sees it, the idea of RFC 5929's
    ``tls-server-end-point``. (TLS 1.3 would have an exporter for this, which Python has not.)

    Args:
        certificate: The certificate, as DER.
    """
    return f"{END_POINT}{hashlib.sha256(certificate).hexdigest()}"


def _keys() -> ModuleType:
    # cryptography takes a while to import, which those who need no TLS do not wait for.
    from . import keys

    return keys


def _load(context: ssl.SSLContext, certfile: Any, keyfile: Any) -> None:
    try:
        # A key with a password would be asked for in the terminal of the kernel, which nobody sees.
        context.load_cert_chain(certfile, keyfile, password=_no_password)
    except (ssl.SSLError, _Locked) as error:
        where = certfile if keyfile is None else f"{certfile} and {keyfile}"
        why = "the key has a password" if isinstance(error, _Locked) else error.reason or error
        raise ValueError(f"cannot use {where} as a certificate and its key: {why}") from None
    except OSError as error:
        # Python does not say which file it could not read.
        raise _unreadable(error, certfile, keyfile) from None


class _Locked(Exception):
    """A key has a password."""


def _no_password() -> str:
    raise _Locked


def _trust(context: ssl.SSLContext, authorities: str | os.PathLike[str]) -> None:
    try:
        if os.path.isdir(authorities):
            context.load_verify_locations(capath=authorities)
        else:
            context.load_verify_locations(cafile=authorities)
    except ssl.SSLError:
        raise ValueError(f"{os.fspath(authorities)} holds no certificate of a CA") from None
    except OSError as error:
        raise _unreadable(error, authorities) from None


def _unreadable(error: OSError, *files: Any) -> OSError:
    for file in files:
        if file is not None and not os.access(file, os.R_OK):
            return OSError(error.errno, f"cannot read {os.fspath(file)}: {error.strerror}")
    return error


@contextmanager
def _file_of(made: SelfSigned) -> Iterator[str]:
    """Yields the path of a file that is in memory, or else on a disk for a moment.

    Python reads keys from files alone.
    """
    with ExitStack() as stack:
        if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
            number = os.memfd_create("pbnb", os.MFD_CLOEXEC)
            stack.callback(os.close, number)
            path = f"/proc/self/fd/{number}"
        else:
            # Its directory is for this user alone, and is gone with it.
            path = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "key.pem")
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            stack.callback(os.close, number)
        os.write(number, made.certificate + made.key)
        yield path
