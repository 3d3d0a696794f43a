"""What the programs that prepare a Spark share: a thing that is asked for, and a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.onhost.machine.system import Ran, System


@dataclass(frozen=True)
class Thing:
    """Something that shall be so, and how it is."""

    kind: str
    key: str
    arg: str
    want: dict[str, str]
    live: dict[str, Any]
    content: str = ""
    """Of a file: its bytes in base64."""
    secret: str = field(default="", repr=False)
    user: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    """How it was before the first run that changed it."""

    @property
    def id(self) -> str:
        """Return what it is told apart by."""
        return f"{self.kind} {self.key}"


class RefusedError(Exception):
    """It cannot be made so: why, what was expected, and what to do."""

    def __init__(self, found: str, expected: str = "", remedy: str = "", about: str = "") -> None:
        """Keep the words."""
        super().__init__(found)
        self.found, self.expected, self.remedy, self.about = found, expected, remedy, about

    def words(self, about: str) -> dict[str, str]:
        """Return them as data."""
        return {"id": about, "found": self.found, "expected": self.expected, "remedy": self.remedy}


def must(system: System, words: Sequence[str], timeout_s: float = 60) -> Ran:
    """Run a command that must succeed; refuse with its own last words."""
    done = system.run(words, timeout_s)
    if done.code:
        said = [line for line in done.text.splitlines() if line.strip()]
        raise RefusedError(f"{words[0]}: {said[-1].strip() if said else f'exit code {done.code}'}")
    return done
