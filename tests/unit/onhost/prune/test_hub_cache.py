"""Taking a revision out of the hub's cache; huggingface_hub itself says whether what is left is valid."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import scan_cache_dir

from sparkfleet.onhost.prune import hub_cache

ONE, TWO = "1" * 40, "2" * 40
XET = "e" * 64


class Cache:
    """A hub cache with one repository, made file by file."""

    def __init__(self, hub: Path, repo: str = "org--name") -> None:
        self.hub = hub
        self.root = hub / f"models--{repo}"

    def add(self, revision: str, name: str, blob: str, content: str = "x") -> Path:
        """Put a file of a revision there: its content, and the link to it."""
        path, link = self.root / "blobs" / blob, self.root / "snapshots" / revision / name
        for one in (path, link):
            one.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.write_text(content)
        link.symlink_to(os.path.relpath(path, link.parent))
        return path

    def ref(self, name: str, revision: str) -> None:
        path = self.root / "refs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(revision)

    def share(self, blob: str) -> Path:
        """Make a content one of the store that all repositories share, as huggingface_hub 1.32 does."""
        own = self.root / "blobs" / blob
        store = self.hub / "blobs" / XET[:2] / XET
        store.parent.mkdir(parents=True, exist_ok=True)
        (self.hub / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
        if not store.exists():
            store.write_text(own.read_text())
        own.unlink()
        own.symlink_to(os.path.relpath(store, own.parent))
        with store.with_name(f"{XET}.refs").open("a") as manifest:
            manifest.write(f"{own.relative_to(self.hub)}\n")
        return store

    def revisions(self) -> set[str]:
        """Return what huggingface_hub finds; its complaints fail the test."""
        found = scan_cache_dir(self.hub)
        assert not found.warnings
        return {one.commit_hash for repo in found.repos for one in repo.revisions}


def test_a_revision_goes_and_the_content_that_another_one_needs_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    mine, both = cache.add(ONE, "model", "w1"), cache.add(ONE, "config", "c")
    cache.add(TWO, "config", "c")
    cache.ref("main", ONE)
    cache.ref("v2", TWO)
    hub_cache.remove_revision(cache.root, ONE)
    assert cache.revisions() == {TWO}
    assert not mine.exists()
    assert both.exists()
    assert [path.name for path in (cache.root / "refs").iterdir()] == ["v2"]


def test_with_the_last_revision_all_of_the_repository_goes_half_files_and_locks_too(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.add(ONE, "sub/model", "w1")
    (cache.root / "blobs" / "w2.incomplete").write_text("half")
    (tmp_path / ".locks" / cache.root.name).mkdir(parents=True)
    hub_cache.remove_revision(cache.root, ONE)
    assert not cache.root.exists()
    assert not (tmp_path / ".locks" / cache.root.name).exists()


def test_a_shared_content_goes_with_the_last_link_to_it_and_not_before(tmp_path: Path) -> None:
    one, two = Cache(tmp_path), Cache(tmp_path, "org--other")
    for cache in (one, two):
        cache.add(ONE, "model", "w1")
        store = cache.share("w1")
    hub_cache.remove_revision(one.root, ONE)
    assert store.exists()
    assert two.revisions() == {ONE}
    hub_cache.remove_revision(two.root, ONE)
    assert not store.exists()
    assert not store.with_name(f"{XET}.refs").exists()


def test_a_shared_content_whose_list_is_gone_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.add(ONE, "model", "w1")
    store = cache.share("w1")
    store.with_name(f"{XET}.refs").unlink()
    hub_cache.remove_revision(cache.root, ONE)
    assert store.exists()


def test_a_link_out_of_the_cache_is_removed_and_its_target_stays(tmp_path: Path) -> None:
    cache, precious = Cache(tmp_path / "hub"), tmp_path / "precious"
    precious.write_text("theirs")
    own = cache.add(ONE, "model", "w1")
    own.unlink()
    own.symlink_to(precious)
    hub_cache.remove_revision(cache.root, ONE)
    assert precious.read_text() == "theirs"
