"""README does what it says: its demo, its program, and the commands that CI takes from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATIENCE = 120


def blocks(language: str) -> list[str]:
    """Returns README's code blocks in a language."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_the_first_two_commands() -> None:
    demo, tests = blocks("sh")[:2]
    assert demo.endswith("-m pbnb\n")
    assert tests.endswith("-m pytest\n")


def test_the_demo_shows_one_kernel_answering_another() -> None:
    done = run("-m", "pbnb")
    assert done.returncode == 0, done.stdout + done.stderr
    server, client = done.stdout.split("--- ")[1:]
    processes = [int(re.search(r"process (\d+)", each)[1]) for each in (server, client)]
    assert len({os.getpid(), *processes}) == 3
    assert "%pb_serve Echoer()" in server
    (address,) = re.findall(r"%pb_connect (\S+)\nIn", client)
    assert address in server
    call = 'In [3]: await ref.callRemote("echo", "hello network")\nOut[3]: \'hello network\'\n'
    assert call in client
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_demo_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = "raise SystemExit('this kernel is broken')"
    (tmp_path / "ipykernel_launcher.py").write_text(broken, encoding="utf-8")
    done = run("-m", "pbnb", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "pbnb: the server's kernel did not start" in done.stderr
    assert "this kernel is broken" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_fails_without_the_answer(tmp_path: Path) -> None:
    """The kernels of this demo have another pbnb, whose server answers something else."""
    package = tmp_path / "pbnb"
    package.mkdir()
    (package / "__init__.py").write_text(
        "def load_ipython_extension(shell):\n"
        "    class Fake:\n"
        "        address = '127.0.0.1:1'\n"
        "        async def callRemote(self, *args): return 'something else'\n"
        "    shell.register_magic_function(lambda line: Fake(), magic_name='pb_serve')\n"
        "    shell.register_magic_function(lambda line: Fake(), magic_name='pb_connect')\n"
        "class Root: pass\n",
        encoding="utf-8",
    )
    program = (ROOT / "pbnb" / "__main__.py").read_text(encoding="utf-8")
    (package / "__main__.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pbnb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the answer should have been 'hello network', and was 'something else'" in done.stderr


def test_the_program_prints_what_readme_says() -> None:
    (program,) = (block for block in blocks("python") if "asyncio.run" in block)
    done = run("-c", program)
    assert done.returncode == 0, done.stderr
    three, raised = done.stdout.splitlines()
    assert three == "3"
    assert raised.startswith("the method raised ")
