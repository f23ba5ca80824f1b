"""Coverage-guided fuzzing of a broker, and of banana and jelly below it, with atheris.

::

    pip install atheris
    python -m tests.attacks.fuzz [directory for the corpus] [options of libFuzzer]

It begins with the recorded sessions. What it finds is added to ``FOUND`` in test_fuzz.py. Without
atheris, ``python -m tests.attacks.fuzz --plain SECONDS`` changes recorded sessions at random.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path

from tests.attacks.test_fuzz import RECORDED, broker, end, feed


def one(data: bytes) -> None:
    """Gives a broker what a peer has said."""
    machine = broker()
    feed(machine, data)
    end(machine)


def plain(seconds: float, seed: int = 0) -> int:
    """Changes recorded sessions at random; returns how many were tried.

    Args:
        seconds: How long.
        seed: Where chance begins.
    """
    chance, tried, until = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        said = bytearray(chance.choice(RECORDED))
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(said) + 1)
            if chance.random() < 0.3:
                other = chance.choice(RECORDED)
                start = chance.randrange(len(other))
                said[place:place] = other[start : start + chance.randint(1, 60)]
            else:
                said[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        try:
            one(bytes(said))
        except Exception:
            print(f"found: bytes.fromhex({said.hex()!r})")
            raise
        tried += 1
    return tried


def main() -> None:
    if sys.argv[1:2] == ["--plain"]:
        print(plain(float(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else 0), "tried")
        return
    import atheris

    corpus = Path(sys.argv[1] if sys.argv[1:] else "corpus")
    corpus.mkdir(exist_ok=True)
    for said in RECORDED:
        (corpus / hashlib.sha1(said).hexdigest()).write_bytes(said)
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
