"""From what a run begins: the deploy, and the commit of the fleet directory."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

from sparkfleet.contract.history import RunContext
from sparkfleet.plan.model import FieldChange
from sparkfleet.plan.report import field_line

GIT_S = 10
MAX_CHANGES = 40
LONGEST = 200
"""Characters of a change; the rest is cut."""


def context(host_file: str, changes: tuple[FieldChange, ...]) -> RunContext:
    """Return the context of a change of a host that this file declares."""
    commit, dirty = fleet_commit(str(Path(host_file).parent) if host_file else ".")
    texts = [" ".join(field_line(one).split())[:LONGEST] for one in changes]
    if len(texts) > MAX_CHANGES:
        texts[MAX_CHANGES:] = [f"and {len(texts) - MAX_CHANGES} more"]
    return RunContext(command_name(sys.argv), commit, dirty, tuple(texts))


def command_name(argv: list[str]) -> str:
    """Return the name of the deploy that pyinfra runs: the last Python file of its arguments."""
    return next((Path(one).stem for one in reversed(argv[1:]) if one.endswith(".py")), "")


@cache
def fleet_commit(directory: str) -> tuple[str, bool]:
    """Return the commit of a directory ("" outside of git), and whether it has uncommitted changes."""
    commit = _git(directory, "rev-parse", "HEAD")
    return (commit, bool(_git(directory, "status", "--porcelain"))) if commit else ("", False)


def _git(directory: str, *args: str) -> str:
    try:
        done = subprocess.run(
            ("git", "-C", directory, *args), capture_output=True, text=True, timeout=GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
