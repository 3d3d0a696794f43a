"""The notes of a release are the changelog's, and only of the version that the packages have."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from tools.release import notes_of

CHANGELOG = """# Changelog

## 0.2.0 (unreleased)

- next

## 0.1.0 (2026-12-01)

- first

### Serving

- a
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "lab").mkdir()
    set_versions(tmp_path, "0.1.0", "0.1.0")
    return tmp_path


def set_versions(root: Path, own: str, lab: str) -> None:
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{own}"\n')
    (root / "lab/pyproject.toml").write_text(f'[project]\nversion = "{lab}"\n')


def test_the_notes_are_the_part_of_the_changelog_about_that_version(root: Path) -> None:
    assert notes_of("v0.1.0", root) == "- first\n\n### Serving\n\n- a"


def test_a_tag_of_another_version_than_a_package_is_refused(root: Path) -> None:
    set_versions(root, "0.1.0", "0.0.9")
    with pytest.raises(click.ClickException, match=r"lab/pyproject.toml: version: found 0.0.9, expected"):
        notes_of("v0.1.0", root)


def test_a_version_that_the_changelog_does_not_call_released_is_refused(root: Path) -> None:
    set_versions(root, "0.2.0", "0.2.0")
    with pytest.raises(click.ClickException, match=r"'## 0.2.0 \(Y.*, found 0.2.0 \(unreleased\), 0.1.0"):
        notes_of("v0.2.0", root)
