"""Measurement of a command: wall time, CPU with its children, memory, time to the first byte of output."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """A command, its directory, and the exit codes and output of a valid measurement."""

    args: tuple[str, ...]
    cwd: Path
    env: tuple[tuple[str, str], ...] = ()
    codes: tuple[int, ...] = (0,)
    is_valid: Callable[[str], bool] = lambda _: True
    """Whether the output shows that the command did what is measured."""


@dataclass(frozen=True)
class Sample:
    """One run of a command."""

    wall_s: float
    cpu_s: float
    """CPU of the process and of its children."""
    rss_mib: float
    """Memory of the largest single process."""
    first_byte_s: float


class BenchError(Exception):
    """An invalid measurement."""


_RUNNER = str(Path(__file__).with_name("runner.py"))


def run(command: Command) -> Sample:
    """Run once. Raise BenchError if it did not end as expected."""
    args = [sys.executable, "-I", "-S", _RUNNER, *command.args]
    env = {**os.environ, **dict(command.env)}
    done = subprocess.run(args, cwd=command.cwd, env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    code, text = found.pop("code"), found.pop("text")
    if code not in command.codes or not command.is_valid(text):
        output_end = "\n".join(text.splitlines()[-25:])
        raise BenchError(f"{' '.join(command.args)[:200]} ended with {code}:\n{output_end}")
    return Sample(**found)


@dataclass
class Row:
    """One line of the table: a command and its samples so far."""

    group: str
    title: str
    hosts: int
    command: Command
    rounds: int = 0
    """0: the default number of rounds."""
    samples: list[Sample] = field(default_factory=list)
    failed: str = ""

    def median(self, name: str) -> float:
        """Return the median of one figure; NaN without samples."""
        values = [getattr(sample, name) for sample in self.samples]
        return statistics.median(values) if values else float("nan")


def measure(rows: Sequence[Row], rounds: int, report: Callable[[str], None]) -> None:
    """Run each row once to warm up, then all in turn, so that other load affects all alike."""
    for row in rows:
        try:
            run(row.command)
        except (BenchError, OSError) as error:
            row.failed = str(error)
            report(f"FAILED {row.title}, {row.hosts}: {error}")
    for number in range(rounds):
        for row in rows:
            if not row.failed and (not row.rounds or number < row.rounds):
                try:
                    row.samples.append(run(row.command))
                except BenchError as error:
                    row.failed = str(error)
                    report(f"FAILED {row.title}, {row.hosts}: {error}")


def line(points: Mapping[int, float]) -> tuple[float, float, float]:
    """Return ``(start, slope, r2)`` of the straight line that fits best."""
    xs, ys = list(points), list(points.values())
    slope, start = statistics.linear_regression(xs, ys)
    fits = statistics.correlation(xs, ys) ** 2 if len(set(ys)) > 1 else 1.0
    return start, slope, fits
