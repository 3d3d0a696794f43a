"""A Spark whose files are below a directory, and whose programs do what a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine.system import CommandResult


class FakeHost(resources.ObservedHost):
    """The Protocol ``Host``. Files of the Spark are at ``root`` + their path."""

    def __init__(self, root: Path | str = "", *results: CommandResult) -> None:
        self.root = str(root)
        self.printed = ""
        """What every command prints while the host is observed."""
        self.results = list(results)
        """Results of the next commands of check, snapshot, apply and revert; then all succeed."""
        self.commands: list[tuple[Any, ...]] = []
        self.on_run: Callable[[Sequence[str]], CommandResult] | None = None

    @property
    def state(self) -> Path:
        return Path(f"{self.root}/var/lib/sparkfleet")

    @property
    def units(self) -> Path:
        return Path(f"{self.root}/etc/systemd/system")

    def path(self, path: str) -> str:
        return self.root + path

    def output(self, *argv: str, stdin: str = "") -> str:
        self.commands.append((*argv, stdin))
        return self.printed

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        if self.on_run:
            return self.on_run(argv)
        self.commands.append(tuple(argv))
        return self.results.pop(0) if self.results else CommandResult(0)

    def write(self, path: str, text: str) -> Path:
        """Write a file of the Spark."""
        found = Path(self.path(path))
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_text(text, encoding="utf-8")
        return found
