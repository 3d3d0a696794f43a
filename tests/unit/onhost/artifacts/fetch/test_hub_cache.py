"""The hub's cache: what is whole stays, what is broken is seen and removed, nothing outside is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.stage import ModelFile
from sparkfleet.onhost.artifacts.fetch import hub_cache
from tests.unit.onhost.artifacts.fetch.cache_of_test import REVISION, put

FILES = [ModelFile("config.json", 5, "c1"), ModelFile("sub/model.safetensors", 8, "w1")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A hub cache with all required files complete."""
    root = hub_cache.repository(str(tmp_path), "org/name")
    for file in FILES:
        put(root, file, "x" * file.size)
    return root


def test_whole_files_are_not_fetched_again(root: Path) -> None:
    assert hub_cache.wrong_files(root, REVISION, FILES) == []


BROKEN = {
    "missing": lambda root: (root / "snapshots" / REVISION / "config.json").unlink(),
    "truncated": lambda root: (root / "blobs" / "c1").write_text("x"),
    "a link to nothing": lambda root: (root / "blobs" / "c1").unlink(),
    "another blob": lambda root: put(root, ModelFile("config.json", 5, "other"), "x" * 5),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_each_kind_of_damage_is_seen_and_cleared_so_that_the_download_fetches_it(
    root: Path, damage: Any
) -> None:
    damage(root)
    wrong = hub_cache.wrong_files(root, REVISION, FILES)
    assert [file.path for file in wrong] == ["config.json"]
    hub_cache.clear(root, REVISION, wrong)
    assert not (root / "snapshots" / REVISION / "config.json").is_symlink()
    truncated = root / "blobs" / "c1"
    assert not truncated.exists() or truncated.stat().st_size == 5  # a whole blob of another link stays
    assert (root / "blobs" / "w1").exists()


def test_clearing_never_leaves_the_repository(root: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    link = root / "snapshots" / REVISION / "config.json"
    link.unlink()
    link.symlink_to(precious)
    hub_cache.clear(root, REVISION, [FILES[0]])
    assert precious.read_text() == "x"
    assert not link.is_symlink()


def test_a_broken_content_of_the_store_that_all_repositories_share_is_cleared_with_the_link_to_it(
    root: Path,
) -> None:
    blob = root / "blobs" / "w1"
    store = root.parent / "blobs" / "ee" / "shared"
    store.parent.mkdir(parents=True)
    store.write_text("x")
    blob.unlink()
    blob.symlink_to(store)
    (wrong,) = hub_cache.wrong_files(root, REVISION, FILES)
    hub_cache.clear(root, REVISION, [wrong])
    assert not store.exists()
    assert not blob.is_symlink()
