from __future__ import annotations

import pytest

from tests.support.kernels import Kernel


@pytest.mark.parametrize(
    ("line", "offered", "replaced"),
    [
        ("%pb_connect ", ["echoes", "other", "A", "B"], ""),
        ("ref = %pb_connect ", ["echoes", "other", "A", "B"], ""),
        ("pb_connect ec", ["echoes"], "ec"),
        ("x = 1\nref = %pb_connect ec", ["echoes"], "ec"),
        ("ref = %pb_connect 127.0.0.1:", ["A", "B"], "127.0.0.1:"),
        ("%time ref = %pb_connect --timeout 3 oth", ["other"], "oth"),
        ("def f():\n    return_ = %pb_connect oth", ["other"], "oth"),
        ("%pb_stop ", ["echoes", "all"], ""),
        ("%pb_stop e", ["echoes"], "e"),
        ("%pb_connect zzz", [], ""),
        ("%pb_connect --t", ["--timeout"], "--t"),
        ("%pb_serve Echoe", ["Echoer"], "Echoe"),
        ("server = %pb_serve Echoer() --a", ["--anonymous"], "--a"),
    ],
)
def test_what_tab_offers(
    kernel: Kernel, peer: Kernel, line: str, offered: list[str], replaced: str
) -> None:
    peer.run("%pb_serve Echoer() --name other")
    kernel.run("server = %pb_serve Echoer() --name echoes")
    addresses = {
        kernel.run("print(server.address)").stdout.strip(),
        peer.run("%pb_status").stdout.split("\n")[1].split()[1],
    }
    matches, text = kernel.complete(line)
    assert text == replaced
    expected = [word for word in offered if word not in "AB"]
    if "A" in offered:
        assert addresses <= set(matches)
        matches = [match for match in matches if match not in addresses]
    assert matches == expected


def test_other_lines_are_completed_as_before(kernel: Kernel) -> None:
    kernel.run("a_long_name = 1")
    assert kernel.complete("x = a_long_")[0] == ["a_long_name"]
    assert "pb_connect" in "".join(kernel.complete("%pb_con")[0])
