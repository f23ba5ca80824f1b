"""The widget that follows a log; how it is used stands in test_prints."""

from __future__ import annotations

import asyncio

from pbnb.notebook.log_widget import show
from pbnb.notebook.prints import PrintLog


def test_many_changes_are_one_message() -> None:
    async def main() -> None:
        log = PrintLog()
        widget = show(log, asyncio.get_running_loop())
        values: list[str] = []
        shown = asyncio.Event()
        widget.observe(lambda change: (values.append(change["new"]), shown.set()), "value")
        for round in ("a", "b"):
            for number in range(1000):
                log.add("stdout", f"{round}{number}\n")
            await shown.wait()
            shown.clear()
        assert len(values) == 2
        assert values == [values[0], log.html()]
        assert "a999" in values[0] and "b0" not in values[0]

    asyncio.run(main())
