from __future__ import annotations

import ast

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from pbnb.notebook.awaiting import rewrite
from tests.support.kernels import Kernel

NAMES = ["pb_connect", "pb_serve"]


def rewritten(cell: str, *, top_level_await: bool = True) -> str:
    """Returns a cell after IPython's transformations and ours."""
    source = TransformerManager().transform_cell(cell)
    return rewrite(source, "PB", NAMES, ["pb_serve"], ["pb_peer"], top_level_await=top_level_await)


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("x = %pb_connect foo", "x = (await PB.later('pb_connect', 'foo'))"),
        ("%pb_connect foo", "(await PB.later('pb_connect', 'foo'))"),
        ("%pb_serve Echoer()", "(await PB.later('pb_serve', 'Echoer()', quiet=True))"),
        ("s = %pb_serve Echoer()", "s = (await PB.later('pb_serve', 'Echoer()'))"),
        (
            "for i in range(2):\n    x = %pb_connect foo",
            "for i in range(2):\n    x = (await PB.later('pb_connect', 'foo'))",
        ),
        (
            "with a:\n  if b:\n    %pb_connect foo",
            "with a:\n  if b:\n    (await PB.later('pb_connect', 'foo'))",
        ),
        (
            "async def f():\n    x = %pb_connect foo",
            "async def f():\n    x = (await PB.later('pb_connect', 'foo'))",
        ),
        (
            "%%pb_peer server\nx = %pb_connect foo\n'\"'\n",
            "(await PB.later('pb_peer', 'server', 'x = %pb_connect foo\\n\\'\"\\'\\n'))",
        ),
        # Columns are counted in bytes.
        (
            "ä = 'ö'; x = 1\nyé = %pb_connect ü",
            "ä = 'ö'; x = 1\nyé = (await PB.later('pb_connect', 'ü'))",
        ),
        # Two in one line can only be written by hand.
        (
            "a = [get_ipython().run_line_magic('pb_connect', 'x'),"
            " get_ipython().run_line_magic('pb_connect', 'y')]",
            "a = [(await PB.later('pb_connect', 'x')), (await PB.later('pb_connect', 'y'))]",
        ),
        (
            "get_ipython().run_line_magic('pb_connect', 'x').broker",
            "(await PB.later('pb_connect', 'x')).broker",
        ),
    ],
)
def test_where_the_cell_awaits(cell: str, wanted: str) -> None:
    changed = rewritten(cell)
    assert changed.rstrip("\n") == wanted
    compile(changed, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(
    "cell",
    [
        "def f():\n    x = %pb_connect foo\n",
        "async def f():\n    def g():\n        x = %pb_connect foo\n",
        "class A:\n    x = %pb_connect foo\n",
        "f = lambda: get_ipython().run_line_magic('pb_connect', 'x')\n",
        "def f(x=get_ipython().run_line_magic('pb_connect', 'x')): pass\n",
        "a = [get_ipython().run_line_magic('pb_connect', 'x') for i in b]\n",
        "%time x = %pb_connect foo\n",
        "%%time\nx = %pb_connect foo\n",
        "%%capture\nx = %pb_connect foo\n",
        "%%pb_connect foo\nx = 1\n",
        "%%time\n%%pb_peer server\nx = 1\n",
        "x = %pb_other foo\n",
        "x = 'pb_connect'\n",
        "x = get_ipython() . run_line_magic('pb_connect', 'x')\n",
        "x = get_ipython().run_line_magic('pb_connect', line='x')\n",
        "x = get_ipython().run_line_magic(\n  'pb_connect', 'x')\n",
        "pb_connect x = = 1\n",
        "",
    ],
)
def test_where_it_stays(cell: str) -> None:
    assert rewritten(cell) == TransformerManager().transform_cell(cell)


@pytest.mark.parametrize("cell", ["x = %pb_connect foo", "%pb_serve Echoer()"])
def test_without_autoawait_it_stays(cell: str) -> None:
    assert rewritten(cell, top_level_await=False) == TransformerManager().transform_cell(cell)


def test_async_def_awaits_without_autoawait() -> None:
    changed = rewritten("async def f():\n    x = %pb_connect foo", top_level_await=False)
    assert changed == "async def f():\n    x = (await PB.later('pb_connect', 'foo'))\n"


# The contexts in which a cell can wait: there asyncio stays as it was found.
AWAITING = {
    "assignment": "ref = %pb_connect {address}",
    "loop": "for number in range(2):\n    ref = %pb_connect {address}",
    "with and if": "import contextlib\nwith contextlib.nullcontext():\n"
    "    if True:\n        ref = %pb_connect {address}",
    "try": "try:\n    ref = %pb_connect {address}\nfinally:\n    pass",
    "async function": "async def get():\n    found = %pb_connect {address}\n    return found\n"
    "ref = await get()",
    "task": "async def get():\n    found = %pb_connect {address}\n    return found\n"
    "ref = await asyncio.create_task(get())",
    "variable of a function": "async def get(where):\n    found = %pb_connect {where}\n"
    "    return found\nref = await get('{address}')",
    "variable": "where = '{address}'\nref = %pb_connect $where",
}


@pytest.mark.parametrize("context", AWAITING)
def test_the_same_kernel_serves_and_awaits(kernel: Kernel, context: str) -> None:
    address = kernel.run("server = %pb_serve Echoer()\nprint(server.address)").stdout.split()[-1]
    # str.format would read the braces of other cells.
    kernel.run(AWAITING[context].replace("{address}", address))
    assert kernel.run('await ref.callRemote("echo", "hi")').result == "'hi'"
    assert kernel.run("is_nested()").result == "False"


def test_a_plain_line_shows_the_reference(kernel: Kernel) -> None:
    kernel.run("server = %pb_serve Echoer() --name plain")
    shown = kernel.run("%pb_connect plain").result or ""
    assert shown.startswith("<RemoteReference ")
    assert kernel.run('await _.callRemote("echo", "hi")').result == "'hi'"
    assert kernel.run("is_nested()").result == "False"
