"""Which cell waits for what, in a shell of its own; kernels are in test_busy and test_progress."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import Any

from pbnb.notebook.cells import CellWatch
from tests.support.serving import until
from tests.support.shells import Shell


class Shown:
    """Counts the looks, and says when it was taken away."""

    def __init__(self) -> None:
        self.looks = 0
        self.ended = False

    def look(self, now: float) -> None:
        self.looks += 1

    def end(self) -> None:
        self.ended = True


class Watched:
    """A watch, and what it has made."""

    def __init__(self, shell: Any) -> None:
        self.made: list[Shown] = []
        self.watch: CellWatch[Shown] = CellWatch(shell, self.make, first=0.001, pace=0.001)
        self.watch.install()

    def make(self) -> Shown:
        self.made.append(Shown())
        return self.made[-1]


def test_a_cell_is_looked_at_until_it_ends() -> None:
    async def main() -> None:
        shell = Shell(kernel=object())
        watched = Watched(shell)
        shell.events.trigger("pre_run_cell", None)
        (shown,) = watched.made
        await until(lambda: shown.looks > 2)
        assert not shown.ended
        shell.events.trigger("post_run_cell", None)
        assert shown.ended
        looks = shown.looks
        await asyncio.sleep(0.01)
        assert shown.looks == looks
        watched.watch.uninstall()
        shell.events.trigger("pre_run_cell", None)
        assert len(watched.made) == 1

    asyncio.run(main())


def test_what_a_cell_has_started_belongs_to_it_for_each_watch() -> None:
    async def main() -> None:
        shell = Shell(kernel=object())
        one, other = Watched(shell), Watched(shell)
        contexts: list[Context] = []
        for _ in range(2):
            shell.events.trigger("pre_run_cell", None)
            contexts.append(copy_context())
            shell.events.trigger("post_run_cell", None)
        for watched in (one, other):
            first, second = watched.made
            assert watched.watch.waits(first, [contexts[0]])
            assert watched.watch.waits(second, contexts)
            assert not watched.watch.waits(second, [contexts[0]])
            assert not watched.watch.waits(first, [Context()])

    asyncio.run(main())


def test_a_cell_that_never_ended_is_over_when_the_next_begins() -> None:
    async def main() -> None:
        shell = Shell(kernel=object())
        watched = Watched(shell)
        shell.events.trigger("pre_run_cell", None)
        shell.events.trigger("pre_run_cell", None)
        first, second = watched.made
        assert first.ended and not second.ended
        watched.watch.uninstall()
        assert second.ended

    asyncio.run(main())


def test_a_terminal_is_not_watched() -> None:
    async def main() -> None:
        shell = Shell()
        watched = Watched(shell)
        shell.events.trigger("pre_run_cell", None)
        assert not watched.made

    asyncio.run(main())
