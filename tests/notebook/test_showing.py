from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pbnb as pb
from pbnb.notebook import showing
from tests.support.kernels import Kernel
from tests.support.serving import served, until


async def _shown() -> None:
    async with served(pb.Root()) as (server, ref):
        assert repr(showing.show(server)) == f"<Panel of Root on {server.address}>"
        assert repr(pb.show(ref)) == f"<Panel of connection to {server.address}>"
        assert repr(showing.panel_of(ref.broker, {})) == repr(pb.show(ref))
        everything = showing.panel_of_all(lambda: [server], lambda: [ref.broker], list, {})
        tables, totals = everything.panel.rows()
        assert repr(everything) == "<Panel of this notebook>"
        assert totals["peers"] == 2 and [row[3] for row in tables["peers"]] == ["in", "out"]
        # And what stands in its variables, once.
        held: dict[str, Any] = {"server": server, "ref": ref, "again": ref, "other": 1}
        by_variable = showing.panel_of_all(lambda: [server], list, list, held)
        assert [row[3] for row in by_variable.panel.rows()[0]["peers"]] == ["in", "out"]
        assert list(by_variable.panel.source.servers()) == [server]


async def _kept_shown() -> None:
    server = await pb.serve(pb.Root())
    ref: Any = await pb.connect(server.address, keep=pb.Backoff(nearby=60))
    assert repr(pb.show(ref)) == f"<Panel of connection to {server.address}>"
    everything = showing.panel_of_all(list, list, lambda: [ref.broker], {"ref": ref})
    for source in (pb.show(ref).panel, everything.panel):
        assert [row[3] for row in source.rows()[0]["peers"]] == ["out"]
    connection = ref.broker.connection
    await server.close()
    await until(lambda: ref.broker.connection is not connection)
    for source in (pb.show(ref).panel, everything.panel):
        (row,) = source.rows()[0]["peers"]
        assert row[3].startswith("↻ ")
    await ref.broker.close()
    assert everything.panel.rows()[0]["peers"] == []


def test_what_is_kept_is_shown_with_a_connection_and_without() -> None:
    asyncio.run(_kept_shown())


def test_servers_connections_and_references_are_shown() -> None:
    asyncio.run(_shown())


@pytest.mark.parametrize("thing", [None, 1, "127.0.0.1:8789", pb.Root()])
def test_nothing_else_can_be_shown(thing: Any) -> None:
    with pytest.raises(TypeError, match="takes a server or a reference"):
        showing.show(thing)


def test_a_notebook_shows_all_that_it_serves_and_holds(kernel: Kernel) -> None:
    kernel.run("server = %pb_serve Echoer() --name echoer\nref = %pb_connect echoer")
    shown = kernel.run("%pb_show")
    assert shown.result == "<Panel of this notebook>"
    assert "<Panel of Echoer on 127.0.0.1:" in str(kernel.run("%pb_show server").result)
    assert "<Panel of connection to" in str(kernel.run("%pb_show ref").result)
    assert "takes a server or a reference" in str(kernel.attempt("%pb_show 1").evalue)


def test_loading_the_extension_does_not_load_widgets(kernel: Kernel) -> None:
    code = "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', {!r}]).returncode)"
    check = "import pbnb.notebook.magics, sys; sys.exit('anywidget' in sys.modules)"
    assert kernel.run(code.format(check)).stdout == "0\n"
