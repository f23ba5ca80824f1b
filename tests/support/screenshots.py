"""Takes README's pictures of the panel: ``python -m tests.support.screenshots [FOLDER]``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.kernels import DEFINE, ROOT, Kernel
from tests.support.lab import Book, Lab, sync_playwright

SERVE = """\
class Camera(pb.Referenceable):
    pass

class Stage(pb.Referenceable):
    pass

class Bench(pb.Root):
    def __init__(self):
        self.camera, self.stage = Camera(), Stage()
    def remote_camera(self):
        return self.camera
    def remote_stage(self):
        return self.stage
    def remote_read(self, channel):
        if channel > 7:
            raise pb.Error(f"there is no channel {channel}")
        return channel / 7
    async def remote_expose(self, seconds):
        await asyncio.sleep(seconds)

bench = Bench()
camera = bench.camera
%pb_serve bench --name bench"""

WORK = """\
ref = %pb_connect bench
held = [await ref.callRemote('camera'), await ref.callRemote('stage')]
calls = [ref.callRemote('expose', 60) for _ in range(2)]
for each in calls:
    each.addErrback(lambda failure: None)

async def work():
    while True:
        for channel in range(9):
            await asyncio.gather(ref.callRemote('read', channel), return_exceptions=True)
        await asyncio.sleep(0.2)

working = asyncio.ensure_future(work())"""


def main(folder: Path) -> None:
    """Takes the pictures.

    Args:
        folder: Where to put them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="pbnb-pictures-") as runtime,
        sync_playwright() as playwright,
    ):
        lab = Lab(playwright, Path(runtime))
        peers = [Kernel(Path(runtime)) for _ in range(2)]
        try:
            book = lab.open(lab.write("bench.ipynb", SERVE, "%pb_show"), width=1000, height=900)
            book.run_all()
            book.panel.wait_for()
            for peer in peers:
                peer.run(DEFINE + "%load_ext pbnb")
                peer.run(WORK)
            book.page.wait_for_timeout(5000)  # so that there is something to draw
            take(book, folder)
        finally:
            for peer in peers:
                peer.close()
            lab.close()


def take(book: Book, folder: Path) -> None:
    """Takes the pictures of a panel.

    Args:
        book: The notebook that it is in.
        folder: Where to put them.
    """
    theme = "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })"
    book.choose("pending")
    book.page.wait_for_timeout(600)
    book.panel.screenshot(path=folder / "panel-light.png")
    book.choose("lent")
    book.page.evaluate(theme, "JupyterLab Dark")
    book.page.wait_for_timeout(1500)
    book.panel.screenshot(path=folder / "panel-dark.png")
    book.choose("log")
    book.panel.evaluate("panel => panel.style.width = '320px'")
    book.page.wait_for_timeout(600)
    book.panel.screenshot(path=folder / "panel-narrow.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
