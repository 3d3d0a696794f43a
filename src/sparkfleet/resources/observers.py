"""What the probe's command carries of the kinds of host state. Runs on the operator's machine.

A kind's module has its ``observe`` and all that it uses above a line; the rest, with the slow imports, stays
behind. A second module for each kind would do the same and spread the kind over two files; cutting by the
syntax tree took 0.1 s of a plan.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from sparkfleet.resources import kinds, registry

PACKAGE = kinds.__name__
END = "# --- Only what is above this line is sent with the probe. ---\n"


@cache
def observer(kind: str) -> str:
    """Return the part of a kind's module that is sent. Raise ValueError if the module has no such line."""
    text, line, _ = registry.source(kind).partition(END)
    if not line:
        raise ValueError(f"{PACKAGE}.{kind} lacks the line {END.strip()!r}")
    return text


def modules(requested: Collection[str]) -> list[tuple[str, str]]:
    """Return name and text of the modules that observe resources of these kinds; unknown kinds have none."""
    parents = [("sparkfleet.resources", ""), (PACKAGE, "")]
    return parents + [(f"{PACKAGE}.{kind}", observer(kind)) for kind in registry.names() if kind in requested]
