"""The panel in a real JupyterLab, and what of it remains where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from pbnb.notebook.panel import TABLES, Panel
from pbnb.notebook.widgets import source_of, static_table
from tests.support.kernels import Kernel
from tests.support.lab import Book, Lab

SERVE = """\
class Thing(pb.Referenceable):
    def remote_set(self, value):
        self.value = value

class Instrument(pb.Root):
    def __init__(self):
        self.things = []
    def remote_thing(self):
        self.things.append(Thing())
        return self.things[-1]
    def remote_many(self, count):
        return [Thing() for _ in range(count)]
    async def remote_wait(self):
        await asyncio.get_running_loop().create_future()
    def remote_fail(self, text):
        raise pb.Error(text)
    def remote_echo(self, value):
        return value

instrument = Instrument()
server = %pb_serve instrument --name instrument --anonymous"""


class Saved:
    """Stands for a panel where only its rows are asked for."""

    class source:
        title = "<script>alert(1)</script>"

    def __init__(self, **rows: list[list[Any]]) -> None:
        self._rows = rows

    def rows(self) -> tuple[dict[str, list[list[Any]]], dict[str, int]]:
        tables = {name: self._rows.get(name, []) for name in TABLES}
        return tables, {name: len(rows) for name, rows in tables.items()}


def static(**rows: list[list[Any]]) -> str:
    return static_table(cast(Panel, Saved(**rows)))


def test_what_is_saved_does_nothing() -> None:
    row = ["c1 1", 1, "<img src=x onerror=alert(1)>", "</td></script>", 1, "&", 0.0]
    html = static(lent=[row])
    assert "<img" not in html and "<script" not in html and "</td></script>" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html and "<td>&amp;</td>" in html


def test_what_is_saved_is_the_same_in_each_run() -> None:
    first = static(lent=[["c1 1", 1, "Thing", "thing", 1, "127.0.0.1:1", 12.5]])
    again = static(lent=[["c7 1", 1, "Thing", "thing", 1, "127.0.0.1:1", 99.25]])
    assert first == again


def test_what_is_saved_of_many_rows_is_a_part() -> None:
    rows = [[f"c1 {n}", n, "Thing", "", 1, "peer", 0.0] for n in range(100_000)]
    html = static(lent=rows)
    assert "lent (the first 20 of 100000)" in html and len(html) < 5000


def test_nothing_is_saved_of_empty_tables() -> None:
    assert static() == "<b>&lt;script&gt;alert(1)&lt;/script&gt;</b>"


def test_what_has_no_panel_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        source_of(1)


@pytest.fixture(scope="module")
def book(lab: Lab) -> Iterator[Book]:
    """A notebook that serves an object and shows everything."""
    book = lab.open(lab.write("panel.ipynb", SERVE, "panel = %pb_show\npanel"))
    book.run_all()
    book.panel.wait_for()
    yield book
    book.close()


@pytest.fixture
def ref(peer: Kernel, book: Book) -> Iterator[Kernel]:
    """The other kernel, connected."""
    peer.run("ref = %pb_connect instrument")
    yield peer
    peer.run("held = None\nawait ref.broker.close()")


def test_rows_appear_change_and_vanish(book: Book, ref: Kernel) -> None:
    book.choose("peers")
    (row,) = book.until(lambda rows: len(rows) == 1)
    assert row[2] == "← in"
    book.choose("lent")
    book.until(lambda rows: [row[0] for row in rows] == ["root"])
    ref.run("held = await ref.callRemote('thing')")
    rows = book.until(lambda rows: len(rows) == 2)
    assert rows[1][1] == "Thing" and rows[1][3] == "1"
    ref.run("del held")
    book.until(lambda rows: len(rows) == 1)
    book.run("instrument.things.clear()")


def test_a_call_that_hangs_is_cancelled(book: Book, ref: Kernel) -> None:
    book.choose("pending")
    waiting = ref.send("await ref.callRemote('wait')")
    (row,) = book.until(lambda rows: len(rows) == 1)
    assert row[:3] == ["wait", "Instrument", "← in"]
    book.panel.get_by_role("button", name="Cancel wait").click()
    assert ref.wait(waiting).status == "error"
    book.until(lambda rows: not rows)
    book.choose("log")
    book.until(lambda rows: any(row[1] == "wait" and row[6] for row in rows))


def test_a_peer_is_disconnected_at_the_second_click(book: Book, peer: Kernel) -> None:
    book.choose("peers")
    peer.run("ref = %pb_connect instrument")
    book.until(lambda rows: len(rows) == 1)
    book.panel.get_by_role("button", name="Disconnect").click()
    assert book.until(lambda rows: rows[0][-1] == "Sure?")
    book.panel.get_by_role("button", name="Disconnect").click()
    book.until(lambda rows: not rows)
    assert peer.attempt("await ref.callRemote('echo', 1)").ename == "DeadReferenceError"


def test_a_reference_is_released_with_its_names(book: Book) -> None:
    book.run("own = await pb.connect(server.address)\nmine = await own.callRemote('thing')")
    book.run("other = pb.show(own)")  # of the other end of the connection
    book.run("get_ipython().magics_manager.registry['PBMagics'].connections.add(own.broker)")
    book.choose("borrowed")
    (row,) = book.until(lambda rows: [row[2] for row in rows] == ["mine"])
    button = book.panel.get_by_role("button", name=f"Release {row[0]}")
    button.click()
    button.click()
    book.until(lambda rows: not rows)
    book.run("assert 'mine' not in globals()")
    book.choose("lent")
    book.until(lambda rows: [row[0] for row in rows] == ["root"])
    book.run("await own.broker.close()")


def test_words_of_peers_are_only_text(book: Book, ref: Kernel) -> None:
    book.choose("log")
    hostile = [
        '<img src=x onerror="window.hacked=1">',
        "</script><script>window.hacked=1</script>",
        "\x1b[31m\x1b]0;x\x07",
        "\u202eabc\u2066",
    ]
    for word in [*hostile, "x" * 600_000]:
        assert ref.attempt(f"await ref.callRemote('fail', {word!r})").status == "error"
        ref.attempt(f"await ref.callRemote({word[:200]!r})")
    rows = book.until(lambda rows: sum("xxxxx" in row[6] for row in rows) >= 2)
    text = "".join(cell for row in rows for cell in row)
    assert hostile[0] in text and hostile[1] in text and "\\x1b[31m" in text
    assert not set(text) & set("\x1b\x07\u202e\u2066")
    assert max(len(cell) for row in rows for cell in row) <= 300
    assert book.page.evaluate("window.hacked") is None
    assert book.panel.locator("img, script").count() == 0


def test_a_flood_is_shown_in_step_and_in_few_messages(book: Book, ref: Kernel) -> None:
    book.choose("lent")
    book.page.evaluate(
        """() => {
            const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
            window.messages = 0;
            kernel.iopubMessage.connect((_, m) => {
                window.messages += m.header.msg_type === "comm_msg";
            });
        }"""
    )
    ref.run(
        "held = []\n"
        "for _ in range(100):\n"
        "    held = await ref.callRemote('many', 20)\n"
        "    await asyncio.sleep(0.02)"
    )
    book.until(lambda rows: len(rows) > 8 and book.panel.get_by_text("21 rows").is_visible())
    # 4,000 rows came and went. Ten messages a second, and not one for each.
    assert book.page.evaluate("window.messages") < 1000


def test_thousands_of_rows_are_a_few_elements(book: Book, ref: Kernel) -> None:
    book.choose("lent")
    ref.run("held = await ref.callRemote('many', 900)")
    book.until(lambda rows: book.panel.get_by_text("901 rows").is_visible())
    assert len(book.rows()) < 40
    book.panel.locator(".pbnb-scroll").evaluate("box => box.scrollTop = box.scrollHeight")
    book.until(lambda rows: rows and all(row[1] == "Thing" for row in rows))
    assert len(book.rows()) < 40
    book.panel.get_by_placeholder("filter").fill("instrument")
    book.until(lambda rows: [row[0] for row in rows] == ["root"])
    book.panel.get_by_placeholder("filter").fill("")


def test_a_frozen_panel_stands_still_and_catches_up(book: Book, ref: Kernel) -> None:
    book.choose("peers")
    book.until(lambda rows: len(rows) == 1)
    freeze = book.panel.get_by_role("button", name="Freeze")
    freeze.click()
    ref.run("other = %pb_connect instrument")
    book.panel.get_by_text("frozen").wait_for()
    assert len(book.rows()) == 1
    freeze.click()
    book.until(lambda rows: len(rows) == 2)
    ref.run("await other.broker.close()")
    book.until(lambda rows: len(rows) == 1)


def test_rows_are_sorted_by_a_click_and_tables_chosen_by_keys(book: Book, ref: Kernel) -> None:
    book.choose("lent")
    ref.run("held = await ref.callRemote('many', 3)")
    book.until(lambda rows: len(rows) == 4)
    book.panel.get_by_role("button", name="class").click()
    book.until(lambda rows: [row[1] for row in rows][0] == "Instrument")
    book.panel.get_by_role("button", name="class ↑").click()
    book.until(lambda rows: [row[1] for row in rows][-1] == "Instrument")
    book.panel.locator("[data-tab=lent]").focus()
    book.page.keyboard.press("ArrowLeft")
    assert book.page.evaluate("document.activeElement.dataset.tab") == "peers"


def test_it_wears_the_theme_of_jupyterlab_and_fits_any_width(book: Book) -> None:
    look = "panel => getComputedStyle(panel).backgroundColor"
    change = "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })"
    light = book.panel.evaluate(look)
    book.page.evaluate(change, "JupyterLab Dark")
    book.page.wait_for_function(
        f"light => ({look})(document.querySelector('.pbnb-panel')) !== light", arg=light
    )
    book.page.evaluate(change, "JupyterLab Light")
    for width in (320, 2000):
        fits = book.panel.evaluate(
            """(panel, width) => {
                panel.style.width = `${width}px`;
                const parts = [...panel.querySelectorAll(".pbnb-head, .pbnb-servers, .pbnb-foot")];
                const fits = parts.every(part => part.scrollWidth <= panel.clientWidth);
                panel.style.width = "";
                return fits;
            }""",
            width,
        )
        assert fits, width


def test_a_second_view_a_reload_and_a_saved_notebook(lab: Lab, book: Book, ref: Kernel) -> None:
    book.run("from IPython.display import display\nassert len(panel.panel.views) == 1")
    book.save()
    before = lab.saved("panel.ipynb")
    (output,) = before["cells"][-1]["outputs"]
    assert "".join(output["data"]["text/html"]).startswith("<b>this notebook</b>")
    assert "".join(output["data"]["text/plain"]) == "<Panel of this notebook>"
    second = lab.open("panel.ipynb")
    second.panel.wait_for()
    second.until(lambda rows: len(rows) == 1)
    book.run("assert len(panel.panel.views) == 2, panel.panel.views")
    second.close()
    book.load()
    book.panel.wait_for()
    book.until(lambda rows: len(rows) == 1)
    ref.run("for n in range(1000): await ref.callRemote('echo', n)")
    book.save()
    assert lab.saved("panel.ipynb")["cells"] == before["cells"]


def test_the_server_is_stopped_and_its_line_copied(lab: Lab, book: Book) -> None:
    book.panel.get_by_role("button", name="Copy").click()
    book.panel.get_by_role("status").get_by_text("%pb_connect 127.0.0.1:").wait_for()
    stop = book.panel.get_by_role("button", name="Stop serving")
    stop.click()
    stop.click()
    book.panel.get_by_role("status").get_by_text("stopping Instrument").wait_for()
    book.run("assert server.closed")
    assert lab.foreign == []
