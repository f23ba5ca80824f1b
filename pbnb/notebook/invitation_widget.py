"""An invitation as a widget: its line is seen in the page, and in nothing that is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..cred import Invitation

__all__ = ["InvitationWidget"]

_HERE = Path(__file__).parent


class InvitationWidget(anywidget.AnyWidget):
    """Shows an invitation with its secret hidden, and two buttons that reveal and copy it.

    The line goes to the page in a message, when a button is pressed. It is no part of the widget's
    state or of the cell's output, of which both may be saved with the notebook.

    Args:
        invitation: The invitation.
    """

    _esm = _HERE / "invitation.js"
    masked = traitlets.Unicode().tag(sync=True)

    def __init__(self, invitation: Invitation) -> None:
        super().__init__(masked=str(invitation))
        self._invitation = invitation
        self.on_msg(lambda widget, content, buffers: self._asked(content))

    def _asked(self, content: Any) -> None:
        if isinstance(content, dict) and content.get("ask") in ("reveal", "copy"):
            self.send({"for": content["ask"], "line": str(self._invitation.reveal())})

    def __repr__(self) -> str:
        return repr(self._invitation)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        # What remains in a saved notebook.
        return {**(data or {}), "text/plain": repr(self)}, metadata
