"""Input and output of the programs: a document on stdin, one document a line on stdout, an exit code."""

from __future__ import annotations

import sys
from typing import TypeVar

from sparkfleet.contract import codec

D = TypeVar("D", bound=codec.Document)
OK, PROBLEM = 0, 1


def write(document: codec.Document) -> None:
    """Print one line and flush it."""
    sys.stdout.write(codec.dumps(document) + "\n")
    sys.stdout.flush()


def read(kind: type[D]) -> D:
    """Return the document on stdin. Raise ContractError."""
    return codec.loads(kind, sys.stdin.read(), "stdin")
