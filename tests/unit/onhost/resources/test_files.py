"""Files and directories: whole or not at all, and taken back to what was there before."""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.resources import apply, files
from sparkfleet.onhost.resources.base import RefusedError
from tests.unit.onhost.world import World

ME = getpass.getuser()


def file(path: Path, content: str, mode: str = "0644") -> dict[str, Any]:
    said = content.encode()
    want = {"sha256": hashlib.sha256(said).hexdigest(), "mode": mode, "owner": ME}
    return {"kind": "file", "key": str(path), "want": want, "content": base64.b64encode(said).decode()}


def directory(path: Path, mode: str = "0755") -> dict[str, Any]:
    want = {"mode": mode, "owner": ME}
    return {"kind": "directory", "key": str(path), "arg": f"{ME} 1000", "want": want}


def put(world: World, *things: dict[str, Any]) -> None:
    assert apply.carry_out(world, {"put": things})["refused"] == []


def refusal(world: World, thing: dict[str, Any]) -> str:
    (found,) = apply.carry_out(world, {"put": [thing]})["refused"]
    return str(found["found"])


def take_back(world: World, *names: str) -> None:
    assert apply.carry_out(world, {"take_back": names})["refused"] == []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_goes_again_with_the_directories_that_were_made_for_it(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "made" / "deep" / "x"
    put(world, file(path, "hello", "0600"))
    assert (path.read_text(), mode(path)) == ("hello", 0o600)
    assert [entry.name for entry in path.parent.iterdir()] == ["x"]
    take_back(world, f"file {path}")
    assert not (tmp_path / "made").exists()


def test_directories_that_others_use_by_now_stay(world: World, tmp_path: Path) -> None:
    path = tmp_path / "made" / "deep" / "x"
    put(world, file(path, "hello"))
    (tmp_path / "made" / "theirs").touch()
    take_back(world, f"file {path}")
    assert [entry.name for entry in (tmp_path / "made").iterdir()] == ["theirs"]


def test_a_file_that_was_there_comes_back_with_content_and_mode(world: World, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("by hand")
    path.chmod(0o640)
    put(world, file(path, "ours"))
    put(world, file(path, "ours again"))
    assert (path.read_text(), mode(path)) == ("ours again", 0o644)
    take_back(world, f"file {path}")
    assert (path.read_text(), mode(path)) == ("by hand", 0o640)
    assert not (world.paths.state / "before").exists()


def test_what_is_kept_of_one_file_stays_while_the_other_goes_back(world: World, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("the same by hand")
    put(world, file(tmp_path / "a", "ours"), file(tmp_path / "b", "ours"))
    take_back(world, f"file {tmp_path / 'a'}")
    take_back(world, f"file {tmp_path / 'b'}")
    assert {(tmp_path / name).read_text() for name in "ab"} == {"the same by hand"}


def test_a_link_or_a_directory_in_the_place_of_a_file_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "dir").mkdir()
    assert refusal(world, file(tmp_path / "link", "x")) == "there is a link"
    assert refusal(world, file(tmp_path / "dir", "x")) == "there is a directory"
    assert (tmp_path / "link").readlink() == Path("/etc/passwd")


def test_a_file_too_large_to_be_kept_is_not_replaced(world: World, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * (files.MOST_BYTES + 1))
    assert "too large to be kept" in refusal(world, file(path, "ours"))


def test_an_owner_who_is_not_there_is_refused(world: World, tmp_path: Path) -> None:
    thing = file(tmp_path / "x", "hi")
    thing["want"]["owner"] = "nobody-of-this-name"
    assert "nobody-of-this-name" in refusal(world, thing)
    assert not (tmp_path / "x").exists()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_text("by hand")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, b"ours", 0o644, (os.getuid(), os.getgid()))
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
    assert path.read_text() == "by hand"


def test_a_directory_that_was_made_goes_while_it_is_empty(world: World, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    put(world, directory(path, "0750"))
    assert mode(path) == 0o750
    take_back(world, f"directory {path}")
    assert not (tmp_path / "a").exists()
    put(world, directory(path))
    (path / "theirs").touch()
    take_back(world, f"directory {path}")
    assert (path / "theirs").exists()


def test_a_directory_that_was_there_gets_its_mode_back(world: World, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir(0o700)
    put(world, directory(path, "0755"))
    (path / "theirs").touch()
    take_back(world, f"directory {path}")
    assert mode(path) == 0o700


def test_a_directory_that_became_a_link_is_not_followed(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(0o700)
    (tmp_path / "x").symlink_to(other)
    assert refusal(world, directory(tmp_path / "x")) != ""
    assert mode(other) == 0o700


@pytest.fixture
def chown(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return who owns a path, where entries are given to users without being root."""
    owned: dict[str, int] = {}
    lstat = os.lstat

    class Info:
        def __init__(self, path: str) -> None:
            self.st_mode, self.st_uid, self.st_gid = lstat(path).st_mode, owned.get(str(path), 4242), 1

    def looked(path: Any) -> Any:
        return Info(path) if str(path).endswith(".by-root") else lstat(path)

    def given(path: Any, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        assert not follow_symlinks
        owned[str(path)] = uid

    monkeypatch.setattr(os, "lstat", looked)
    monkeypatch.setattr(os, "chown", given)
    return lambda path: owned.get(path, 4242)


def test_what_was_inside_is_given_to_the_owner_and_back_to_whom_it_was(
    world: World, tmp_path: Path, chown: Callable[[str], int]
) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / "1.by-root").touch()
    thing = directory(path)
    thing["want"]["others"] = "0"
    put(world, thing)
    assert chown(str(path / "1.by-root")) == os.getuid()
    take_back(world, f"directory {path}")
    assert chown(str(path / "1.by-root")) == 4242


@pytest.mark.parametrize("name", ["not-a-cache", "a" * 11, "A" * 12])
def test_what_has_not_the_name_of_a_compile_cache_is_not_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(RefusedError, match="is no compile cache"):
        files.remove_cache(str(tmp_path / name))
    assert (tmp_path / name).exists()


def test_an_old_cache_goes_and_one_that_came_into_use_since_stays(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, used = tmp_path / ("a" * 12), tmp_path / ("b" * 12)
    for path in (old, used):
        (path / "deep").mkdir(parents=True)
    monkeypatch.setattr(resources, "used_caches", lambda: f'"source={used},target=/cache"')
    answer = apply.carry_out(world, {"caches": [str(old), str(used)]})
    assert answer["refused"][0]["found"] == f"{used} is in use"
    assert not old.exists()
    assert used.exists()
