"""What the documents say is there: links lead somewhere, shown YAML is valid, shown commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sparkfleet.cli import COMMANDS
from sparkfleet.spec.models import HostFile

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readmes_host_file_is_one() -> None:
    shown = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    HostFile.model_validate(yaml.safe_load(shown[1]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_shown_command_exists(page: Path) -> None:
    for command in re.findall(
        r"\bsparkfleet ([a-z]+)\b(?= inventories| lab|\n| show| list)", page.read_text()
    ):
        assert command in COMMANDS, command


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for shown in re.findall(r"`make ([a-z-]+)`|^\$ make ([a-z-]+)", page.read_text(), re.MULTILINE):
            assert "".join(shown) in targets, shown
