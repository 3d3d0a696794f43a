"""An image from another host: exported once, loaded, and pulled for its digest; no archive remains."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet.contract.stage import ImageCopy, LoginUser
from sparkfleet.contract.transfer import ReceiveReport, ReceiveRequest
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record
from sparkfleet.onhost.artifacts.image import copy_image
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Image
from tests.unit.onhost.artifacts.fake_images import FakeImages

REFERENCE = "nvcr.io/nvidia/vllm@sha256:" + "c" * 64
DERIVED = "localhost/sparkfleet/derived:0123456789abcdef"
ID, CONTENT = "sha256:" + "1" * 64, "sha256:" + "2" * 64
USER = LoginUser("nvidia", os.getuid(), os.getgid(), "/home/nvidia")
ORDER = ImageCopy("spark-01", (), REFERENCE, len(FakeImages.content), "f" * 64)


@pytest.fixture
def images(images: FakeImages, monkeypatch: pytest.MonkeyPatch) -> FakeImages:
    """Images of a Spark on which a load adds what the registry then gives its digest."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    images.loads = {DERIVED: Image(ID, 7, content=CONTENT)}

    def pull(reference: str, user: LoginUser, _: Journal) -> None:
        assert (reference, user) == (REFERENCE, USER)
        images.present[REFERENCE] = Image(ID, 7)

    monkeypatch.setattr(copy_image, "pull", pull)
    return images


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "job").mkdir()
    return Journal(tmp_path / "job", time.time)


def test_an_image_is_exported_once_for_all_receivers_and_then_forgotten(
    images: FakeImages, tmp_path: Path, journal: Journal
) -> None:
    first = copy_image.export(REFERENCE, USER, tmp_path, journal)
    assert first == copy_image.export(REFERENCE, USER, tmp_path, journal)
    assert images.calls == [f"export {REFERENCE}"]
    path = Path(first.path)
    assert path.read_bytes() == images.content
    assert (first.size, first.sha256) == (len(images.content), hashlib.sha256(images.content).hexdigest())
    assert path.stat().st_mode & 0o777 == 0o600
    copy_image.forget(tmp_path, REFERENCE)
    assert list((tmp_path / "images").iterdir()) == []


def test_a_failed_export_is_a_failure_of_the_source_and_leaves_no_file(
    images: FakeImages, tmp_path: Path, journal: Journal
) -> None:
    images.refuses = "no space left on device"
    with pytest.raises(StageError, match="could not be exported: no space left") as raised:
        copy_image.export(REFERENCE, USER, tmp_path, journal)
    assert raised.value.result.source_failed
    assert list((tmp_path / "images").iterdir()) == []


def receive(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let the copy receive this content."""

    def receive(
        request: ReceiveRequest, user: LoginUser, on_progress: Callable[[int], None]
    ) -> ReceiveReport:
        assert (user.uid, request.transfer_key) == (0, "t")
        (file,) = request.files
        Path(file.target).write_bytes(content)
        on_progress(len(content))
        return ReceiveReport(len(content), len(content))

    monkeypatch.setattr(copy_image, "receive_in_child", receive)


def copy(order: ImageCopy, journal: Journal, state: Path) -> None:
    copy_image.copy(order, USER, "t", journal, state)


def test_a_received_image_is_loaded_pulled_and_recorded_and_its_archive_is_removed(
    images: FakeImages, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(monkeypatch, images.content)
    copy(ORDER, journal, tmp_path)
    assert REFERENCE in images.present
    assert list((tmp_path / "images").iterdir()) == []
    assert list(fetch_record.read(tmp_path).images) == [REFERENCE]
    copy(ORDER, journal, tmp_path)  # it is present now
    assert images.calls == ["load"]


def test_an_archive_that_cannot_be_loaded_is_removed(
    images: FakeImages, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(monkeypatch, images.content[:-1])
    with pytest.raises(StageError, match="could not be loaded: unexpected EOF"):
        copy(ORDER, journal, tmp_path)
    assert images.present == {}
    assert list((tmp_path / "images").iterdir()) == []
    assert fetch_record.read(tmp_path).images == {}


@pytest.mark.parametrize("identity", [CONTENT, ID], ids=["content", "id, from a host with older programs"])
def test_a_derived_image_is_identified_by_its_content_without_a_pull(
    images: FakeImages, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    receive(monkeypatch, images.content)
    order = replace(ORDER, image=DERIVED, id=identity)
    copy(order, journal, tmp_path)
    assert set(images.present) == {DERIVED}
    copy(order, journal, tmp_path)
    assert images.calls == ["load"]


def test_a_derived_image_with_other_content_than_the_senders_is_discarded(
    images: FakeImages, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(monkeypatch, images.content)
    with pytest.raises(StageError, match="has other content than on spark-01"):
        copy(replace(ORDER, image=DERIVED, id="sha256:other"), journal, tmp_path)
    assert images.present == {}
    assert list((tmp_path / "images").iterdir()) == []
    assert fetch_record.read(tmp_path).images == {}


def test_an_archive_without_a_receiver_is_removed_after_a_day(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, age in (("old.tar", copy_image.MAX_AGE_S + 9), ("new.tar", 9)):
        (folder / name).write_text("x")
        os.utime(folder / name, (time.time() - age,) * 2)
    copy_image.sweep(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["new.tar"]
