"""A fleet directory: the files that `sparkfleet init` writes, and where the shipped ones are.

``deploys/``, ``config.py`` and ``group_data/all.py`` are those of the checkout; the wheel carries them as
``sparkfleet/templates/``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_PACKAGE = Path(__file__).parent
ROOT = _PACKAGE / "templates" if (_PACKAGE / "templates").is_dir() else _PACKAGE.parents[1]
SHIPPED = ("config.py", "deploys", "group_data/all.py")
SCHEMAS = ".schema"
"""Where a fleet directory has the JSON Schemas that its YAML files name, for editors."""
RECORD = ".sparkfleet.json"
FORMAT = 1
"""Of the record. A file of a higher one was written by a newer sparkfleet."""

_INVENTORY = """\
from sparkfleet.inventory import load

sparks = load(__file__)
"""
_GITIGNORE = """\
__pycache__/
.venv/
.env
"""
_README = """\
# Fleet `{fleet}`

1. Declare what a Spark serves in `inventories/{fleet}/HOST.yaml`; `sparkfleet catalog list` has the recipes.
2. Run `sparkfleet check inventories/{fleet}.py`, then `sparkfleet lock inventories/{fleet}.py`.
3. `sparkfleet plan inventories/{fleet}.py` shows the changes; `sparkfleet apply` makes them.
4. `sparkfleet status inventories/{fleet}.py` shows what every Spark serves.
"""
_WORKFLOW = """\
# plan needs a runner that reaches the Sparks by SSH: set the variable SPARKFLEET_RUNNER to its label.
name: fleet
on: [push, pull_request]
jobs:
  check:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "3.12"}}
      - run: pip install "sparkfleet=={version}"
      - run: sparkfleet check inventories/{fleet}.py
  plan:
    needs: check
    if: vars.SPARKFLEET_RUNNER != ''
    runs-on: ${{{{ vars.SPARKFLEET_RUNNER }}}}
    steps:
      - uses: actions/checkout@v4
      - run: pip install "sparkfleet=={version}"
      - run: |
          # 0: nothing to change, 2: changes, 1: an error, or a host is unknown or blocked
          sparkfleet plan inventories/{fleet}.py && code=0 || code=$?
          test "$code" -ne 1
"""
_HOST = "# yaml-language-server: $schema=../../{schemas}/host.json\n"


@dataclass(frozen=True)
class NewHost:
    """A Spark of a new fleet."""

    name: str
    address: str
    """Host name or address; equal to ``name``: SSH finds it by its name."""
    user: str = ""
    port: int = 0
    """0: the SSH configuration's."""
    recipe: str = ""
    """"" = nothing to serve yet."""
    comment: str = ""
    """A line above the services."""

    @property
    def file(self) -> str:
        """Return the text of the host file."""
        ssh = {"hostname": self.address if self.address != self.name else "", "user": self.user}
        settings = [f"{key}: {value}" for key, value in ssh.items() if value]
        settings += [f"port: {self.port}"] if self.port else []
        lines = [f"ssh: {{{', '.join(settings)}}}\n"] if settings else []
        lines += [f"# {self.comment}\n"] if self.comment else []
        return "".join([_HOST.format(schemas=SCHEMAS), *lines, f"serve: {self.recipe or '[]'}\n"])


@dataclass(frozen=True)
class Record:
    """``.sparkfleet.json``: which templates a fleet directory has, for `sparkfleet upgrade`."""

    format: int
    fleet: str
    version: str
    """Version of sparkfleet that wrote the record."""
    templates: Mapping[str, str]
    """Path in the directory -> SHA-256 of the template, not of the file that its owner may have edited."""

    @property
    def text(self) -> str:
        """Return the text of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def digest(text: str) -> str:
    """Return the SHA-256 of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def deploy(name: str) -> Path:
    """Return the path of a shipped deploy, e.g. ``serve``."""
    return ROOT / "deploys" / f"{name}.py"


def templates(fleet: str, version: str, schemas: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a fleet directory that a new version may change: path in it -> text.

    ``schemas``: kind -> JSON Schema.
    """
    return {
        **dict(_shipped()),
        ".gitignore": _GITIGNORE,
        "README.md": _README.format(fleet=fleet),
        ".github/workflows/fleet.yml": _WORKFLOW.format(fleet=fleet, version=version),
        f"inventories/{fleet}.py": _INVENTORY,
        **{f"{SCHEMAS}/{kind}.json": text for kind, text in schemas.items()},
    }


def files(fleet: str, hosts: Sequence[NewHost], version: str, schemas: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a new fleet directory: path in it -> text."""
    written = templates(fleet, version, schemas)
    hashes = {path: digest(text) for path, text in sorted(written.items())}
    return {
        **written,
        **{f"inventories/{fleet}/{host.name}.yaml": host.file for host in hosts},
        RECORD: Record(FORMAT, fleet, version, hashes).text,
    }


def _shipped() -> Iterator[tuple[str, str]]:
    for name in SHIPPED:
        path = ROOT / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            yield file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
