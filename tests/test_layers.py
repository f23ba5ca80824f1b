"""The floors of the house: a file imports its own package and floors below, at its top.

Read with ast from every file of pbnb, so that an import which never runs counts too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "pbnb"

# Packages and top-level files of pbnb, floor by floor.
FLOORS: list[set[str]] = [
    {"cards", "errors", "limits", "failure", "flavors"},
    {"wire", "refs"},
    {"jelly"},
    {"protocol", "cred"},
    {"aio"},
    {"notebook"},
]
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
GROUND = 0
ROOF = len(FLOORS)  # pbnb/__init__.py and pbnb/__main__.py, which may import every floor
AIO = FLOOR_OF["aio"]
NOTEBOOK = FLOOR_OF["notebook"]

# The lowest floor that may import a package from outside.
LOWEST_FLOOR = {
    "asyncio": AIO,
    "socket": AIO,
    "ssl": AIO,
    "cryptography": AIO,
    "selectors": AIO,
    "IPython": NOTEBOOK,
    "ipykernel": NOTEBOOK,
    "ipywidgets": NOTEBOOK,
    "traitlets": NOTEBOOK,
    "psutil": NOTEBOOK,
    "comm": NOTEBOOK,
    "anywidget": NOTEBOOK,
    "jupyter_client": NOTEBOOK,
    "jupyter_core": NOTEBOOK,
    "nest_asyncio2": NOTEBOOK,
    "tornado": NOTEBOOK,
    "zmq": NOTEBOOK,
}
# pbnb is the peer of the first, and builds no object on a peer's word, as the others do.
BANNED = {"twisted", "zope", "pickle", "marshal", "shelve", "nest_asyncio"}

# The functions that import late: `import pbnb` is cheap, and works where there is no IPython.
LATE = {
    ("pbnb/__init__.py", "load_ipython_extension"),
    ("pbnb/__init__.py", "unload_ipython_extension"),
    # ipywidgets is not everywhere, and nothing else needs it.
    ("pbnb/notebook/magics.py", "_log_widget"),
    ("pbnb/notebook/progress.py", "_widgets"),
    # cryptography is slow to import, and most connections are not encrypted.
    ("pbnb/aio/tls.py", "_keys"),
    # Imported when something of it was received, where it is installed at all.
    ("pbnb/jelly/arrays.py", "_numpy"),
    ("pbnb/jelly/images.py", "_pillow"),
    ("pbnb/jelly/tables.py", "_imported"),
    # Windows has no locks of this kind, and no Unix sockets to lock for.
    ("pbnb/aio/unix.py", "_locked"),
    # Nor has it seals.
    ("pbnb/wire/segments.py", "_seal"),
    ("pbnb/wire/segments.py", "_is_sealed"),
    ("pbnb/__init__.py", "show"),
    ("pbnb/__init__.py", "bind"),
    ("pbnb/__init__.py", "view"),
    ("pbnb/notebook/showing.py", "panel_of"),
    ("pbnb/notebook/showing.py", "panel_of_all"),
    ("pbnb/notebook/showing.py", "invitation_widget"),
}


def floor_of(path: str) -> int:
    part = Path(path).parts[1]
    return FLOOR_OF.get(part.removesuffix(".py"), ROOF)


def package_of(path: str) -> str:
    return Path(path).parts[1].removesuffix(".py")


def imported_modules(path: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yields the dotted names that one import statement of a file names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif node.level == 0:
        assert node.module is not None
        yield node.module
    else:
        package = Path(path).parts[: -node.level]
        if len(package) == 0:
            yield "outside pbnb"
        elif node.module is None or len(package) == 1:
            # `from . import x` and `from ..x import y` name a part of pbnb by its first word.
            names = [alias.name for alias in node.names] if node.module is None else [node.module]
            yield from (".".join([*package, name]) for name in names)
        else:
            yield ".".join([*package, node.module])


def import_faults(path: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    here = floor_of(path)
    where = f"{path}:{node.lineno}"
    for module in imported_modules(path, node):
        top, *rest = module.split(".")
        if top == "outside pbnb":
            yield f"{where} imports from outside pbnb"
        elif top != "pbnb":
            if top in BANNED:
                yield f"{where} imports {top}"
            if here < LOWEST_FLOOR.get(top, GROUND):
                yield f"{where} is below the floor that may import {top}"
        elif here == ROOF:
            pass
        elif not rest or rest[0] not in FLOOR_OF:
            yield f"{where} imports the roof, pbnb"
        elif here == GROUND and FLOOR_OF[rest[0]] == GROUND:
            pass
        elif rest[0] != package_of(path) and FLOOR_OF[rest[0]] >= here:
            yield f"{where} on floor {here} imports pbnb.{rest[0]} of floor {FLOOR_OF[rest[0]]}"


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def top_of(tree: ast.Module) -> set[ast.AST]:
    """Returns the import statements that stand before everything else in a file."""
    found: set[ast.AST] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.add(node)
        elif is_type_checking(node):
            found.update(ast.walk(node))
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            break
    return found


def late_imports(path: str, tree: ast.Module) -> set[ast.AST]:
    """Returns what stands in the functions that may import late."""
    return {
        inner
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and (path, node.name) in LATE
        for inner in ast.walk(node)
    }


def faults(path: str, source: str) -> list[str]:
    """Returns what is wrong with the imports of one file, a line for each."""
    tree = ast.parse(source)
    in_place = top_of(tree) | late_imports(path, tree)
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += import_faults(path, node)
            if node not in in_place:
                found.append(f"{path}:{node.lineno} imports below the top of the file")
    return found


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def test_every_part_of_pbnb_stands_on_a_floor() -> None:
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in sources()}
    assert parts - set(FLOOR_OF) <= {"__init__", "__main__"}


def test_imports_go_down() -> None:
    found: list[str] = []
    for path in sources():
        name = path.relative_to(ROOT.parent).as_posix()
        found += faults(name, path.read_text(encoding="utf-8"))
    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pbnb/wire/banana.py", "from ..jelly import jelly"),
        ("pbnb/wire/banana.py", "from ..refs.tables import Exports"),
        ("pbnb/wire/banana.py", "from pbnb.aio import client"),
        ("pbnb/wire/banana.py", "import pbnb.aio.client"),
        ("pbnb/wire/banana.py", "from .. import jelly"),
        ("pbnb/wire/banana.py", "from .. import Error"),
        ("pbnb/wire/banana.py", "import pbnb"),
        ("pbnb/wire/banana.py", "from ... import setup"),
        ("pbnb/wire/banana.py", "import asyncio"),
        ("pbnb/protocol/broker.py", "from asyncio import Future"),
        ("pbnb/aio/server.py", "from IPython import get_ipython"),
        ("pbnb/aio/server.py", "import traitlets.config"),
        ("pbnb/flavors.py", "from .wire import banana"),
        ("pbnb/jelly/unjelly.py", "import pickle"),
        ("pbnb/aio/deferred.py", "from twisted.internet.defer import Deferred"),
        ("pbnb/__init__.py", "import marshal"),
        ("pbnb/aio/client.py", "def connect():\n    from .server import serve"),
        ("pbnb/aio/client.py", "x = 1\nfrom .server import serve"),
        ("pbnb/aio/client.py", "try:\n    import ssl\nexcept ImportError:\n    pass"),
        (
            "pbnb/refs/tables.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..jelly import jelly",
        ),
        ("pbnb/__init__.py", "def other():\n    from .notebook.magics import register"),
    ],
)
def test_a_fault_is_found(path: str, source: str) -> None:
    assert len(faults(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pbnb/wire/banana.py", '"""Text."""\n\nfrom ..errors import BananaError\nimport struct'),
        ("pbnb/wire/banana.py", "from . import dialect\nfrom .dialect import Dialect"),
        ("pbnb/wire/banana.py", "from .. import errors"),
        ("pbnb/flavors.py", "from .errors import NoSuchMethod"),
        ("pbnb/aio/server.py", "import asyncio\nfrom ..protocol import broker"),
        ("pbnb/notebook/magics.py", "import asyncio\nfrom IPython import get_ipython"),
        ("pbnb/__init__.py", "from .aio.client import connect"),
        (
            "pbnb/__init__.py",
            "def load_ipython_extension(shell):\n    from .notebook.magics import register",
        ),
        (
            "pbnb/refs/tables.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..errors import Error",
        ),
    ],
)
def test_a_good_import_is_no_fault(path: str, source: str) -> None:
    assert faults(path, source) == []
