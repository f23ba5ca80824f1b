"""What remote methods print, collected in a log: ``%pb_serve --output widget``."""

from __future__ import annotations

from pbnb.notebook.prints import LONGEST, PrintLog
from tests.support.kernels import Kernel

SERVE = """\
import sys
class Talker(pb.Root):
    def remote_say(self, text):
        print('said', text)
        print('err', text, file=sys.stderr)
    async def remote_say_later(self, text):
        await asyncio.sleep(0)
        print('later', text)
    def remote_fail(self):
        raise ValueError('<b>as asked</b>')
%pb_serve Talker() --name talker --output widget
"""
# The widget that is shown last, and a wait for a text in it.
WAIT = """\
from ipywidgets.widgets.widget import _instances
async def log_with(text):
    while True:
        for widget in _instances.values():
            if text in getattr(widget, 'value', ''):
                return widget.value
        await asyncio.sleep(0.01)
"""


def text_of(log: PrintLog) -> str:
    html = log.html()
    return html[html.index("<span>") + len("<span>") : -len("</span></pre>")]


def test_a_log_is_text_whatever_is_printed() -> None:
    log = PrintLog()
    log.add("stdout", "<img src=x onerror=alert(1)>\x1b[31m\u202e&amp;\n")
    log.add("stderr", "</pre><script>")
    text = text_of(log)
    assert text.startswith("&lt;img src=x onerror=alert(1)&gt;\\x1b[31m\\u202e&amp;amp;\n<span ")
    assert text.endswith(">&lt;/pre&gt;&lt;script&gt;</span>")


def test_a_log_keeps_its_end() -> None:
    log = PrintLog()
    log.add("stdout", "first")
    for _ in range(100):
        log.add("stdout", "x" * LONGEST)
    log.add("stdout", "last")
    left_out = len("first") + 99 * LONGEST + len("last")
    expected = "x" * (LONGEST - len("last")) + "last"
    assert text_of(log) == f"… {left_out:,} characters left out …\n{expected}"
    log.add("stdout", "y" * 2 * LONGEST)
    assert text_of(log) == f"… {left_out + 2 * LONGEST:,} characters left out …\n" + "y" * LONGEST


def test_a_log_tells_of_changes() -> None:
    log = PrintLog()
    told: list[str] = []
    log.changed = lambda: told.append(text_of(log))
    log.add("stdout", "1")
    log.add("stdout", "2")
    assert told == ["1", "12"]


def test_prints_of_methods_go_to_the_widget_and_nowhere_else(kernel: Kernel) -> None:
    kernel.run(WAIT)
    serving = kernel.send(SERVE)
    served = kernel.wait(serving)
    assert served.stdout.startswith("serving Talker as talker on ")
    (shown,) = served.displays
    # A saved notebook is compared with a new run: nothing in it varies.
    assert shown["data"]["text/plain"] == "HTML(value='')"
    assert "application/vnd.jupyter.widget-view+json" in shown["data"]
    kernel.run("ref = %pb_connect talker")
    called = kernel.run(
        "print('of the cell')\nawait ref.callRemote('say', 1)\nawait ref.callRemote('say_later', 2)"
    )
    assert (called.stdout, called.stderr) == ("of the cell\n", "")
    log = kernel.run("print(await log_with('later 2'))").stdout
    assert "said 1\n" in log and "err 1\n" in log
    assert "of the cell" not in log
    assert served.stdout.count("\n") == 1


def test_an_exception_in_a_method_is_there_with_its_traceback(kernel: Kernel) -> None:
    kernel.run(WAIT)
    served = kernel.send(SERVE)
    kernel.wait(served)
    kernel.run("ref = %pb_connect talker")
    assert kernel.attempt("await ref.callRemote('fail')").status == "error"
    log = kernel.run("print(await log_with('as asked'))").stdout
    assert "Traceback" in log and "remote_fail" in log
    assert "&lt;b&gt;as asked&lt;/b&gt;" in log and "<b>" not in log
    assert kernel.cells[served].stderr == ""


def test_two_servers_have_two_logs_and_others_print_below_their_cells(kernel: Kernel) -> None:
    kernel.run(WAIT)
    kernel.run(SERVE)
    kernel.run("%pb_serve Talker() --name second --output=widget")
    kernel.run("server = %pb_serve Talker() --name third")
    calls = {
        name: kernel.run(f"ref = %pb_connect {name}\nawait ref.callRemote('say', '{name} one')")
        for name in ("second", "third")
    }
    log = kernel.run("print(await log_with('said second one'))").stdout
    assert "third one" not in log
    # Calls from the same kernel print below the cell that makes them, if there is no log.
    assert calls["second"].stdout == ""
    assert calls["third"].stdout == "said third one\n"


def test_inside_a_function(kernel: Kernel) -> None:
    kernel.run(WAIT)
    kernel.run(SERVE.replace("%pb_serve", "pass #"))
    kernel.run(
        "def serve():\n    made = %pb_serve Talker() --name inside --output widget\n"
        "    return made\nmade = serve()"
    )
    kernel.run("ref = %pb_connect inside\nawait ref.callRemote('say', 'from inside')")
    assert "said from inside" in kernel.run("print(await log_with('from inside'))").stdout


def test_unloading_leaves_nothing_behind(kernel: Kernel) -> None:
    kernel.run(WAIT)
    kernel.run(SERVE)
    kernel.run("%reload_ext pbnb")
    kernel.run("server = %pb_serve Talker() --name again")
    call = kernel.run("ref = %pb_connect again\nawait ref.callRemote('say', 'to the cell')")
    assert call.stdout == "said to the cell\n"


def test_what_is_mistyped(kernel: Kernel) -> None:
    failed = kernel.attempt("%pb_serve Echoer() --output somewhere")
    assert "invalid choice: 'somewhere'" in failed.stderr
    hidden = kernel.attempt(
        "import contextlib, io; said = io.StringIO()\n"
        "with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):\n"
        "    %pb_serve Echoer() --output widget"
    )
    assert hidden.status == "error"
    assert kernel.run("%pb_status").stdout.startswith("serving nothing")


def test_without_ipywidgets(kernel: Kernel) -> None:
    kernel.run(
        "import sys; sys.modules.pop('pbnb.notebook.log_widget', None)\n"
        "kept = sys.modules.get('ipywidgets'); sys.modules['ipywidgets'] = None"
    )
    try:
        failed = kernel.attempt("%pb_serve Echoer() --output widget")
    finally:
        kernel.run("sys.modules.pop('ipywidgets')\nif kept: sys.modules['ipywidgets'] = kept")
    assert failed.stderr == "UsageError: --output widget needs ipywidgets: pip install ipywidgets\n"
