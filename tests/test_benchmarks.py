"""The benchmarks run: each workload, for milliseconds, against each peer, with real calls."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.__main__ import chosen, main, profile
from benchmarks.chart import PANELS, chart
from benchmarks.measure import Measured, percentile
from benchmarks.pairs import Ended, Failed, Pair, names
from benchmarks.report import Results
from benchmarks.workloads import WORKLOADS, Case, WrongAnswer, expect

SECONDS = 0.002
PATIENCE = 60.0
SMALLEST = [
    Case(workload, 80_000 if workload.name == "arrays" else workload.cases[0])
    for workload in WORKLOADS.values()
]
# What peers cannot do, and the word that says why. Arrays are the business of some dialects.
REFUSED = {
    ("floor", "references"): "no references",
    ("twisted", "arrays"): "Unpersistable",
    **{(peer, "arrays"): "numpy.ndarray" for peer in names() if peer.startswith("pbnb:")},
}


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[str, Pair]]:
    with ExitStack() as ends:
        yield {peer: ends.enter_context(Pair(peer)) for peer in names()}


def test_every_peer_is_there() -> None:
    peers = names()
    assert {"floor", "twisted", "pbnb:pb"} <= set(peers)
    assert "pbnb:none" not in peers


@pytest.mark.parametrize("peer", names())
def test_every_workload_runs(pairs: dict[str, Pair], peer: str) -> None:
    pair = pairs[peer]
    for case in SMALLEST:
        before = pair.answered()
        try:
            measured = pair.measure(case, SECONDS, PATIENCE)
        except Failed as error:
            assert REFUSED.get((peer, case.workload.name), "nothing") in str(error)
            continue
        assert math.isfinite(measured.rate) and measured.rate > 0, case
        assert measured.calls > 0, case
        # The server has seen the calls that the client counted.
        assert pair.answered() - before >= measured.calls, case


def test_memory_is_weighed(pairs: dict[str, Pair]) -> None:
    measured = pairs["floor"].measure(Case(WORKLOADS["connections"], 1000), SECONDS, PATIENCE)
    # A connection is at least a protocol, a transport and a socket object at either end.
    for weight in (measured.more["server_bytes"], measured.more["client_bytes"]):
        assert 100 < weight < 100_000


def test_a_peer_that_ends_is_no_end_of_the_run() -> None:
    with Pair("floor") as pair:
        pair.measure(SMALLEST[0], SECONDS, PATIENCE)
        with pytest.raises(Ended, match="said nothing for 0 s"):
            pair.measure(SMALLEST[0], 60.0, 0.05)


def test_percentiles() -> None:
    ordered = [float(number) for number in range(100)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.99)) == (50.0, 99.0)
    assert percentile([1.0], 0.99) == 1.0


def test_a_wrong_answer_is_no_measurement() -> None:
    expect([1, 2], [1, 2])
    expect(memoryview(b"ab"), memoryview(b"ab"))
    with pytest.raises(WrongAnswer, match="list was sent, and list that is not the same"):
        expect([1, 2], [1, 3])


def test_cases_are_chosen_by_name() -> None:
    assert [str(case) for case in chosen("in_flight:64,nested", many=False)] == [
        "in_flight:64",
        "nested",
    ]
    assert len(chosen("in_flight", many=False)) == 3
    few, many = chosen(None, many=False), chosen(None, many=True)
    assert [str(case) for case in many if case not in few] == ["connections:5000"]
    with pytest.raises(ValueError, match="no workload 'nothing'; there are one_call, in_flight"):
        chosen("nothing", many=False)


def made_up() -> Results:
    """Three rounds in which the machine became slower, and all peers with it."""
    results = Results(report.machine(), ["floor", "twisted", "pbnb:pb"])
    (case,) = chosen("one_call", many=False)
    for drift in (1.0, 0.5, 0.25):
        for peer, rate in (("floor", 16_000), ("twisted", 2_000), ("pbnb:pb", 8_000)):
            more = {"p50_us": 1e6 / rate / drift, "p99_us": 2e6 / rate / drift}
            results.add(case, peer, Measured(rate * drift, 100, more))
    (array,) = chosen("arrays:8388608", many=False)
    results.add(array, "floor", Measured(100.0, 10))
    results.refuse(array, "twisted", "it does not know arrays")
    results.add(array, "pbnb:pb", Measured(50.0, 10))
    return results


def test_ratios_are_of_one_round() -> None:
    rate, half, most, array = made_up().rows()
    assert rate.median("pbnb:pb") == 4_000.0
    assert rate.ratio("pbnb:pb", "floor") == 0.5
    assert rate.ratio("pbnb:pb", "twisted") == 4.0
    assert (half.unit, half.ratio("pbnb:pb", "floor")) == ("µs", 2.0)
    assert most.figure == "p99_us"
    # 50 times 8 MiB in a second, as MB.
    assert (array.unit, array.median("pbnb:pb")) == ("MB/s", 50 * 8.388608)
    assert array.median("twisted") is None and array.ratio("pbnb:pb", "twisted") is None


def test_the_tables() -> None:
    results = made_up()
    head, ruler, rate = report.text(results).splitlines()[:3]
    assert head.split() == ["floor", "Twisted", "×floor", "pbnb", "(pb)", "×floor", "×Twisted"]
    assert set(ruler) == {"─"}
    assert rate.split()[-7:] == ["calls/s", "8,000", "1,000", "×0.125", "4,000", "×0.5", "×4"]
    assert "Medians over 3 rounds" in report.text(results)
    written = report.markdown(results)
    assert "| calls, one after the other | calls/s | 8,000 | 1,000 | ×0.125 |" in written
    assert "| float64 array of 8 MiB | MB/s | 839 | – | – | 419 | ×0.5 | – |" in written
    assert written.endswith("Twisted, float64 array of 8 MiB: it does not know arrays")


def test_json_holds_everything() -> None:
    results = made_up()
    said = json.loads(json.dumps(results.as_json()))
    again = Results.from_json(said)
    assert again == results
    assert said["table"][0]["peers"]["pbnb:pb"] == {
        "median": 4_000.0,
        "of_floor": 0.5,
        "of_twisted": 4.0,
    }
    assert {"python", "processor", "processors", "load", "versions"} <= set(said["machine"])
    assert "pbnb" in said["machine"]["versions"]


def test_a_busy_machine_is_mentioned() -> None:
    results = made_up()
    results.machine |= {"load": 8.0, "processors": 2}
    assert "The machine had a load of 8.0" in report.text(results)
    results.machine["load"] = 0.1
    assert "load of" not in report.text(results)


def test_the_chart() -> None:
    svg = ElementTree.fromstring(chart(made_up()))
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"floor", "Twisted", "pbnb (pb)"} <= set(texts)
    # Nothing was measured for connections and references.
    assert len(PANELS) == 4 and texts.count("not measured") == 2
    lines = list(svg.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 5  # three of calls, two of arrays
    titles = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert "pbnb (pb), 1: 250 µs" in titles
    assert "floor, 8 MiB: 10 ms" in titles


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, table, drawn = (tmp_path / name for name in ("found.json", "table.md", "cost.svg"))
    asked = ["--peers", "floor", "--only", "one_call,references:1000", "--rounds", "2"]
    outputs = ["--json", str(found), "--markdown", str(table), "--chart", str(drawn)]
    assert main([*asked, "--seconds", str(SECONDS), *outputs]) == 0
    said = capsys.readouterr().out
    assert "calls, one after the other" in said
    assert "the floor has no references" in said
    results = Results.from_json(json.loads(found.read_text("utf-8")))
    assert results.peers == ["floor"]
    assert len(results.found["one_call"]["floor"]) == 2
    assert table.read_text("utf-8").startswith("|  |  | floor |")
    assert ElementTree.parse(drawn).getroot().tag.endswith("svg")


def test_what_was_written_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "found.json"
    found.write_text(json.dumps(made_up().as_json()), encoding="utf-8")
    assert main(["--read", str(found)]) == 0
    assert capsys.readouterr().out == report.text(made_up()) + "\n"


@pytest.mark.parametrize("words", [["--peers", "nobody"], ["--only", "nothing"]])
def test_unknown_names_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert f"there is no {words[0][2:].rstrip('s').replace('only', 'workload')}" in (
        capsys.readouterr().err
    )


def test_a_profile_of_both_ends() -> None:
    # As many calls as are in flight are made in any case, so that they are what takes the time.
    shown = profile("pbnb:pb", chosen("in_flight:1000", many=False)[0], SECONDS)
    client, server = shown.split("--- server")
    for text in (client, server):
        assert " function calls " in text
        assert "/pbnb/protocol/broker.py" in text
