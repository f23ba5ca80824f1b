"""Addresses: ``host:port`` as people type it."""

from __future__ import annotations

import functools
import ipaddress

__all__ = ["format_address", "is_loopback", "numeric_address", "parse_address"]


def parse_address(address: str) -> tuple[str, int]:
    """Returns the host and the port of an address.

    Args:
        address: ``"host:port"``; a numeric IPv6 host in brackets, as in ``"[::1]:8789"``.

    Raises:
        ValueError: It is no such address; the text says what is missing.
    """
    text = address.strip()
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not port.isascii():
        raise ValueError(f"{address!r} is not an address: write host:port, such as localhost:8789")
    if not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} has no possible port: ports are 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r} is ambiguous: write an IPv6 host in brackets, [{host}]:…")
    if not host:
        raise ValueError(f"{address!r} names no host: write localhost:{port} for this machine")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """Returns an address as people type it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Asked of both ends of each connection; most have few ends.
@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Returns whether a host can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=256)
def numeric_address(host: str, port: int) -> str:
    """Returns an address in the one form that both ends of a connection have for it.

    Args:
        host: A numeric host.
        port: The port.

    Raises:
        ValueError: The host is a name.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return format_address(str(mapped or address), port)
