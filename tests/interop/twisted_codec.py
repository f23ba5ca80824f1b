"""Twisted's codec as a process: reads lines of JSON, and says what Twisted makes of each.

It is started with the Python that runs the tests, and is no part of pbnb.
"""

from __future__ import annotations

import json
import sys
import warnings

from codec_shape import shape
from twisted.spread import banana, jelly


def expressions(data: bytes):
    # banana.decode remembers the lists that a call has left unfinished; a new reader does not.
    found = []
    reader = banana.Banana()
    reader.connectionMade()
    reader._selectDialect(b"none")
    reader.expressionReceived = found.append
    reader.dataReceived(data)
    return found


def read_jelly(data: bytes):
    options = jelly.SecurityOptions()
    options.allowBasicTypes()
    (tree,) = expressions(data)
    return shape(jelly.unjelly(tree, options))


def read_banana(data: bytes):
    return shape(expressions(data))


READERS = {"jelly": read_jelly, "banana": read_banana}


def main() -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        what, data = line.split()
        try:
            said = {"value": READERS[what](bytes.fromhex(data))}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
