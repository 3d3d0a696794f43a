"""One thing that shall be so on a Spark: what every declaration under ``prepare:`` becomes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A thing of a kind, with the fields that it shall have.

    ``@login`` and a leading ``~`` in key, fields and argument stand for the login user and the home: they are
    known when the Spark was looked at.
    """

    kind: str
    """One of the kinds of ``probe/looks/prepared.py``."""
    key: str
    want: tuple[tuple[str, str], ...] = ()
    """Field -> value, as the look tells it."""
    arg: str = ""
    """What the look needs beside the key."""
    content: str = ""
    """Of a file: its bytes in base64."""
    source: str = ""
    """Of a secret: where it comes from, never the secret."""
    user: str = ""
    """Of a login: the user name."""
    where: str = ""
    """Where it was declared, as ``file:line``."""

    @property
    def id(self) -> str:
        """Return what it is told apart by."""
        return f"{self.kind} {self.key}"
