"""The bar below a cell that waits for something large."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pbnb.notebook.progress import progress_text
from pbnb.protocol.snapshot import TransferRow
from tests.support.kernels import DEFINE, Cell, Kernel
from tests.support.lab import Lab

SERVE = """\
import os, time
def compute(path):
    print('computing', flush=True)
    while not os.path.exists(path):
        time.sleep(0.01)
class Desk(Echoer):
    def remote_picture(self, path):
        # When a part of the answer is written, this kernel does nothing else for a while.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(compute, path))
        return bytes(64_000_000)
%pb_serve Desk() --name desk
"""
SEND = """\
for each in range(2):
    try:
        await ref.callRemote('echo', bytes(64_000_000))
    except asyncio.CancelledError:
        print('cancelled', each)
    while not os.path.exists({gate!r}):
        await asyncio.sleep(0.01)
"""
PRESS = """\
import threading, time, ipywidgets
def press():
    while True:
        time.sleep(0.01)
        for each in list(ipywidgets.widgets.widget._instances.values()):
            if isinstance(each, ipywidgets.Button):
                return each.click()
threading.Thread(target=press).start()
"""
# However long the other kernel keeps silent, no line says so: only bars are counted.
NO_LINES = "import pbnb.aio.liveness\npbnb.aio.liveness._ANSWER = float('inf')\n"
VIEW = "application/vnd.jupyter.widget-view+json"


def compute(kernel: Kernel, path: Path) -> str:
    """Blocks a kernel until a file is there; returns the number of the cell, which has begun."""
    number = kernel.send(f"compute({str(path)!r})")
    kernel.wait_until(number, lambda cell: cell.stdout)
    return number


def bars(cell: Cell) -> list[dict[str, Any]]:
    return [data for data in cell.shown if VIEW in data]


def check_taken_back(cell: Cell) -> None:
    (bar,) = bars(cell)
    assert " of 61.0 MiB" in bar["text/plain"]
    displays = [each for each in cell.shown if VIEW not in each]
    assert displays[-1] == {}


def test_who_sends_something_large_sees_how_far_it_is(
    kernel: Kernel, peer: Kernel, tmp_path: Path
) -> None:
    kernel.run(SERVE)
    peer.run("ref = %pb_connect desk")
    path = tmp_path / "go"
    computing = compute(kernel, path)
    waiting = peer.send("len(await ref.callRemote('echo', bytes(64_000_000)))")
    peer.wait_until(waiting, bars)
    path.touch()
    cell = peer.wait(waiting)
    assert (cell.status, cell.result) == ("ok", "64000000")
    assert bars(cell)[0]["text/plain"].startswith("to echo(): ")
    assert {} in cell.shown
    assert kernel.wait(computing).status == "ok"


def test_who_is_sent_something_large_sees_it_too(
    kernel: Kernel, peer: Kernel, tmp_path: Path
) -> None:
    kernel.run(SERVE)
    peer.run("ref = %pb_connect desk")
    path = tmp_path / "go"
    waiting = peer.send(f"len(await ref.callRemote('picture', {str(path)!r}))")
    peer.wait_until(waiting, bars)
    path.touch()
    cell = peer.wait(waiting)
    assert (cell.status, cell.result) == ("ok", "64000000")
    assert bars(cell)[0]["text/plain"].startswith("from picture(): ")
    check_taken_back(cell)


def test_its_button_cancels_the_call(kernel: Kernel, peer: Kernel, tmp_path: Path) -> None:
    kernel.run(SERVE)
    peer.run("ref = %pb_connect desk")
    path = tmp_path / "go"
    computing = compute(kernel, path)
    # Clicks are heard of in another thread while a cell runs.
    waiting = peer.send(PRESS + "await ref.callRemote('echo', bytes(64_000_000))")
    cell = peer.wait(waiting)
    assert cell.ename == "CancelledError"
    check_taken_back(cell)
    path.touch()
    assert kernel.wait(computing).status == "ok"
    cell = peer.run("ref.broker.snapshot().transfers, await ref.callRemote('echo', 'alive')")
    assert cell.result == "((), 'alive')"


def test_many_transfers_take_one_place(kernel: Kernel, peer: Kernel, tmp_path: Path) -> None:
    kernel.run(SERVE)
    peer.run(NO_LINES + "ref = %pb_connect desk\nimport os")
    paths = [tmp_path / name for name in ("one", "gate", "two")]
    waiting = peer.send(
        f"one, gate, two = {[str(path) for path in paths]!r}\n"
        "await ref.callRemote('picture', one)\n"
        "while not os.path.exists(gate): await asyncio.sleep(0.01)\n"
        "len(await ref.callRemote('picture', two))"
    )
    peer.wait_until(waiting, bars)
    paths[0].touch()
    peer.wait_until(waiting, lambda cell: cell.shown[-1] == {})
    paths[1].touch()
    peer.wait_until(waiting, lambda cell: len(bars(cell)) == 2)
    paths[2].touch()
    cell = peer.wait(waiting)
    assert cell.result == "64000000"
    assert [VIEW in data for data in cell.shown] == [True, False, True, False]
    assert len(cell.displays) == 1


def test_its_button_in_the_page(kernel: Kernel, lab: Lab, tmp_path: Path) -> None:
    kernel.run(SERVE)
    path, gate = tmp_path / "go", tmp_path / "gate"
    name = lab.write("progress.ipynb", SEND.format(gate=str(gate)))
    book = lab.open(name, width=900)
    book.run(DEFINE + "import os\n%load_ext pbnb\nref = %pb_connect desk")
    book.run(NO_LINES)
    computing = compute(kernel, path)
    book.page.evaluate(
        "() => { window.ran = jupyterapp.commands.execute('notebook:run-all-cells'); }"
    )
    outputs = book.page.locator(".jp-OutputArea").last
    button = outputs.get_by_role("button", name="Cancel")
    button.wait_for()
    label = outputs.locator("div.widget-label")
    assert re.match(r"to echo\(\): [\d.]+ (B )?of 61\.0 MiB", label.inner_text())
    # All of it is seen, also of what is longer.
    longest = "to measure_the_whole_s…(): 1000 KiB of 99.9 MiB, 88.8 KiB/s, 32 min left"
    assert label.evaluate(
        "(label, text) => (label.textContent = text) && label.scrollWidth <= label.clientWidth",
        longest,
    )
    button.click()
    outputs.get_by_text("cancelled 0").wait_for()
    button.wait_for(state="detached")
    # In the same place, the next one.
    gate.touch()
    button.click()
    outputs.get_by_text("cancelled 1").wait_for()
    book.page.evaluate("() => window.ran")
    # The page takes the bars away in its own time.
    book.page.wait_for_function(
        """area => !area.querySelector(".jupyter-widgets")
            && area.innerText.trim() === "cancelled 0\\ncancelled 1" """,
        arg=outputs.element_handle(),
    )
    book.save()
    saved = lab.saved(name)["cells"][-1]["outputs"]
    assert [each.get("data") for each in saved] == [{}, None]
    book.close()
    path.touch()
    assert kernel.wait(computing).status == "ok"


def test_nothing_is_shown_of_what_is_quick(kernel: Kernel, peer: Kernel) -> None:
    kernel.run(SERVE)
    # What is quick is so on a machine that is busy with other things, too.
    peer.run(
        NO_LINES + "ref = %pb_connect desk\n"
        "import pbnb.notebook.progress as progress\n"
        "before, progress._PATIENCE = progress._PATIENCE, 60.0"
    )
    cell = peer.run("len(await ref.callRemote('echo', bytes(1_000_000)))\nawait asyncio.sleep(1)")
    peer.run("progress._PATIENCE = before")
    assert bars(cell) == []
    assert cell.shown == []


@pytest.mark.parametrize(
    ("row", "seconds", "before", "text"),
    [
        (TransferRow(1, "f", True, 0, 900), 1.0, 0, "to f(): 0 of 900 B"),
        (TransferRow(1, "f", True, 500, 1000), 0.0, 0, "to f(): 500 B of 1.0 KiB"),
        (TransferRow(1, "f", True, 500, 1000), 9.0, 500, "to f(): 500 B of 1.0 KiB"),
        (TransferRow(1, "f", True, 899, 900), 1.0, 0, "to f(): 899 of 900 B, 899 B/s, 1 s left"),
        (TransferRow(1, "f", True, 1, 901), 1.0, 0, "to f(): 1 of 901 B, 1 B/s, 15 min left"),
        (TransferRow(1, "f", True, 9, 90000), 9.0, 0, "to f(): 9 B of 87.9 KiB, 1 B/s, 25 h left"),
        (TransferRow(1, "f" * 80, True, 0, 1), 1.0, 0, f"to {'f' * 19}…(): 0 of 1 B"),
        (
            TransferRow(1, "f", False, 3 * 2**29, 2**31),
            2.0,
            2**29,
            "from f(): 1.5 of 2.0 GiB, 512 MiB/s, 1 s left",
        ),
    ],
)
def test_what_is_said(row: TransferRow, seconds: float, before: int, text: str) -> None:
    assert progress_text(row, seconds, before) == text
