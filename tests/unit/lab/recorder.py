"""A docker that answers from a script, and keeps what it was asked."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

from sparkfleet_lab.docker import Docker


@dataclass(frozen=True)
class Recorder(Docker):
    """Answers by the first args; an unknown command succeeds and prints nothing."""

    outputs: dict[str, str | tuple[int, str]] = field(default_factory=dict)
    """First args -> stdout, or exit code and stderr."""
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What ``docker image inspect`` knows."""
    calls: list[tuple[str, ...]] = field(default_factory=list)
    fed: list[bytes] = field(default_factory=list)

    def attempt(
        self, *args: str, stdin: bytes | None = None, timeout: float | None = 900
    ) -> subprocess.CompletedProcess[bytes]:
        self.calls.append(args)
        if stdin is not None:
            self.fed.append(stdin)
        if args[:2] == ("image", "inspect"):
            found = self.images.get(args[2])
            text = json.dumps([found]) if found else ""
            return subprocess.CompletedProcess(args, 0 if found else 1, text.encode(), b"")
        line = " ".join(args)
        for start, output in self.outputs.items():
            if line.startswith(start):
                code, out, err = (0, output, "") if isinstance(output, str) else (output[0], "", output[1])
                return subprocess.CompletedProcess(args, code, out.encode(), err.encode())
        if args[1:2] == ("inspect",):
            return subprocess.CompletedProcess(args, 1, b"", b"no such thing")
        return subprocess.CompletedProcess(args, 0, b"", b"")

    @property
    def lines_called(self) -> list[str]:
        return [" ".join(args) for args in self.calls]
