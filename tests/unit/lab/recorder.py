"""A docker that answers from a script, and keeps what it was asked."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

from sparkfleet_lab.docker import Docker


@dataclass(frozen=True)
class Recorder(Docker):
    """Answers by the beginning of the words; what it was not told about succeeds and prints nothing."""

    answers: dict[str, str | tuple[int, str]] = field(default_factory=dict)
    """Beginning of the words -> stdout, or exit code and stderr."""
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What ``docker image inspect`` knows."""
    calls: list[tuple[str, ...]] = field(default_factory=list)
    fed: list[bytes] = field(default_factory=list)

    def attempt(
        self, *words: str, stdin: bytes | None = None, timeout: float | None = 900
    ) -> subprocess.CompletedProcess[bytes]:
        self.calls.append(words)
        if stdin is not None:
            self.fed.append(stdin)
        if words[:2] == ("image", "inspect"):
            found = self.images.get(words[2])
            text = json.dumps([found]) if found else ""
            return subprocess.CompletedProcess(words, 0 if found else 1, text.encode(), b"")
        line = " ".join(words)
        for start, answer in self.answers.items():
            if line.startswith(start):
                code, out, err = (0, answer, "") if isinstance(answer, str) else (answer[0], "", answer[1])
                return subprocess.CompletedProcess(words, code, out.encode(), err.encode())
        if words[1:2] == ("inspect",):
            return subprocess.CompletedProcess(words, 1, b"", b"no such thing")
        return subprocess.CompletedProcess(words, 0, b"", b"")

    @property
    def lines_called(self) -> list[str]:
        return [" ".join(words) for words in self.calls]
