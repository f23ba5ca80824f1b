from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from pbnb.notebook.blocking import notebook_loop, run, wait
from tests.support.kernels import Kernel
from tests.support.processes import ran


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def where() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_no_loop_running() -> None:
    loop = asyncio.new_event_loop()
    try:
        assert run(where, loop) is loop
    finally:
        loop.close()


def test_the_loop_of_another_thread(other_loop: asyncio.AbstractEventLoop) -> None:
    assert run(where, other_loop) is other_loop


def test_awaiting_the_loop_of_another_thread(other_loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        assert await wait(where, other_loop) is other_loop
        here = asyncio.get_running_loop()
        assert await wait(where, here) is here

    asyncio.run(main())


def test_without_a_notebook_widgets_need_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="^pb.bind needs an event loop: use it in a notebook"):
        notebook_loop("pb.bind")

    async def main() -> None:
        assert notebook_loop("pb.bind") is asyncio.get_running_loop()

    asyncio.run(main())


def test_in_a_notebook_widgets_are_made_in_any_thread(kernel: Kernel) -> None:
    kernel.run(
        "import threading, ipywidgets\n"
        "from pbnb.notebook.blocking import notebook_loop\n"
        "class Copy(pb.RemoteCache): gain = 1\n"
        "copy, widget = Copy(), ipywidgets.IntSlider()\n"
        "server = %pb_serve Echoer()\n"
        "def make():\n"
        "    made.extend([pb.bind(copy, 'gain', widget), pb.view(copy), pb.show(server)])\n"
        "    made.append(notebook_loop('pb.bind'))\n"
        "made = []\n"
        "await asyncio.to_thread(make)"
    )
    assert kernel.run("made[-1] is asyncio.get_running_loop()").result == "True"
    kernel.run("copy.gain = 7\nwhile widget.value != 7: await asyncio.sleep(0.01)")
    kernel.run("while '7' not in made[1].value: await asyncio.sleep(0.01)")
    assert kernel.run("made[2]").result == "<Panel of Echoer on 127.0.0.1:8789>".replace(
        "8789", kernel.run("server.port").result or ""
    )
    kernel.run("made[0].stop(); made[1].close()")


def test_what_needs_no_wait_is_run_at_once() -> None:
    async def main() -> None:
        here = asyncio.get_running_loop()
        assert run(where, here, try_at_once=True) is here
        assert not hasattr(asyncio, "_nest_asyncio2")

    asyncio.run(main())


def test_an_error_of_what_is_run_at_once_is_raised() -> None:
    async def fail() -> None:
        raise OSError("no")

    async def main() -> None:
        with pytest.raises(OSError, match="^no$"):
            run(fail, asyncio.get_running_loop(), try_at_once=True)

    asyncio.run(main())


# The contexts in which a cell cannot wait. Each sets `ref`; %%capture and others hide output.
BLOCKING = {
    "function": "def get():\n    found = %pb_connect {address}\n    return found\nref = get()",
    "function in an awaiting cell": "def get():\n    found = %pb_connect {address}\n"
    "    return found\nawait asyncio.sleep(0)\nref = get()",
    "comprehension": "refs = [get_ipython().run_line_magic('pb_connect', '{address}')\n"
    "    for number in range(2)]\nref = refs[1]",
    "%time": "%time ref = %pb_connect {address}",
    "%%time": "%%time\nref = %pb_connect {address}",
    "%%capture": "%%capture said\nref = %pb_connect {address}",
    "run_cell": "done = get_ipython().run_cell('ref = %pb_connect {address}')\ndone.raise_error()",
    "run_cell in an awaiting cell": "await asyncio.sleep(0)\n"
    "done = get_ipython().run_cell('ref = %pb_connect {address}')\ndone.raise_error()",
    "exec": "exec(get_ipython().transform_cell('ref = %pb_connect {address}'))",
    "run_cell in a callback": "def later():\n"
    "    get_ipython().run_cell('ref = %pb_connect {address}')\n    over.set()\n"
    "over = asyncio.Event()\nasyncio.get_running_loop().call_soon(later)\nawait over.wait()",
    "thread": "def get():\n    return get_ipython().run_line_magic('pb_connect', '{address}')\n"
    "ref = await asyncio.to_thread(get)",
}


def test_what_a_nested_loop_has_run_is_not_missed_in_the_turn_around_it() -> None:
    """That turn is asyncio's own when a loop is nested for the first time in a process."""
    script = """
        import asyncio
        from pbnb.notebook.blocking import run

        async def wait():
            await asyncio.sleep(0.01)
            return "waited"

        async def main():
            loop, seen = asyncio.get_running_loop(), []
            loop.call_soon(lambda: seen.extend(run(wait, loop) for _ in range(2)))
            for number in range(5):
                loop.call_soon(seen.append, number)
            await asyncio.sleep(0.1)
            print(seen)

        asyncio.run(main())
    """
    assert ran(script) == ("[0, 1, 2, 3, 4, 'waited', 'waited']\n", "")


@pytest.mark.parametrize("context", BLOCKING)
def test_the_same_kernel_serves_and_waits(kernel: Kernel, context: str) -> None:
    address = kernel.run("server = %pb_serve Echoer()\nprint(server.address)").stdout.split()[-1]
    kernel.run("ref = None")
    kernel.run(BLOCKING[context].replace("{address}", address))
    assert kernel.run('await ref.callRemote("echo", "hi")').result == "'hi'"


def test_without_autoawait(kernel: Kernel) -> None:
    kernel.run("%autoawait off")
    try:
        said = kernel.run("%pb_serve Echoer() --name plain")
        assert said.result is None
        kernel.run("ref = %pb_connect plain")
        kernel.run("%pb_stop plain")
        kernel.run("ref.broker.lost")
    finally:
        kernel.run("%autoawait on")
    assert "serving Echoer as plain" in said.stdout


def test_serving_and_stopping_inside_a_function(kernel: Kernel) -> None:
    kernel.run(
        "def serve(what):\n"
        "    made = %pb_serve what --name local\n"
        "    ref = %pb_connect local\n"
        "    %pb_stop local\n"
        "    return made, ref\n"
        "made, ref = serve(Echoer())"
    )
    assert kernel.run("made.closed").result == "True"


def test_nested_waits_inside_remote_methods_end(kernel: Kernel) -> None:
    kernel.run(
        "class Chain(pb.Root):\n"
        "    def remote_next(self, name):\n"
        "        found = %pb_connect $name\n"
        "        return found is not None\n"
        "%pb_serve Chain() --name chain\n"
        "%pb_serve Echoer() --name end"
    )
    kernel.run("ref = %pb_connect chain")
    assert kernel.run('await ref.callRemote("next", "end")').result == "True"


def test_subshells_serve_and_connect_on_the_kernels_loop(kernel: Kernel) -> None:
    subshell = kernel.new_subshell()
    for cell in (
        "%pb_serve Echoer() --name sub",
        "ref = %pb_connect sub",
        "def get():\n    found = %pb_connect sub\n    return found\nother = get()",
        "assert await ref.callRemote('echo', 1) == 1",
        "%pb_status",
    ):
        assert kernel.wait(kernel.send(cell, subshell)).status == "ok"
    assert kernel.run('await other.callRemote("echo", 2)').result == "2"
    assert kernel.wait(kernel.send("%pb_stop sub", subshell)).status == "ok"


def test_a_loop_that_cannot_be_nested_is_a_sentence(new_kernel: Callable[..., Kernel]) -> None:
    kernel = new_kernel()
    kernel.run("%load_ext pbnb")
    kernel.run(
        "import nest_asyncio2\n"
        "def refuse(loop):\n"
        '    raise ValueError(f"Can\'t patch loop of type {type(loop)}")\n'
        "nest_asyncio2.apply = refuse\n"
        "def get():\n"
        "    return get_ipython().run_line_magic('pb_connect', '127.0.0.1:9')\n"
    )
    cell = kernel.attempt("get()")
    assert cell.status == "error"
    assert "cannot wait inside a function: use the magic on a line of its own" in cell.stderr
