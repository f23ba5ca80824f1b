"""A server in a process of its own, to be killed, stopped and kept busy: prints its address.

Its argument is the port to listen on, any if there is none.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pbnb as pb


class Thing(pb.Referenceable):
    def remote_twice(self, value: int) -> int:
        return 2 * value


class Root(pb.Root):
    streams = 0

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_thing(self) -> Thing:
        return Thing()

    def remote_numbers(self, to: int = 10**9) -> Iterator[int]:
        self.streams += 1
        try:
            yield from range(1, to + 1)
            raise LookupError("no more numbers")
        finally:
            self.streams -= 1

    def remote_streams(self) -> int:
        return self.streams

    def remote_pid(self) -> int:
        return os.getpid()

    async def remote_slow_echo(self, value: Any, seconds: float) -> Any:
        await asyncio.sleep(seconds)
        return value

    async def remote_never(self, value: Any = None) -> None:
        await asyncio.Event().wait()

    def remote_block(self, path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.01)

    def remote_exit(self) -> None:
        os._exit(1)

    def remote_system_exit(self) -> None:
        raise SystemExit

    def remote_stop_loop(self) -> None:
        asyncio.get_running_loop().stop()


async def main(port: int = 0) -> None:
    async with await pb.serve(Root(), port=port) as server:
        print(server.address, flush=True)
        threading.Thread(target=gc.collect).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
