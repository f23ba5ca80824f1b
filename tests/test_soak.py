"""A short soak: see `tests.soak`, which takes as long as one likes."""

from __future__ import annotations

from tests.soak import Report, soak


def test_a_kernel_keeps_nothing_of_peers_that_come_and_go() -> None:
    report = soak(seconds=16, seed=1, programs=True)
    assert report.leaks == {}, str(report)
    assert report.wrong == [], str(report)
    # Fewer on a slow machine, but never none.
    assert report.calls > 50 and report.kills >= 2 and report.connections >= 2, str(report)
    assert report.after["Connection"] == report.after["RemoteReference"] == 0, str(report)


def test_a_leak_is_found() -> None:
    before = {"Connection": 0, "files": 60, "memory": 100_000_000}
    assert Report(before=before, after=before).leaks == {}
    grown = {"Connection": 1, "files": 63, "memory": 117_000_000}
    assert set(Report(before=before, after=grown).leaks) == set(before)
    assert Report(before=before, after={**before, "memory": 115_000_000}).leaks == {}
