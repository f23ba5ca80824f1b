"""What an interrupt ends, and how soon: before the loop has any other reason to wake."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from pbnb.notebook.interrupts import InterruptWaker
from tests.support.kernels import Kernel

# A listener that accepts and never answers, and that knows when somebody has come.
SILENT = """\
import socket, threading
silent = socket.create_server(("127.0.0.1", 0))
def accept():
    try:
        kept.append(silent.accept())
    except OSError:
        return
    print("somebody came", flush=True)
kept = []
print(silent.getsockname()[1])
"""


# The kernel's own answer to an interrupt comes when its loop next wakes: here that is never.
TIMEOUT = "--timeout 1000"
CELLS = {
    "awaiting": f"ref = %pb_connect 127.0.0.1:PORT {TIMEOUT}",
    "nested": f"def get():\n    return_ = %pb_connect 127.0.0.1:PORT {TIMEOUT}\nget()",
    "nested in an awaiting cell": "await asyncio.sleep(0)\ndef get():\n"
    f"    return_ = %pb_connect 127.0.0.1:PORT {TIMEOUT}\nget()",
    "a call": "await ref.callRemote('wait')",
    "a call in a function": "async def ask(): return await ref.callRemote('wait')\nawait ask()",
    "two calls": "await asyncio.gather(ref.callRemote('wait'), ref.callRemote('wait'))",
    "two calls in a group": "async with asyncio.TaskGroup() as group:\n"
    "    for _ in range(2): group.create_task(asyncio.wait_for(ref.callRemote('wait'), 1000))",
}
SLOW = """\
class Slow(pb.Root):
    running = 0
    async def remote_wait(self):
        Slow.running += 1
        print("somebody came", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            Slow.running -= 1
# Nothing but the interrupt is to wake the loop.
import pbnb.notebook.busy
pbnb.notebook.busy._PACE = pbnb.notebook.busy._BEAT = 1000.0
%pb_serve Slow() --name slow
"""


@pytest.fixture
def port(kernel: Kernel) -> Iterator[str]:
    yield kernel.run(SILENT).stdout.split()[0]
    kernel.run("silent.close()\nfor each, _ in kept:\n    each.close()")


def comers(kernel: Kernel) -> int:
    """Returns how often somebody came; the cell that says it is not the one that waits."""
    return sum(cell.stdout.count("somebody came") for cell in kernel.cells.values())


@pytest.mark.parametrize("cell", CELLS)
def test_an_interrupt_ends_the_wait_at_once(kernel: Kernel, port: str, cell: str) -> None:
    kernel.run(SLOW)
    kernel.run("ref = %pb_connect slow")
    kernel.run("thread = threading.Thread(target=accept, daemon=True); thread.start()")
    before = comers(kernel)
    number = kernel.send(CELLS[cell].replace("PORT", port))
    wanted = 2 if "two" in cell else 1
    kernel.wait_until(number, lambda _: comers(kernel) >= before + wanted)
    kernel.interrupt()
    ended = kernel.wait(number)
    assert ended.status == "error"
    assert ended.ename == ("KeyboardInterrupt" if "nested" in cell else "CancelledError")
    if "call" in cell:
        # The peer's methods are cancelled, too.
        kernel.run("while Slow.running: await asyncio.sleep(0.01)")
    else:
        assert ended.traceback == f"{ended.ename}: the wait was interrupted"
    # The kernel goes on, and so does what it serves.
    kernel.run("again = %pb_connect slow")


def test_unloading_gives_the_signals_back(new_kernel: Callable[..., Kernel]) -> None:
    kernel = new_kernel()
    # The number of the file to which signals are told.
    fd = "import signal; told = signal.set_wakeup_fd(-1); signal.set_wakeup_fd(told); told"
    before = kernel.run(fd).result
    kernel.run("%load_ext pbnb")
    kernel.run("server = %pb_serve Echoer()")
    assert kernel.run(fd).result != before
    kernel.run("%unload_ext pbnb")
    assert kernel.run(fd).result == before
    kernel.run("%load_ext pbnb")
    kernel.run("server = %pb_serve Echoer()")
    assert kernel.run(fd).result != before


def test_somebody_elses_way_to_be_woken_is_kept() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)
        try:
            before = wakeup_fd()
            waker = InterruptWaker()
            waker.arm(loop)
            assert wakeup_fd() == before
            waker.disarm()
            assert wakeup_fd() == before
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    asyncio.run(main())


def test_a_signal_wakes_the_loop() -> None:
    async def main() -> None:
        waker = InterruptWaker()
        waker.arm(asyncio.get_running_loop())
        waker.arm(asyncio.get_running_loop())
        before = signal.signal(signal.SIGUSR1, lambda *_: woken.set_result(None))
        woken = asyncio.get_running_loop().create_future()
        try:
            # Nothing else is due: the handler's result is seen only because the signal woke.
            threading.Timer(0.05, signal.raise_signal, [signal.SIGUSR1]).start()
            await woken
        finally:
            signal.signal(signal.SIGUSR1, before)
            waker.disarm()
            waker.disarm()
        assert wakeup_fd() == -1

    asyncio.run(main())


def wakeup_fd() -> int:
    found = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found)
    return found
