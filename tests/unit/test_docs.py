"""What the documents say is there: links lead somewhere, shown YAML is valid, shown commands exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.cli import COMMANDS, PLUGINS
from sparkfleet.config.models import ClusterFile, HostFile, Recipe
from sparkfleet.config.yaml_file import parse

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_section_leads_to_one(page: Path) -> None:
    for target, section in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", page.read_text()):
        headings = re.findall(
            r"^#+ (.+)$", (page.parent / target if target else page).read_text(), re.MULTILINE
        )
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert section in anchors, f"{target}#{section}"


FIRST_PAGE = (ROOT / "docs" / "README.md").read_text()


def test_the_first_page_leads_from_symptoms_to_pages_and_names_every_page() -> None:
    first_heading = re.findall(r"^## (.+)$", FIRST_PAGE, re.MULTILINE)[0]
    assert "symptom" in first_heading
    for path in sorted((ROOT / "docs").glob("*/*.md")):
        assert f"]({path.parent.name}/{path.name}" in FIRST_PAGE, path


HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_every_how_to_is_linked_from_the_readme(page: Path) -> None:
    assert f"](docs/how-to/{page.name}" in (ROOT / "README.md").read_text()


def shown_files() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file of a fleet that a page shows: its first line is its name."""
    for page in PAGES:
        for name, text in re.findall(
            r"```yaml\n# (inventories/\S+?\.yaml)(.*?)```", page.read_text(), re.DOTALL
        ):
            yield f"{page.relative_to(ROOT)}: {name}", "#" + text


@pytest.mark.parametrize("name, text", [*shown_files()])
def test_every_file_that_is_shown_is_one(name: str, text: str) -> None:
    model = ClusterFile if "/clusters/" in name else Recipe if "/recipes/" in name else HostFile
    model.model_validate(parse(text.encode(), name).data)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_shown_command_exists(page: Path) -> None:
    for command in re.findall(
        r"\bsparkfleet ([a-z]+)\b(?= inventories| lab|\n| show| list)", page.read_text()
    ):
        assert command in {**COMMANDS, **PLUGINS}, command


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for shown in re.findall(r"`make ([a-z-]+)`|^\$ make ([a-z-]+)", page.read_text(), re.MULTILINE):
            assert "".join(shown) in targets, shown


FAULTS = (ROOT / "docs" / "explanation" / "faults.md").read_text()


@pytest.mark.parametrize("row", [line for line in FAULTS.splitlines() if line.startswith("| ")][1:])
def test_every_fault_names_tests_that_exist(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row)
    assert named
    for file, name in named:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"
