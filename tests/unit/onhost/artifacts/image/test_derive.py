"""A derived image: wheels by their hashes, one build without network, and nothing incomplete."""

from __future__ import annotations

import errno
import functools
import hashlib
import http.server
import io
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.stage import (
    ROOT,
    ImageBuild,
    LoginUser,
    ModelDownload,
    SenderPlace,
    StageRequest,
    WheelFile,
)
from sparkfleet.contract.transfer import ReceiveReport, ReceiveRequest
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record
from sparkfleet.onhost.artifacts.image import derive
from sparkfleet.onhost.artifacts.image.image_refs import LABEL_DERIVED
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Image
from tests.unit.onhost.artifacts.fake_images import FakeImages

BASE = "nvcr.io/nvidia/vllm@sha256:" + "a" * 64
TAG = "0123456789abcdef"
DERIVED = f"localhost/sparkfleet/derived:{TAG}"
WHEELS = {"extra_tool-1.2-py3-none-any.whl": b"tool" * 999, "pip-26.0-py3-none-any.whl": b"pip" * 999}


@pytest.fixture
def images(images: FakeImages, monkeypatch: pytest.MonkeyPatch) -> FakeImages:
    """A Spark with the base."""
    images.present = {BASE: Image("sha256:base", 7)}
    monkeypatch.setattr(derive, "pull", lambda *_: 0)
    return images


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "job").mkdir()
    return Journal(tmp_path / "job", time.time)


class Index(http.server.ThreadingHTTPServer):
    """A static package index with its requests."""

    requests: list[str]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "index"
    folder.mkdir()
    for name, content in WHEELS.items():
        (folder / name).write_bytes(content)
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            requests.append(self.path.lstrip("/"))

    with Index(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        server.requests = requests
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def order(index: Index) -> ImageBuild:
    wheels = tuple(
        WheelFile(name, index.url(name), hashlib.sha256(content).hexdigest(), len(content))
        for name, content in WHEELS.items()
    )
    return ImageBuild(DERIVED, BASE, ("extra-tool==1.2",), wheels, {"io.sparkfleet.base": BASE})


Build = Callable[[ImageBuild], None]


@pytest.fixture
def build(images: FakeImages, journal: Journal, tmp_path: Path) -> Build:
    assert images
    return lambda order: derive.build(order, ROOT, "of this job", journal, tmp_path)


def with_wheel(order: ImageBuild, **changes: Any) -> ImageBuild:
    """Return the order with another first wheel."""
    return replace(order, wheels=(replace(order.wheels[0], **changes), *order.wheels[1:]))


def test_the_image_is_labelled_with_its_hash_and_recorded(
    images: FakeImages, order: ImageBuild, build: Build, tmp_path: Path
) -> None:
    build(order)
    assert images.present[DERIVED].labels == {LABEL_DERIVED: TAG, "io.sparkfleet.base": BASE}
    assert derive.is_present(DERIVED)
    assert list(fetch_record.read(tmp_path).images) == [DERIVED]


def test_it_is_built_by_the_installer_from_the_wheels_in_a_directory(
    images: FakeImages, order: ImageBuild, build: Build, tmp_path: Path
) -> None:
    build(order)
    (image,) = images.derived
    assert (image.base, image.arguments) == (BASE, ("extra-tool==1.2",))
    assert image.program[:3] == ("python3", "-B", "-c")
    assert "pip" in image.program[3]
    assert image.directory == tmp_path / "builds" / TAG


def test_only_the_image_remains_of_a_build(order: ImageBuild, build: Build, tmp_path: Path) -> None:
    build(order)
    assert list((tmp_path / "builds").iterdir()) == []


def test_an_image_that_is_present_is_not_built_again(
    images: FakeImages, index: Index, order: ImageBuild, build: Build
) -> None:
    build(order)
    index.requests.clear()
    build(order)
    assert (index.requests, len(images.derived)) == ([], 1)


def test_another_image_of_that_name_is_replaced(images: FakeImages, order: ImageBuild, build: Build) -> None:
    images.present[DERIVED] = Image("sha256:foreign")
    build(order)
    assert images.present[DERIVED].id == "sha256:derived"


def test_a_wheel_with_another_content_is_neither_installed_nor_kept(
    images: FakeImages, order: ImageBuild, build: Build, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="does not match the lock file"):
        build(with_wheel(order, sha256="0" * 64))
    assert images.derived == []
    assert list((tmp_path / "builds" / TAG).iterdir()) == []


def test_a_wheel_that_is_longer_than_its_locked_size_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, order: ImageBuild, build: Build
) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= order.wheels[0].size + 1
            return b"x" * size

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Endless())
    with pytest.raises(StageError, match="does not match the lock file"):
        build(order)


def test_a_build_continues_with_complete_wheels_of_an_earlier_attempt(
    images: FakeImages, index: Index, order: ImageBuild, build: Build, tmp_path: Path
) -> None:
    first, second = order.wheels
    folder = tmp_path / "builds" / TAG
    folder.mkdir(parents=True)
    (folder / first.name).write_bytes(WHEELS[first.name])
    (folder / second.name).write_bytes(b"half")
    build(order)
    assert index.requests == [second.name]
    assert DERIVED in images.present


def test_packages_that_do_not_fit_leave_no_image_and_show_pips_error(
    images: FakeImages, order: ImageBuild, build: Build, tmp_path: Path
) -> None:
    images.program_output = "Looking in links: /mnt\nERROR: Cannot install extra-tool==1.2 because of numpy\n"
    with pytest.raises(StageError, match=r"extra-tool==1\.2: cannot be installed") as raised:
        build(order)
    assert "because of numpy" in raised.value.result.line
    assert set(images.present) == {BASE}
    assert list((tmp_path / "builds").iterdir()) == []
    assert fetch_record.read(tmp_path).images == {}


def test_an_error_of_the_daemon_is_shown(
    images: FakeImages, order: ImageBuild, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derive, "_sweep", lambda _: None)
    images.refuses = "no space left on device"
    with pytest.raises(StageError, match="could not be built: no space left"):
        build(order)


def test_leftovers_of_an_interrupted_build_are_removed_before_the_next(
    images: FakeImages, order: ImageBuild, build: Build, tmp_path: Path
) -> None:
    (tmp_path / "builds" / "old").mkdir(parents=True)
    os.utime(tmp_path / "builds" / "old", (time.time() - derive.MAX_AGE_S - 9,) * 2)
    build(order)
    assert images.calls[:2] == [
        f"remove {derive.INSTANCE_PREFIX}* with {LABEL_DERIVED}", f"remove unnamed {LABEL_DERIVED}",
    ]  # fmt: skip
    assert not (tmp_path / "builds" / "old").exists()


@pytest.mark.parametrize(
    "case",
    [
        ("gone-1-py3-none-any.whl", "gone-1-py3-none-any.whl", "HTTP 404"),
        ("../evil.whl", "extra_tool-1.2-py3-none-any.whl", "is not the name of a wheel"),
    ],
)
def test_a_wheel_that_the_index_does_not_serve_is_named(
    index: Index, order: ImageBuild, build: Build, case: tuple[str, str, str]
) -> None:
    name, url, error = case
    with pytest.raises(StageError, match=error):
        build(with_wheel(order, name=name, url=index.url(url)))


def test_a_file_of_the_operators_machine_is_no_source(order: ImageBuild, build: Build) -> None:
    with pytest.raises(StageError, match="a Spark cannot download file:"):
        build(with_wheel(order, url="file:///etc/passwd"))


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free disk space"), (errno.EIO, "check the Spark's connection")]
)
def test_an_interruption_and_a_full_disk_have_remedies_of_their_own(
    order: ImageBuild, build: Build, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, "broken")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(StageError) as raised:
        build(order)
    assert remedy in raised.value.diagnostic.hint


def test_a_download_uses_the_derived_image_if_it_is_present_else_its_base(images: FakeImages) -> None:
    model = ModelDownload("a/b", "1", "/m", (), BASE)
    request = StageRequest("stage-1", images=(BASE,), skip_if_image=DERIVED, weights=(model,))
    assert derive.prefer_derived(request) == request
    images.present[DERIVED] = Image("sha256:derived", labels={LABEL_DERIVED: TAG})
    found = derive.prefer_derived(request)
    assert (found.images, found.weights) == ((), (replace(model, image=DERIVED),))
    other = StageRequest("stage-1", images=(BASE,))
    assert derive.prefer_derived(other) == other


def test_wheels_of_a_mirror_are_received_from_its_sender_without_the_index(
    index: Index, order: ImageBuild, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[ReceiveRequest] = []

    def receive(request: ReceiveRequest, user: LoginUser, _: Any) -> ReceiveReport:
        assert user.uid == 0
        requests.append(request)
        for file in request.files:
            Path(file.target).write_bytes(WHEELS[file.name])
        return ReceiveReport(1, 1)

    monkeypatch.setattr(derive, "receive_in_child", receive)
    wheels = tuple(replace(wheel, number=5 + at) for at, wheel in enumerate(order.wheels))
    place = SenderPlace("the offline mirror", ((1, "127.0.0.1", 4711),))
    build(replace(order, wheels=wheels, wheel_sender=place))
    (request,) = requests
    assert (request.sender, request.transfer_key) == (place, "of this job")
    assert [(file.number, file.blob) for file in request.files] == [
        (wheel.number, wheel.sha256) for wheel in wheels
    ]
    assert index.requests == []
