"""JupyterLab in headless Chromium, driven as a user drives it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

try:
    from playwright.sync_api import sync_playwright
except ImportError:  # a machine without a browser: the tests that need one say so
    sync_playwright = None

from tests.support.kernels import DEFINE, PATIENCE, ROOT
from tests.support.ports import free_port

CHROMIUM = (
    os.environ.get("PBNB_CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A theme, and nothing that JupyterLab would fetch from elsewhere.
_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}
# A question that is taken back after three seconds, and a note after two, stand for longer: as long
# as a busy machine may take to come to them.
_PATIENT = f"""{{
    const later = window.setTimeout;
    const patience = (what, ms) => {{
        if (/armed = null/.test(what)) return {PATIENCE * 1000};
        return /textContent = ""/.test(what) ? 8000 : ms;
    }};
    window.setTimeout = (what, ms, ...rest) => later(what, patience(what, ms), ...rest);
}}"""


class Lab:
    """A server of JupyterLab, and a browser.

    Args:
        playwright: Playwright.
        runtime: Jupyter's runtime directory, where connection files are left.
    """

    def __init__(self, playwright: Any, runtime: Path) -> None:
        assert CHROMIUM is not None
        self._home = Path(tempfile.mkdtemp(prefix="pbnb-lab-"))
        self.runtime = runtime
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        options = [
            "--no-browser",
            "--allow-root",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.ip=127.0.0.1",
            "--IdentityProvider.token=",
            f"--ServerApp.root_dir={self._home}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.collaborative=False",
            f"--LabApp.user_settings_dir={self._home}/settings",
            f"--LabApp.workspaces_dir={self._home}/workspaces",
            "--LabApp.extension_manager=readonly",
        ]
        for name, values in _SETTINGS.items():
            self.configure(name, values)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JUPYTER_RUNTIME_DIR": str(runtime),
            "IPYTHONDIR": str(self._home / "ipython"),
            "JUPYTER_PREFER_ENV_PATH": "1",
        }
        self._log = (self._home / "log").open("wb")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=environment,
            cwd=self._home,
            stdout=self._log,
            stderr=self._log,
        )
        self._browser: Any = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        self.foreign: list[str] = []
        self._wait_for_server()

    def _wait_for_server(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api/status", timeout=5):
                    return
            except OSError:
                said = (self._home / "log").read_text(errors="replace")
                assert time.monotonic() < deadline and self._server.poll() is None, said[-3000:]
                time.sleep(0.1)  # no event says when a server of another process listens

    def configure(self, plugin: str, values: dict[str, Any]) -> None:
        """Writes settings of JupyterLab's, for pages that are opened later."""
        package, _, name = plugin.partition(":")
        path = self._home / "settings" / package / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def write(self, name: str, *cells: str) -> str:
        """Writes a notebook of code cells; returns its name."""
        notebook = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "cells": [
                {
                    "cell_type": "code",
                    "id": f"cell-{number}",
                    "metadata": {},
                    "outputs": [],
                    "execution_count": None,
                    "source": source,
                }
                for number, source in enumerate([DEFINE + "%load_ext pbnb", *cells])
            ],
        }
        (self._home / name).write_text(json.dumps(notebook))
        return name

    def copy(self, path: Path) -> str:
        """Copies a notebook to where JupyterLab finds it; returns its name there."""
        (self._home / path.name).write_bytes(path.read_bytes())
        return path.name

    def saved(self, name: str) -> dict[str, Any]:
        """Returns a notebook as it was saved."""
        notebook: dict[str, Any] = json.loads((self._home / name).read_text())
        return notebook

    def open(self, name: str, width: int = 1200, height: int = 900, **options: Any) -> Book:
        """Opens a notebook in a page of its own."""
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.add_init_script(_PATIENT)
        page.on("request", lambda request: self._see(request.url))
        book = Book(page, f"{self.url}/doc/tree/{name}")
        book.load()
        return book

    def _see(self, url: str) -> None:
        if not re.match(rf"(data:|blob:|(http|ws)://127\.0\.0\.1:{self.port}/)", url):
            self.foreign.append(url)

    def close(self) -> None:
        self._browser.close()
        self._server.terminate()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._log.close()
        shutil.rmtree(self._home, ignore_errors=True)


class Book:
    """A notebook that is open in a page."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url

    @property
    def panel(self) -> Any:
        return self.page.locator(".pbnb-panel")

    def load(self) -> None:
        """Loads the page, and waits until the notebook has its kernel."""
        self.page.goto(self.url)
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.status === 'idle'"
        )

    def run_all(self) -> None:
        """Runs all cells, to their end."""
        ran = self.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        assert ran is not False, self.page.locator(".jp-OutputArea").all_inner_texts()

    def run(self, code: str) -> None:
        """Runs code in the notebook's kernel, beside its cells."""
        reply = self.page.evaluate(
            """async (code) => {
                const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
                const reply = await kernel.requestExecute({ code, store_history: false }).done;
                return reply.content;
            }""",
            code,
        )
        assert reply["status"] == "ok", reply

    def save(self) -> None:
        self.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")

    def choose(self, tab: str) -> None:
        """Chooses a table of the panel."""
        self.panel.locator(f"[data-tab={tab}]").first.click()

    def rows(self) -> list[list[str]]:
        """Returns the cells of the rows that the panel shows."""
        found: list[list[str]] = self.panel.first.evaluate(
            "panel => [...panel.querySelectorAll('tbody tr[data-key]')]"
            ".map(row => [...row.children].map(cell => cell.textContent))"
        )
        return found

    def until(self, condition: Any, seconds: float = PATIENCE) -> list[list[str]]:
        """Waits until the rows of the panel are as they should be."""
        deadline = time.monotonic() + seconds
        while True:
            rows = self.rows()
            if condition(rows):
                return rows
            assert time.monotonic() < deadline, rows
            self.page.wait_for_timeout(50)

    def turn_to(self, name: str) -> None:
        """Opens another notebook in the page, which is faster than in a new one."""
        self.url = f"{self.url.rpartition('/')[0]}/{name}"
        self.load()

    def shut_down(self) -> None:
        """Ends the notebook's kernel."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def close(self) -> None:
        self.page.context.close()
