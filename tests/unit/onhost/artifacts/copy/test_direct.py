"""What is written past the page cache is the same bytes as ever, whatever the file system takes."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparkfleet.onhost.artifacts.copy import direct
from sparkfleet.onhost.artifacts.copy.direct import BLOCK, DirectWriter
from tests.unit.onhost.artifacts.copy.direct_of_test import is_direct, skip_without_direct_writes

CONTENT = os.urandom(8 * BLOCK + 77)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def written(descriptor: int, sizes: list[int]) -> bytes:
    """Write CONTENT in parts of these sizes, each from the beginning of one buffer, as a receiver does."""
    os.ftruncate(descriptor, 0)
    writer, buffer, offset = DirectWriter(descriptor), direct.buffer(len(CONTENT)), 0
    for size in [*sizes, len(CONTENT)]:
        part = CONTENT[offset : offset + size]
        buffer[: len(part)] = part
        writer.write(buffer[: len(part)], offset)
        offset += len(part)
    return Path(f"/proc/self/fd/{descriptor}").read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from([BLOCK, 3 * BLOCK, BLOCK + 1, 5, 0, 2 * BLOCK - 5])))
def test_however_it_is_cut_the_file_is_the_same(descriptor: int, sizes: list[int]) -> None:
    assert written(descriptor, sizes) == CONTENT


def test_whole_blocks_go_past_the_cache_and_the_rest_through_it(
    descriptor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_direct_writes(tmp_path)
    real, seen = os.pwrite, []

    def pwrite(descriptor: int, part: memoryview, offset: int) -> int:
        seen.append((is_direct(descriptor), len(part), offset))
        return real(descriptor, part, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert written(descriptor, [2 * BLOCK, BLOCK + 1]) == CONTENT
    assert seen[:3] == [(True, 2 * BLOCK, 0), (True, BLOCK, 2 * BLOCK), (False, 1, 3 * BLOCK)]
    assert all(size % BLOCK == offset % BLOCK == 0 for direct, size, offset in seen if direct)


def test_a_file_system_that_refuses_the_flag_is_written_as_ever(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested_flags: list[int] = []

    def refuses(descriptor: int, command: int, flags: int = 0) -> int:
        if command == fcntl.F_SETFL:
            requested_flags.append(flags)
            raise OSError(errno.EINVAL, "no O_DIRECT here")
        return 0

    monkeypatch.setattr(fcntl, "fcntl", refuses)
    assert written(descriptor, [BLOCK, BLOCK]) == CONTENT
    assert len(requested_flags) == 1  # and is not asked again


def test_a_file_system_that_refuses_the_write_is_written_as_ever(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = os.pwrite, []

    def pwrite(descriptor: int, part: memoryview, offset: int) -> int:
        if is_direct(descriptor):
            refused.append(offset)
            raise OSError(errno.EINVAL, "not with these blocks")
        return real(descriptor, part, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert written(descriptor, [BLOCK, BLOCK]) == CONTENT
    assert len(refused) <= 1
    assert not is_direct(descriptor)


def test_other_errors_are_the_callers(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="full"):
        written(descriptor, [])
