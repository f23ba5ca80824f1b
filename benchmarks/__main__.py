"""The command line: ``python -m benchmarks`` measures everything and ends by itself."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from . import report
from .chart import chart
from .pairs import Ended, Failed, Pair, names
from .report import Results
from .workloads import MANY, WORKLOADS, Case

ROUNDS = 3
SECONDS = 0.25
LIMIT = 150.0
# Bounds what takes far less, so that a run ends by itself.
PATIENCE = 40.0
PROFILED_SECONDS = 3.0


class Progress:
    """Says on the standard error what is being measured, where that is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def say(self, what: str) -> None:
        if self._shown:
            print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def measure(
    peers: Sequence[str],
    cases: Sequence[Case],
    *,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    limit: float = LIMIT,
) -> Results:
    """Measures all cases with all peers, in rounds.

    In each round a case is measured with one peer after the other, so that what slows the machine
    down for a while hits all of them.

    Args:
        peers: Names of the peers.
        cases: What to measure.
        rounds: How often.
        seconds: How long one measurement takes, warming up not counted.
        limit: No round begins that would not have ended after so many seconds.
    """
    results, progress = Results(report.machine(), list(peers)), Progress()
    begun = monotonic()
    for number in range(rounds):
        round_begun = monotonic()
        wanted = [case for case in cases if number == 0 or not case.apart]
        with ExitStack() as ends:
            pairs = {peer: ends.enter_context(Pair(peer)) for peer in peers}
            for turn, case in enumerate(wanted):
                # Nobody is always the first after a pause.
                first = (number + turn) % len(peers)
                for peer in (*peers[first:], *peers[:first]):
                    if results.refused(case, peer):
                        continue
                    progress.say(f"round {number + 1} of {rounds}: {case.row}, {peer}")
                    try:
                        if case.apart:
                            with Pair(peer) as pair:
                                measured = pair.measure(case, seconds, PATIENCE)
                        else:
                            measured = pairs[peer].measure(case, seconds, PATIENCE)
                        results.add(case, peer, measured)
                    except Failed as error:
                        results.refuse(case, peer, str(error))
                        if isinstance(error, Ended) and not case.apart:
                            pairs[peer] = ends.enter_context(Pair(peer))
        if 2 * monotonic() - round_begun - begun > limit:
            break
    progress.say("")
    return results


def profile(peer: str, case: Case, seconds: float = PROFILED_SECONDS) -> str:
    """Returns where the time of a peer's client and server goes.

    Args:
        peer: The peer's name.
        case: What they do meanwhile.
        seconds: For how long.

    Raises:
        Failed: The peer cannot do it.
    """
    with Pair(peer, profile=True) as pair:
        measured = pair.measure(case, seconds, PATIENCE)
        client, server = pair.profiles()
    rate = f"{peer}, {case.row}: {measured.rate:,.0f} {case.workload.unit}/s while profiled"
    return f"{rate}\n\n--- client\n{client}\n--- server\n{server}"


def chosen(wanted: str | None, many: bool) -> list[Case]:
    """Returns the cases that a list of names asks for, such as ``one_call,in_flight:64``.

    Raises:
        ValueError: There is nothing of a name.
    """
    cases = [Case(workload, value) for workload in WORKLOADS.values() for value in workload.cases]
    if wanted is None:
        return [case for case in cases if many or case.value != MANY]
    found: list[Case] = []
    for name in wanted.split(","):
        named = [case for case in cases if name in (str(case), case.workload.name)]
        if not named:
            known = ", ".join(WORKLOADS)
            raise ValueError(f"there is no workload {name!r}; there are {known}")
        found += named
    return found


def arguments() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures pbnb beside Twisted's Perspective Broker and beside the raw floor.",
    )
    parser.add_argument("--peers", help=f"which, of {','.join(names())}")
    parser.add_argument("--only", help=f"which workloads, of {','.join(WORKLOADS)}; or one_call:1")
    parser.add_argument("--many", action="store_true", help=f"{MANY:,} connections, too")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each measurement")
    parser.add_argument("--limit", type=float, default=LIMIT, help="begin no round beyond it")
    files = (
        ("--json", "write everything that was found"),
        ("--markdown", "write the table as Markdown"),
        ("--chart", "draw an SVG of what calls cost"),
        ("--read", "measure nothing, and report what --json wrote"),
    )
    for option, what in files:
        parser.add_argument(option, type=Path, metavar="FILE", help=what)
    parser.add_argument("--profile", metavar="WORKLOAD", help="show where pbnb's time goes")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the status to exit with."""
    parser = arguments()
    wish = parser.parse_args(words)
    peers = wish.peers.split(",") if wish.peers else list(names())
    try:
        if unknown := set(peers) - set(names()):
            raise ValueError(f"there is no peer {min(unknown)!r}; there are {', '.join(names())}")
        cases = chosen(wish.profile or wish.only, wish.many)
    except ValueError as error:
        parser.error(str(error))
    if wish.profile:
        return show_profiles(peers if wish.peers else peers_of_pbnb(), cases)
    if wish.read:
        results = Results.from_json(json.loads(wish.read.read_text(encoding="utf-8")))
    else:
        results = measure(peers, cases, rounds=wish.rounds, seconds=wish.seconds, limit=wish.limit)
    print(report.text(results))
    if wish.json:
        write(wish.json, json.dumps(results.as_json(), indent=1))
    if wish.markdown:
        write(wish.markdown, report.markdown(results))
    if wish.chart:
        write(wish.chart, chart(results))
    return 0


def write(path: Path, content: str) -> None:
    """Writes a file that ends in a line's end."""
    path.write_text(content + "\n", encoding="utf-8")


def peers_of_pbnb() -> list[str]:
    """Returns the peers that are pbnb."""
    return [name for name in names() if name.startswith("pbnb")]


def show_profiles(peers: Sequence[str], cases: Sequence[Case]) -> int:
    """Prints the profiles; returns the status to exit with."""
    status = 0
    for peer in peers:
        for case in cases:
            try:
                print(profile(peer, case))
            except Failed as error:
                print(f"{peer}, {case.row}: {error}", file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ninterrupted")
