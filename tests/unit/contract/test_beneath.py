"""An engine replaces a directory of a mounted cache by a link: nothing outside of that cache changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sparkfleet.contract import beneath
from sparkfleet.contract.stage import ModelFile
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch.hub_cache import clear
from sparkfleet.onhost.machine import mounts
from sparkfleet.onhost.prune import hub_cache
from sparkfleet.resources.kinds import directory

REVISION, BLOB = "c" * 40, "b" * 64
FILE = ModelFile("config.json", 5, BLOB)


def outside(folder: Path) -> Path:
    """Make a directory with what the programs remove by name in a cache."""
    target = folder / "outside"
    for name in (BLOB, "config.json", REVISION, "main", "store", "flashinfer_autotune_cache"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(REVISION)
    (target / REVISION).unlink()
    (target / REVISION).mkdir()
    (target / REVISION / "config.json").write_text("x")
    return target


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Return owner and content of everything below a directory."""
    return {
        str(path.relative_to(folder)): (path.stat().st_uid, path.read_text() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


def repository(folder: Path) -> Path:
    root = folder / "models" / "hub" / "models--org--name"
    for name in (f"snapshots/{REVISION}", "blobs", "refs"):
        (root / name).mkdir(parents=True)
    (root / "blobs" / BLOB).write_text("x")
    (root / "snapshots" / REVISION / "config.json").symlink_to(f"../../blobs/{BLOB}")
    (root / "refs" / "main").write_text(REVISION)
    return root


def plant(link: Path, target: Path) -> None:
    """Replace a directory by a link."""
    link.rename(link.with_name(f"{link.name}.before"))
    link.symlink_to(target)


@pytest.mark.parametrize("planted", ["snapshots", f"snapshots/{REVISION}", "blobs"])
def test_broken_files_are_removed_in_the_cache_alone(tmp_path: Path, planted: str) -> None:
    root, target = repository(tmp_path), outside(tmp_path)
    plant(root / planted, target)
    before = tree(target)
    with pytest.raises(StageError) as error:
        clear(root, REVISION, [FILE])
    assert tree(target) == before
    assert error.value.diagnostic.location == str(root / planted)
    assert error.value.diagnostic.hint == f"rm {root / planted}, then run again"


@pytest.mark.parametrize("planted", ["snapshots", "blobs", "refs", "", "../.locks"])
def test_a_revision_is_pruned_in_the_cache_alone(tmp_path: Path, planted: str) -> None:
    root, target = repository(tmp_path), outside(tmp_path)
    (root.parent / ".locks" / root.name).mkdir(parents=True)
    if not planted:  # the directory of all repositories
        plant(root.parent, target)
        (target / root.name / "snapshots").mkdir(parents=True)
    else:
        plant(root / planted, target)
        (target / root.name).mkdir(exist_ok=True)
    before = tree(target)
    with pytest.raises(beneath.LinkError):
        hub_cache.remove_revision(root, REVISION)
    assert tree(target) == before


def test_the_shared_store_is_swept_in_the_cache_alone(tmp_path: Path) -> None:
    root, target = repository(tmp_path), outside(tmp_path)
    (target / "store.refs").write_text("")
    (root.parent / "blobs").symlink_to(target)
    before = tree(target)
    with pytest.raises(beneath.LinkError):
        hub_cache.sweep_shared(root.parent / "blobs" / "store", root.parent)
    assert tree(target) == before


def test_of_a_cache_behind_a_link_only_the_link_is_removed(tmp_path: Path) -> None:
    cache, target = tmp_path / "cache", outside(tmp_path)
    cache.mkdir()
    (cache / "vllm").symlink_to(target)
    before = tree(target)
    mounts.clear_caches([str(tmp_path / "models"), str(cache)], [f"{cache}/vllm/flashinfer_autotune_cache"])
    assert tree(target) == before
    assert list(cache.iterdir()) == []


def test_a_cache_is_removed_also_where_the_owner_moved_all_of_them_to_a_disk(tmp_path: Path) -> None:
    disk, cache = tmp_path / "disk", tmp_path / "cache"
    (disk / "vllm" / "flashinfer_autotune_cache" / "x").mkdir(parents=True)
    cache.symlink_to(disk)
    mounts.clear_caches([str(cache)], [f"{cache}/vllm/flashinfer_autotune_cache"])
    assert list((disk / "vllm").iterdir()) == []
    mounts.clear_caches([str(cache)], [f"{cache}/vllm/flashinfer_autotune_cache", f"{tmp_path}/gone/x"])


@pytest.mark.parametrize("change", ["apply", "revert"])
def test_owners_are_changed_in_the_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The link is planted after the entries were listed: what the check has seen is another file by then."""
    top, target = tmp_path / "models", outside(tmp_path)
    (top / "hub").mkdir(parents=True)
    (top / "hub" / "main").write_text("")
    changed: list[str] = []
    chown = os.chown
    monkeypatch.setattr(
        os, "chown", lambda path, *_, **where: changed.append(os.path.realpath(place(path, where)))
    )
    owners = tmp_path / "owners"
    owners.write_text(f'["{top}/hub/main", 1, 1, {os.getuid()}]\n')
    monkeypatch.setattr(directory, "entries_of_others", lambda *_: [f"{top}/hub/main"])
    plant(top / "hub", target)
    changes = {
        "apply": lambda: directory._chown_contents(tmp_path / "new", top, "nvidia 10", (1, 1)),
        "revert": lambda: directory._restore_contents(owners, top),
    }
    with pytest.raises(beneath.LinkError):
        changes[change]()
    monkeypatch.setattr(os, "chown", chown)
    assert changed == []


def place(path: str, where: dict[str, int]) -> str:
    return f"/proc/self/fd/{where['dir_fd']}/{path}" if "dir_fd" in where else path


@pytest.mark.parametrize("path", ["", "../x", "a/../../x"])
def test_a_path_that_is_not_below_the_root_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"is not below|is not in the subpath"):
        beneath.remove(tmp_path / path, tmp_path)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/")])
def test_whatever_is_there_is_removed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "a").mkdir()
    make(tmp_path / "a" / "x")
    for _ in range(2):
        beneath.remove(tmp_path / "a" / "x", tmp_path)
    assert list((tmp_path / "a").iterdir()) == []
    beneath.remove(tmp_path / "gone" / "x", tmp_path)
