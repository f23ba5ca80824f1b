"""``pb.show``, and what ``%pb_show`` and ``%pb_release`` do."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython

from ..aio.connection import Connection
from ..aio.server import Server
from ..cred import Invitation
from ..refs import RemoteReference
from .blocking import notebook_loop
from .releasing import Holders

if TYPE_CHECKING:
    from .invitation_widget import InvitationWidget
    from .widgets import PanelWidget

__all__ = ["invitation_widget", "panel_of", "panel_of_all", "show"]


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
    if isinstance(shown, Invitation):
        return invitation_widget(shown)
    shell: Any = get_ipython()
    return panel_of(shown, {} if shell is None else shell.user_ns)


def panel_of(shown: object, namespace: MutableMapping[str, Any]) -> PanelWidget:
    """Returns a panel of one server or connection.

    Args:
        shown: The server, the connection, or a reference that came by it.
        namespace: The variables of the notebook.

    Raises:
        TypeError: It is nothing of these.
    """
    # Widgets take half a second to import, which a notebook without a panel does not wait for.
    from .widgets import PanelWidget, source_of

    return PanelWidget(source_of(shown), Holders(namespace), notebook_loop("pb.show"))


def invitation_widget(invitation: Invitation) -> InvitationWidget:
    """Returns what shows an invitation in the page, and leaves nothing of it in the notebook.

    Args:
        invitation: The invitation.
    """
    from .invitation_widget import InvitationWidget

    return InvitationWidget(invitation)


def panel_of_all(
    servers: Any, connections: Any, keepers: Any, namespace: MutableMapping[str, Any]
) -> PanelWidget:
    """Returns a panel of all that a notebook serves and is connected to.

    Args:
        servers: Returns what is served.
        connections: Returns what is connected to.
        keepers: Returns what is kept.
        namespace: The variables of the notebook.
    """
    from .widgets import Everything, PanelWidget

    source = Everything(servers, connections, keepers, namespace)
    return PanelWidget(source, Holders(namespace), notebook_loop("pb.show"))
