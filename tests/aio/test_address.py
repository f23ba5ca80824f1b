"""Addresses as people type them."""

from __future__ import annotations

import pytest

from pbnb.aio.address import format_address, is_loopback, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8789", "127.0.0.1", 8789),
        ("localhost:1", "localhost", 1),
        (" lab.example:65535 ", "lab.example", 65535),
        ("[::1]:8789", "::1", 8789),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)
    assert format_address(host, port) == text.strip()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write host:port"),
        ("8789", "write host:port"),
        ("localhost", "write host:port"),
        ("localhost:", "write host:port"),
        ("localhost:http", "write host:port"),
        ("localhost:-1", "write host:port"),
        ("localhost:٨٧", "write host:port"),
        ("localhost:0", "1 to 65535"),
        ("localhost:65536", "1 to 65535"),
        ("::1:8789", "in brackets"),
        (":8789", "localhost:8789"),
    ],
)
def test_what_is_no_address_says_what_is_missing(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("lab.example", False),
    ],
)
def test_which_hosts_only_this_machine_reaches(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here
