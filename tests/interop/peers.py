"""Starts Twisted programs next to a test, and ends them again."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("twisted_peer.py")
# Bounds for what takes far less, so that a test that goes wrong ends.
PATIENCE = 60.0
PASSWORD = "correct horse"


class TwistedPeer:
    """A Twisted process that runs; what it said on its standard output is read line by line."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def line(self) -> str:
        """Returns the next line it says, or "" when it has ended."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().strip()

    async def result(self) -> dict[str, Any]:
        """Returns the next line it says, which is JSON."""
        line = await self.line()
        assert line, "the Twisted peer ended; see what it wrote below"
        result = json.loads(line)
        assert isinstance(result, dict)
        return result

    async def results(self) -> dict[str, Any]:
        """Returns all that it says until it ends."""
        found: dict[str, Any] = {}
        while line := await self.line():
            found |= json.loads(line)
        return found


@asynccontextmanager
async def twisted_process(*arguments: str, script: Path = SCRIPT) -> AsyncIterator[TwistedPeer]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdin is not None and process.stderr is not None
    log = asyncio.create_task(process.stderr.read())
    try:
        yield TwistedPeer(process)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        # pytest shows it when the test fails.
        print((await log).decode(errors="replace"))


@asynccontextmanager
async def twisted_server(*arguments: str) -> AsyncIterator[TwistedPeer]:
    """A Twisted server, ready to be connected to."""
    async with twisted_process("server", *arguments) as peer:
        word, _, port = (await peer.line()).partition(" ")
        assert word == "READY", "the Twisted server did not start; see what it wrote below"
        peer.port = int(port)
        yield peer


def twisted_client(port: int, scenario: str, *arguments: str) -> Any:
    """A Twisted client that runs one of its scenarios against a port of this process."""
    return twisted_process("client", str(port), scenario, *arguments)


async def run_twisted(port: int, scenario: str, *arguments: str) -> dict[str, Any]:
    """Returns what a Twisted client's scenario found, once it has ended."""
    async with twisted_client(port, scenario, *arguments) as peer:
        found = await peer.results()
        assert await peer.process.wait() == 0
        return found
