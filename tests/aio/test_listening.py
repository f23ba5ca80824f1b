"""Where a server listens, and under which address others find it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.listening import open_door, reachable

NOTHING: dict[str, Any] = {
    "path": None,
    "certfile": None,
    "keyfile": None,
    "client_ca": None,
    "insecure": False,
    "open_to_all": False,
}


@pytest.mark.parametrize(
    ("host", "insecure", "encrypted"),
    [
        ("127.0.0.1", False, False),
        ("localhost", False, False),
        ("0.0.0.0", False, True),
        ("0.0.0.0", True, False),
        ("::", False, True),
    ],
)
def test_what_other_machines_reach_is_encrypted(host: str, insecure: bool, encrypted: bool) -> None:
    door = open_door(host, 0, **{**NOTHING, "insecure": insecure})
    with door.socket:
        assert (door.tls is not None) is encrypted
        assert door.port > 0 and door.address.endswith(f":{door.port}")


def test_a_key_without_its_certificate() -> None:
    with pytest.raises(TypeError, match="give certfile= too"):
        open_door("127.0.0.1", 0, **{**NOTHING, "keyfile": "x"})


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.7", "::1", "lab.example"])
def test_an_address_of_one_interface_is_what_others_use(host: str) -> None:
    assert reachable(host) == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_all_addresses_become_one_that_leads_here(host: str) -> None:
    found = ipaddress.ip_address(reachable(host))
    assert not found.is_unspecified

    async def main() -> None:
        async with await pb.serve(pb.Root(), host) as server:
            assert server.invitation.address == (
                f"{found}:{server.port}" if found.version == 4 else f"[{found}]:{server.port}"
            )
            ref = await pb.connect(server.invitation)
            await ref.broker.close()

    asyncio.run(main())


def test_a_machine_without_a_network_is_found_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline(socket.socket):
        def connect(self, address: Any) -> None:
            raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "socket", Offline)
    assert (reachable("0.0.0.0"), reachable("::")) == ("127.0.0.1", "::1")


def test_a_door_that_does_not_open_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_door("127.0.0.1", 0, **{**NOTHING, "certfile": tmp_path / "none.pem"})
    with pytest.raises(TypeError, match="a path alone"):
        open_door("0.0.0.0", 0, **{**NOTHING, "path": tmp_path / "desk"})
    assert list(tmp_path.iterdir()) == []
