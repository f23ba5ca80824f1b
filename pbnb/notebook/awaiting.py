"""Makes the cell wait for a magic, where the cell can.

A line magic is a plain function, called while the kernel's loop runs: it cannot wait for the
network without nesting the loop, and nesting changes asyncio for the whole kernel. So the text
that IPython has made of ``ref = %pb_connect name``, which is

    ref = get_ipython().run_line_magic('pb_connect', 'name')

is changed once more wherever Python allows ``await``: at the top level of a cell that the kernel
runs itself, and inside ``async def``. Everywhere else it stays, and the magic waits as
`pbnb.notebook.blocking` describes. The same is done with ``run_cell_magic``, which IPython makes
of a cell that begins with ``%%``.
"""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from IPython.core.async_helpers import _asyncio_runner
from IPython.core.interactiveshell import InteractiveShell

__all__ = ["PLAIN", "AwaitingCells", "rewrite"]

PLAIN = "get_ipython().run_line_magic"
"""What IPython writes for a line magic, up to the arguments."""

_PLAIN_CELL = "get_ipython().run_cell_magic"
# How many arguments it writes.
_ARGUMENTS = {PLAIN: 2, _PLAIN_CELL: 3}
_CALLED = {ast.dump(ast.parse(plain, mode="eval").body): plain for plain in _ARGUMENTS}


@dataclass(frozen=True)
class _Call:
    """One use of a magic in a cell, and what stands around it."""

    node: ast.Call
    plain: str
    may_await: bool
    is_statement: bool


class _Calls(ast.NodeVisitor):
    """Collects the uses of some magics in a cell."""

    def __init__(
        self, names: Collection[str], cell_names: Collection[str], may_await: bool
    ) -> None:
        self.names = {PLAIN: names, _PLAIN_CELL: cell_names}
        self.may_await = may_await
        self.found: list[_Call] = []

    def visit_Expr(self, node: ast.Expr) -> None:
        if plain := self._used_in(node.value):
            self._add(node.value, plain, is_statement=True)
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if plain := self._used_in(node):
            self._add(node, plain, is_statement=False)
        else:
            self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        # The defaults and decorators belong to the scope around the function.
        for outer in (node.args, *node.decorator_list):
            self.visit(outer)
        with self._awaiting(True):
            for statement in node.body:
                self.visit(statement)

    def _without_await(self, node: ast.AST) -> None:
        with self._awaiting(False):
            self.generic_visit(node)

    visit_FunctionDef = visit_Lambda = visit_ClassDef = _without_await
    # An await would turn a generator expression into an asynchronous one.
    visit_GeneratorExp = visit_ListComp = visit_SetComp = visit_DictComp = _without_await

    @contextmanager
    def _awaiting(self, allowed: bool) -> Iterator[None]:
        before, self.may_await = self.may_await, allowed
        try:
            yield
        finally:
            self.may_await = before

    def _used_in(self, node: ast.expr) -> str | None:
        """Returns how a magic is called that waits, or None for everything else."""
        if not isinstance(node, ast.Call) or node.keywords:
            return None
        plain = _CALLED.get(ast.dump(node.func))
        if plain is None or len(node.args) != _ARGUMENTS[plain]:
            return None
        name = node.args[0]
        waits = isinstance(name, ast.Constant) and name.value in self.names[plain]
        return plain if waits else None

    def _add(self, node: ast.expr, plain: str, *, is_statement: bool) -> None:
        assert isinstance(node, ast.Call)
        self.found.append(_Call(node, plain, self.may_await, is_statement))


def rewrite(
    source: str,
    owner: str,
    names: Collection[str],
    quiet: Collection[str] = (),
    cell_names: Collection[str] = (),
    *,
    top_level_await: bool,
) -> str:
    """Returns a cell in which magics are awaited wherever Python allows it.

    Args:
        source: The cell, after IPython's own transformations.
        owner: The expression that finds the object with the method ``later``.
        names: The magics to look for.
        quiet: Those of them whose value is not shown below a line that is nothing else.
        cell_names: Those of them that are also used with ``%%``.
        top_level_await: Whether the cell may await outside of functions.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return source  # IPython shows what is wrong with it
    calls = _Calls(names, cell_names, top_level_await)
    calls.visit(tree)
    # Columns are counted in bytes of UTF-8, lines as the parser counts them.
    lines = [line.encode() for line in source.split("\n")]
    # From the last to the first, so that the positions of those before stay true.
    for call in reversed(calls.found):
        _rewrite_one(lines, call, owner, quiet)
    return b"\n".join(lines).decode()


def _rewrite_one(lines: list[bytes], call: _Call, owner: str, quiet: Collection[str]) -> None:
    node = call.node
    assert isinstance(node.args[0], ast.Constant)
    if not call.may_await or node.lineno != node.end_lineno:
        return
    line = lines[node.lineno - 1]
    before, text, after = (
        line[: node.col_offset],
        line[node.col_offset : node.end_col_offset],
        line[node.end_col_offset :],
    )
    # Somebody may write such a call by hand, spaced or inside an f-string.
    if not text.startswith(f"{call.plain}(".encode()) or not text.endswith(b")"):
        return
    arguments = text[len(call.plain) + 1 : -1]
    if call.is_statement and node.args[0].value in quiet:
        # It will have printed one line already.
        arguments += b", quiet=True"
    text = b"(await %s.later(%s))" % (owner.encode(), arguments)
    lines[node.lineno - 1] = before + text + after


class AwaitingCells:
    """The input transformer that makes cells wait for magics.

    Args:
        shell: The shell whose cells are changed.
        owner: The expression that finds the object with the method ``later``.
        names: The magics that wait.
        quiet: Those of them whose value is not shown below a line that is nothing else.
        cell_names: Those of them that are also used with ``%%``.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        owner: str,
        names: Collection[str],
        quiet: Collection[str] = (),
        cell_names: Collection[str] = (),
    ) -> None:
        self._shell = shell
        self._owner = owner
        self._names = names
        self._quiet = quiet
        self._cell_names = cell_names

    def __call__(self, lines: list[str]) -> list[str]:
        source = "".join(lines)
        if not any(name in source for name in self._names):
            return lines
        may_await = self._cell_may_await()
        changed = rewrite(
            source,
            self._owner,
            self._names,
            self._quiet,
            self._cell_names,
            top_level_await=may_await,
        )
        return changed.splitlines(keepends=True)

    def _cell_may_await(self) -> bool:
        """Returns whether IPython will compile and run the next cell with await allowed."""
        if not self._shell.autoawait or self._shell.loop_runner is not _asyncio_runner:
            return False
        # %time and its like transform what they run, and compile it as a plain function would be.
        if _is_called_from(InteractiveShell.run_code):
            return False
        # run_cell waits by running the loop, and cannot where the loop runs already. A kernel
        # calls run_cell_async instead.
        return not (_loop_is_running() and _is_called_from(InteractiveShell.run_cell))


def _is_called_from(function: object) -> bool:
    """Returns whether a function is among those that are being called now.

    The stack says it without any count to keep: also beneath silent cells, in subshells, and
    after an interrupt at whatever moment.
    """
    code = getattr(function, "__code__", None)
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        frame = caller
        if frame.f_code is code:
            return True
    return False


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
