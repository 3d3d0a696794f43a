"""What was hashed once is not read again, as long as it is the same file in the same state."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sparkfleet.onhost.artifacts.fetch import hash_record
from sparkfleet.onhost.artifacts.fetch.hash_record import FileToVerify

RIGHT = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A blob with the right content, behind the hub's link."""
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "link").symlink_to("blob")
    return tmp_path / "link"


def test_a_right_file_is_known_after_one_look(file: Path, tmp_path: Path) -> None:
    requested = FileToVerify(file, RIGHT)
    assert hash_record.recorded_match(hash_record.read(tmp_path), requested) is None
    assert hash_record.check(tmp_path, [requested], lambda _: None) == []
    assert hash_record.recorded_match(hash_record.read(tmp_path), requested) is True


def test_a_file_with_another_content_of_the_same_size_is_known_as_wrong(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"WEIGHTS")
    requested = FileToVerify(file, RIGHT)
    assert hash_record.check(tmp_path, [requested], lambda _: None) == [requested]
    assert hash_record.recorded_match(hash_record.read(tmp_path), requested) is False


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def replaced(path: Path) -> None:
    info = path.stat()
    twin = path.with_name("twin")
    twin.write_bytes(path.read_bytes())
    os.utime(twin, ns=(info.st_atime_ns, info.st_mtime_ns))
    twin.replace(path)


def grown(path: Path) -> None:
    info = path.stat()
    with path.open("ab") as file:
        file.write(b"x")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


@pytest.mark.parametrize("change", [touched, replaced, grown])
def test_a_file_that_was_touched_is_not_known_any_more(file: Path, tmp_path: Path, change: object) -> None:
    requested = FileToVerify(file, RIGHT)
    hash_record.check(tmp_path, [requested], lambda _: None)
    change(tmp_path / "blob")  # type: ignore[operator]
    assert hash_record.recorded_match(hash_record.read(tmp_path), requested) is None


def test_what_is_known_is_known_of_one_content_alone(file: Path, tmp_path: Path) -> None:
    hash_record.check(tmp_path, [FileToVerify(file, RIGHT)], lambda _: None)
    assert hash_record.recorded_match(hash_record.read(tmp_path), FileToVerify(file, "0" * 64)) is None


def test_small_files_are_checked_by_the_id_that_git_gives_them(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"what is up, doc?")
    assert hash_record.content_is(path, "bd9dbf5aae1a3862dd1526723246b20206e5fc37")  # of git's own book
    assert not hash_record.content_is(path, "0" * 40)


def test_a_file_that_is_not_there_is_wrong_and_leaves_nothing_in_the_record(tmp_path: Path) -> None:
    requested = FileToVerify(tmp_path / "none", RIGHT)
    assert hash_record.check(tmp_path, [requested], lambda _: None) == [requested]
    assert hash_record.read(tmp_path) == {}


def test_a_file_that_is_written_to_meanwhile_is_not_vouched_for(file: Path, tmp_path: Path) -> None:
    requested = FileToVerify(file, RIGHT)
    assert hash_record.check(tmp_path, [requested], lambda _: touched(tmp_path / "blob")) == [requested]
    assert hash_record.recorded_match(hash_record.read(tmp_path), requested) is None


def test_the_record_forgets_files_that_are_gone(file: Path, tmp_path: Path) -> None:
    hash_record.check(tmp_path, [FileToVerify(file, RIGHT)], lambda _: None)
    (tmp_path / "blob").unlink()
    hash_record.check(tmp_path, [], lambda _: None)
    assert hash_record.read(tmp_path) == {}


def test_progress_counts_every_byte(file: Path, tmp_path: Path) -> None:
    counter = hash_record.Counter()
    hash_record.check(tmp_path, [FileToVerify(file, RIGHT)] * 3, counter)
    assert counter.have == 3 * len(b"weights")


def test_an_unreadable_record_is_no_knowledge(file: Path, tmp_path: Path) -> None:
    (tmp_path / "verified.json").write_text('{"files": {"%s": {}}}' % (tmp_path / "blob"))
    assert hash_record.recorded_match(hash_record.read(tmp_path), FileToVerify(file, RIGHT)) is None
