"""An invitation in a real JupyterLab: seen and copied there, and in nothing that is saved."""

from __future__ import annotations

import json

from pbnb.cred import Invitation
from pbnb.notebook.invitation_widget import InvitationWidget
from tests.support.lab import Lab

TOKEN = "t0ken-" * 7
KEY = "k" * 43
LINE = f"pbnb:192.0.2.7:1,key={KEY},token={TOKEN}"


def test_nothing_but_a_button_sends_the_line() -> None:
    widget = InvitationWidget(Invitation("192.0.2.7:1", KEY, TOKEN))
    sent: list[object] = []
    widget.send = lambda content, buffers=None: sent.append(content)
    bundle = json.dumps(widget._repr_mimebundle_())
    state = repr(widget.get_state())
    assert TOKEN not in bundle + state + repr(widget) + str(widget)
    assert "pbnb:192.0.2.7:1,key=kkkkkkkk…,token=…" in repr(widget)
    for nothing in (None, [], {"ask": "state"}, {"ask": ["reveal"]}):
        widget._asked(nothing)
    assert sent == []
    widget._asked({"ask": "reveal"})
    assert sent == [{"for": "reveal", "line": LINE}]


def test_the_line_is_revealed_in_the_page_and_is_not_saved(lab: Lab) -> None:
    secret = f"invitation = pb.Invitation('192.0.2.7:1', {KEY!r}, 't0ken-' * 7)"
    name = lab.write("invitation.ipynb", secret, "pb.show(invitation)")
    book = lab.open(name, permissions=["clipboard-read", "clipboard-write"])
    book.run_all()
    box = book.page.locator(".pbnb-invitation")
    box.wait_for()
    assert TOKEN not in box.inner_text()
    box.get_by_role("button", name="Reveal").click()
    book.page.get_by_text(f"token={TOKEN}").wait_for()
    book.save()
    saved = json.dumps(lab.saved(name))
    assert "token=\\u2026" in saved
    assert TOKEN not in saved
    box.get_by_role("button", name="Hide").click()
    book.page.get_by_text("token=…").first.wait_for()
    assert TOKEN not in box.inner_text()
    copy = box.get_by_role("button", name="Copy")
    copy.click()
    box.get_by_text("Copied").wait_for()
    assert book.page.evaluate("navigator.clipboard.readText()") == LINE
    assert TOKEN not in box.inner_text()
    # Nobody takes it for what the next click did.
    box.get_by_text("Copied").wait_for(state="detached")
    # Shown and selected, where a page may not write to the clipboard.
    book.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    copy.click()
    box.get_by_text("press Ctrl+C").wait_for()
    assert book.page.evaluate("String(getSelection())") == LINE
    box.get_by_role("button", name="Hide").click()
    # A click that nobody hears of is not passed over in silence.
    book.shut_down()
    box.get_by_role("button", name="Reveal").click()
    box.get_by_text("The kernel does not answer").wait_for()
    assert TOKEN not in box.inner_text()
    book.close()
