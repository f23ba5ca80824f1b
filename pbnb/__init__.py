"""pbnb: live objects between notebooks.

One kernel serves an object, another connects and calls it::

    %load_ext pbnb
    %pb_serve Echoer()

    ref = %pb_connect 127.0.0.1:8789
    await ref.callRemote("echo", "hello network")

``import pbnb as pb`` is all that a program needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import jelly
from .aio.address import parse_address
from .aio.backoff import Backoff
from .aio.client import PBClientFactory, connect
from .aio.connection import Connection
from .aio.deadlines import deadline
from .aio.deferred import Deferred
from .aio.factory import PBServerFactory
from .aio.keeping import KeptReference, keep
from .aio.paging import CallbackPageCollector, FilePager, Pager, StringPager, getAllPages
from .aio.server import Server, serve
from .aio.streams import Stream
from .aio.util import LocalAsRemote, LocalAsyncForwarder, LocalMethod
from .cred import (
    AllowAnonymousAccess,
    Anonymous,
    Invitation,
    IPerspective,
    PasswordChecker,
    Portal,
    UsernamePassword,
    checkers,
)
from .errors import (
    BananaError,
    ConnectError,
    ConnectTimeout,
    DeadlineExceeded,
    DeadReferenceError,
    Error,
    InsecureJelly,
    LimitExceeded,
    LocalProtocolError,
    LoginFailed,
    NoSuchMethod,
    PBConnectionLost,
    PeerBusy,
    ProtocolError,
    RemoteProtocolError,
    Unauthorized,
    UnauthorizedLogin,
)
from .failure import CopiedFailure, Failure, RemoteError
from .flavors import (
    AsReferenceable,
    Avatar,
    Cacheable,
    Copyable,
    Jellyable,
    Referenceable,
    RemoteCache,
    RemoteCopy,
    Root,
    Serializable,
    Unjellyable,
    Viewable,
    ViewPoint,
)
from .jelly import SecurityOptions, global_security
from .limits import Limits
from .refs import RemoteMethod, RemoteReference
from .wire import banana

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .notebook.binding import Binding
    from .notebook.invitation_widget import InvitationWidget
    from .notebook.widgets import PanelWidget

__all__ = [
    "AllowAnonymousAccess",
    "Anonymous",
    "AsReferenceable",
    "Avatar",
    "Backoff",
    "BananaError",
    "Cacheable",
    "CallbackPageCollector",
    "ConnectError",
    "ConnectTimeout",
    "Connection",
    "CopiedFailure",
    "Copyable",
    "DeadReferenceError",
    "DeadlineExceeded",
    "Deferred",
    "Error",
    "Failure",
    "FilePager",
    "IPerspective",
    "InsecureJelly",
    "Invitation",
    "Jellyable",
    "KeptReference",
    "LimitExceeded",
    "Limits",
    "LocalAsRemote",
    "LocalAsyncForwarder",
    "LocalMethod",
    "LocalProtocolError",
    "LoginFailed",
    "NoSuchMethod",
    "PBClientFactory",
    "PBConnectionLost",
    "PBServerFactory",
    "Pager",
    "PasswordChecker",
    "PeerBusy",
    "Portal",
    "ProtocolError",
    "Referenceable",
    "RemoteCache",
    "RemoteCopy",
    "RemoteError",
    "RemoteMethod",
    "RemoteProtocolError",
    "RemoteReference",
    "Root",
    "SecurityOptions",
    "Serializable",
    "Server",
    "Stream",
    "StringPager",
    "Unauthorized",
    "UnauthorizedLogin",
    "Unjellyable",
    "UsernamePassword",
    "ViewPoint",
    "Viewable",
    "banana",
    "bind",
    "checkers",
    "connect",
    "deadline",
    "getAllPages",
    "global_security",
    "jelly",
    "keep",
    "load_ipython_extension",
    "parse_address",
    "serve",
    "setCopierForClass",
    "setCopierForClassTree",
    "setFactoryForClass",
    "setUnjellyableFactoryForClass",
    "setUnjellyableForClass",
    "setUnjellyableForClassTree",
    "show",
    "unload_ipython_extension",
    "view",
]

__version__ = "0.1.0"

# PB's own names for registering with the global options, the older ones among them.
setUnjellyableForClass = global_security.setUnjellyableForClass
setUnjellyableFactoryForClass = global_security.setUnjellyableFactoryForClass
setUnjellyableForClassTree = global_security.setUnjellyableForClassTree
setCopierForClass = setUnjellyableForClass
setCopierForClassTree = setUnjellyableForClassTree
setFactoryForClass = setUnjellyableFactoryForClass


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Adds the magics to a notebook: what ``%load_ext pbnb`` calls."""
    # Plain programs need neither IPython nor what the magics bring along.
    from .notebook import magics

    magics.load_ipython_extension(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Takes the magics away again: what ``%unload_ext pbnb`` calls."""
    from .notebook import magics

    magics.unload_ipython_extension(shell)


def show(
    shown: Server | Connection | RemoteReference | Invitation,
) -> PanelWidget | InvitationWidget:
    """Returns a panel that shows, while it is looked at, who holds what and what is pending.

    Args:
        shown: What it is about: a server, a connection, or a reference that came by it. Of an
            invitation its line is shown, in the page alone.

    Raises:
        TypeError: It is nothing of these.
    """
    from .notebook import showing

    return showing.show(shown)


def bind(
    cache: RemoteCache, field: str, widget: Any, send: Callable[[Any], Any] | None = None
) -> Binding:
    """Keeps a widget and a field of a live copy in step, both ways where `send` is given.

    Args:
        cache: The copy.
        field: The name of its attribute.
        widget: Any widget of ipywidgets with a ``value``.
        send: Tells the owner of each new value, such as ``ref.remoteMethod("set_gain")``.
    """
    from .notebook import binding

    return binding.bind(cache, field, widget, send)


def view(cache: RemoteCache) -> Any:
    """Returns a widget that shows the fields of a live copy, and follows their changes.

    Args:
        cache: The copy.
    """
    from .notebook import binding

    return binding.view(cache)
