"""pbnb, in one of its dialects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pbnb as pb

from . import HOST, Peer, Serving, objects

# The budgets are counted all the same: this only raises what one peer may take of each.
LIMITS = pb.Limits.unlimited()


class Pbnb(Peer):
    """pbnb on asyncio's own loop; the variant is the one dialect that both ends speak."""

    def serve(self, ready: Callable[[int, Serving], object]) -> None:
        async def main() -> None:
            root = objects.lender(pb)
            async with await pb.serve(
                root, host=HOST, port=0, limits=LIMITS, dialects=(self.variant,)
            ) as server:
                ready(server.port, root)
                await asyncio.Event().wait()

        asyncio.run(main())

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(main())

    async def connect(self, port: int) -> pb.RemoteReference:
        return await pb.connect(f"{HOST}:{port}", limits=LIMITS, dialects=(self.variant,))

    async def close(self, root: pb.RemoteReference) -> None:
        await root.broker.close()

    async def gather(self, work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        return await asyncio.gather(*work)

    def pinged(self) -> pb.Referenceable:
        ref: pb.Referenceable = objects.pinged(pb)
        return ref


PEER = Pbnb
