"""A fleet of its own for one test: host files on lab machines, operated by the commands that a user types."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sparkfleet_lab.names import Lab

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

_GROUP_DATA = """\
from pathlib import Path as _Path

import sparkfleet_lab.settings as _lab
from sparkfleet_lab.names import Lab as _Lab

_settings = _lab.settings(_Lab(_Path({checkout!r}), {name!r}))
sparkfleet = {{**_settings.sparkfleet, **{extra!r}}}
globals().update(_settings.connection)
"""


ENGINE_LOG = re.compile(r"^ +\| .*$", re.MULTILINE)
"""Lines of an engine's log in the report of a failure."""


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Return stdout and stderr."""
        return self.out + self.err

    def expect(self, code: int) -> Outcome:
        """Return self if the exit code is this one; fail with the output otherwise."""
        assert self.code == code, f"exit code {self.code}, expected {code}:\n{self.text}"
        assert "Traceback" not in ENGINE_LOG.sub("", self.text), self.text
        return self


@dataclass
class FleetDirectory:
    """A directory as a user's checkout: inventories/lab.py, host files, deploys, group_data, config.py."""

    root: Path
    lab: Lab
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields of ``sparkfleet`` in group_data that override those of the lab."""
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the files of the directory."""
        (self.root / "inventories" / "lab").mkdir(parents=True)
        (self.root / "group_data").mkdir()
        for name in ("deploys", "config.py"):
            (self.root / name).symlink_to(REPO / name)
        (self.root / "inventories" / "lab.py").write_text((REPO / "inventories" / "lab.py").read_text())
        (self.root / "group_data" / "all.py").write_text((REPO / "group_data" / "all.py").read_text())
        self.set_group_data()

    def set_group_data(self, **extra: Any) -> None:
        """Write group_data/lab.py with these fields overriding the lab's own."""
        self.extra |= extra
        text = _GROUP_DATA.format(checkout=str(self.lab.checkout), name=self.lab.name, extra=self.extra)
        (self.root / "group_data" / "lab.py").write_text(text)

    def host(self, name: str, content: Mapping[str, Any] | str | None) -> None:
        """Write a host file; None removes it."""
        path = self.root / "inventories" / "lab" / f"{name}.yaml"
        if content is None:
            path.unlink()
        else:
            path.write_text(
                content if isinstance(content, str) else yaml.safe_dump(dict(content), sort_keys=False)
            )

    def command(self, *args: str, timeout: float = 300) -> Outcome:
        """Run a command of the virtual environment in this directory."""
        done = subprocess.run(
            self._argv(args),
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, for tests that kill it."""
        return subprocess.Popen(
            self._argv(args),
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def lock(self) -> Outcome:
        """Pin all images and models."""
        return self.command("sparkfleet", "lock", "inventories/lab.py").expect(0)

    def plan(self, *args: str) -> Outcome:
        """Run ``sparkfleet plan``."""
        return self.command("sparkfleet", "plan", "inventories/lab.py", *args)

    def plan_data(self, *args: str) -> dict[str, Any]:
        """Return the plan as data."""
        data: dict[str, Any] = json.loads(self.plan("--json", *args).out)
        return data

    def changes(self, host: str) -> list[tuple[str, str, str, str]]:
        """Return field, key, old and new of every change that the plan has for a host (no statements)."""
        (found,) = (entry for entry in self.plan_data("--limit", host)["hosts"] if entry["host"] == host)
        assert found["unknown"] is None, found["unknown"]
        operations = (one for change_set in found["change_sets"] for one in change_set["operations"])
        rows = [row for operation in operations for row in operation["fields"]]
        return [(row["name"], row["key"], row["old"], row["new"]) for row in rows]

    def dry(self, *args: str) -> Outcome:
        """Run ``pyinfra ... --dry``."""
        return self.command("pyinfra", "inventories/lab.py", "deploys/serve.py", "--dry", *args)

    def run(self, *args: str, deploy: str = "serve") -> Outcome:
        """Run ``pyinfra ... -y``."""
        return self.command("pyinfra", "inventories/lab.py", f"deploys/{deploy}.py", "-y", *args)

    def _argv(self, args: Sequence[str]) -> list[str]:
        return [str(BIN / args[0]), *args[1:]]

    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if key != "SPARKFLEET_LAB"}
        return {
            **inherited,
            "SPARKFLEET_LAB": self.lab.name,
            "XDG_CACHE_HOME": str(self.root / ".cache"),  # tests write nothing to the home of their user
            "XDG_DATA_HOME": str(self.root / ".data"),
            **self.env,
        }
