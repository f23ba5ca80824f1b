"""What runs in a peer's two processes: ``python -m benchmarks.child ROLE PEER``.

Started by `benchmarks.pairs`, which says what to do in lines of JSON on the standard input and
reads as many from the standard output. Both end when their standard input does.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import dataclasses
import io
import json
import os
import pstats
import signal
import sys
import threading
from typing import Any

from .peers import Peer, Serving, load
from .workloads import WORKLOADS, Bench

if sys.platform != "win32":
    import resource

# Lines of a profile.
SHOWN = 25


def tell(**what: Any) -> None:
    """Says something to the process that started this one."""
    print(json.dumps(what), flush=True)


def allow_many_files() -> None:
    """Lets this process have as many connections as the system allows it."""
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def text_of(profile: cProfile.Profile) -> str:
    """Returns where the time went, the most expensive functions first."""
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(SHOWN)
    return text.getvalue()


def serve(peer: Peer, profile: cProfile.Profile | None) -> None:
    """Serves until the standard input ends, and says after each line of it what was answered."""
    serving: Serving

    def ready(port: int, counts: Serving) -> None:
        nonlocal serving
        serving = counts
        listener.start()
        tell(port=port, process=os.getpid())
        if profile is not None:
            profile.enable()

    def listen() -> None:
        for _ in sys.stdin:
            tell(answered=serving.answered)
        # Whatever loop it is that runs in the main thread, it ends as from Ctrl-C.
        signal.pthread_kill(main_thread, signal.SIGINT)

    # Where a shell started all this in the background, it has this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main_thread = threading.get_ident()
    listener = threading.Thread(target=listen, daemon=True)
    with contextlib.suppress(KeyboardInterrupt):
        peer.serve(ready)
    if profile is not None:
        profile.disable()
        tell(profile=text_of(profile))


async def ask(bench: Bench, name: str, case: int, profile: cProfile.Profile | None) -> None:
    """Makes one measurement and says what it found, or why it could not be made."""
    workload = WORKLOADS[name]
    try:
        if profile is not None:
            profile.enable()
        measured = await workload.measure(bench, case)
    except Exception as error:
        tell(error=f"{type(error).__name__}: {error}")
        return
    finally:
        if profile is not None:
            profile.disable()
    found = dataclasses.asdict(measured)
    if profile is not None:
        found["profile"] = text_of(profile)
    tell(**found)


def call(peer: Peer, port: int, server: int, profile: cProfile.Profile | None) -> None:
    """Makes the measurements that the lines of the standard input name."""

    async def main() -> None:
        # The loop stands still while other peers are measured, which is why this may wait here.
        for line in sys.stdin:
            wish = json.loads(line)
            bench = Bench(peer, port, server, wish["seconds"])
            await ask(bench, wish["workload"], wish["case"], profile)

    peer.run(main)


def main() -> None:
    """Runs one of the two roles."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.child")
    parser.add_argument("role", choices=("serve", "call"))
    parser.add_argument("peer")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--server", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    wish = parser.parse_args()
    allow_many_files()
    peer = load(wish.peer)
    profile = cProfile.Profile() if wish.profile else None
    if wish.role == "serve":
        serve(peer, profile)
    else:
        call(peer, wish.port, wish.server, profile)


if __name__ == "__main__":
    main()
