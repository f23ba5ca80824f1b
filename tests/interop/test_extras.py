"""Types that only pbnb has, and code: a Twisted peer refuses them, and the connection goes on."""

from __future__ import annotations

import asyncio
import pathlib
import uuid
from array import array
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import pbnb as pb
from tests.interop.peers import run_twisted, twisted_server
from tests.interop.served import Served

EXTRAS: dict[str, Any] = {
    "complex": 1j,
    "bytearray": bytearray(b"x"),
    "range": range(3),
    "UUID": uuid.UUID(int=1),
    "PurePosixPath": pathlib.PurePosixPath("a"),
    "datetime": datetime(2026, 1, 1, tzinfo=UTC),
    "ndarray": np.arange(3),
    "scalar": np.float64(1.5),
    "memoryview": memoryview(b"x"),
    "array": array("i", [1]),
    "arrow": pa.table({"a": [1]}),
    "image": Image.new("L", (1, 1)),
}


class Extras(Served):
    def remote_extraNames(self) -> list[str]:
        return [*EXTRAS, "function"]

    def remote_extra(self, name: str) -> Any:
        return [EXTRAS.get(name, pb.parse_address)]


def test_a_twisted_server_refuses_them_as_arguments() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            for value in EXTRAS.values():
                with pytest.raises(pb.InsecureJelly, match="Module pbnb not allowed"):
                    await root.callRemote("echo", [value])
                assert await root.callRemote("echo", "alive") == "alive"
            await root.broker.close()

    asyncio.run(main())


def test_a_twisted_server_can_learn_them() -> None:
    async def main() -> None:
        async with twisted_server() as peer:
            root = await pb.connect(peer.address)
            await root.callRemote("learnComplex")
            assert await root.callRemote("describe", 1 + 2j) == "complex (1+2j)"
            await root.broker.close()

    asyncio.run(main())


def test_a_twisted_client_gets_an_error_in_place_of_an_answer_that_it_cannot_read() -> None:
    async def main() -> dict[str, Any]:
        async with await pb.serve(Extras()) as server:
            return await run_twisted(server.port, "extras")

    found = asyncio.run(main())
    assert found.pop("alive") == "alive"
    assert found.keys() == {*EXTRAS, "function"}
    for name, failure in found.items():
        assert "InsecureJelly" in failure["trapped"]
        assert name in failure["value"] and "is not sent" in failure["value"]
