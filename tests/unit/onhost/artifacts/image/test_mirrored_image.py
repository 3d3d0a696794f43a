"""An image from an offline mirror: contents by their hashes, then a pull from the Spark's own loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.registry_credentials import Credential
from sparkfleet.contract.stage import Content, LoginUser, MirroredImage
from sparkfleet.contract.transfer import FileToReceive, ReceiveReport, ReceiveRequest
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record
from sparkfleet.onhost.artifacts.image import loopback_registry, mirrored_image
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Image
from tests.unit.onhost.artifacts.fake_images import FakeImages

INDEX = b'{"manifests": []}'
LAYER = b"layer"
REFERENCE = f"docker.io/vllm/vllm-openai@sha256:{hashlib.sha256(INDEX).hexdigest()}"
CONTENTS = tuple(Content(f"sha256:{hashlib.sha256(body).hexdigest()}", len(body)) for body in (INDEX, LAYER))
ORDER = MirroredImage("the offline mirror", (), REFERENCE, CONTENTS)


@dataclass
class Spark:
    """A Spark without the image."""

    images: FakeImages
    error: str = ""
    """Of every pull."""
    received: list[FileToReceive] = field(default_factory=list)
    pulled: list[tuple[str, list[str]]] = field(default_factory=list)
    """Name of each pull, and what the registry had then."""
    folder: Path | None = None


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch, images: FakeImages) -> Spark:
    spark = Spark(images)
    real = loopback_registry.serve

    def serve(folder: Path) -> Any:
        spark.folder = folder
        return real(folder)

    def pull_as(reference: str, name: str, credential: Credential | None, _: Journal) -> None:
        assert spark.folder is not None
        assert (reference, bool(credential)) == (REFERENCE, True)
        spark.pulled.append((name, sorted(path.name for path in spark.folder.iterdir())))
        if spark.error:
            raise StageError("image", spark.error, "run again")
        images.present[reference] = Image("sha256:1", 7)

    def receive(
        request: ReceiveRequest, user: LoginUser, on_progress: Callable[[int], None]
    ) -> ReceiveReport:
        assert (user.uid, request.transfer_key) == (0, "t")
        for file, body in zip(request.files, (INDEX, LAYER), strict=True):
            Path(file.target).write_bytes(body)
            spark.received.append(file)
        on_progress(5)
        return ReceiveReport(5, 5)

    monkeypatch.setattr(loopback_registry, "serve", serve)
    monkeypatch.setattr(mirrored_image, "pull_as", pull_as)
    monkeypatch.setattr(mirrored_image, "receive_in_child", receive)
    return spark


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "job").mkdir()
    return Journal(tmp_path / "job", time.time)


def test_every_content_is_received_by_its_hash_and_the_digest_is_pulled(
    spark: Spark, journal: Journal, tmp_path: Path
) -> None:
    mirrored_image.fetch(ORDER, "t", journal, tmp_path)
    names = [one.digest.removeprefix("sha256:") for one in CONTENTS]
    assert [(file.number, file.blob) for file in spark.received] == list(enumerate(names))
    ((name, contents),) = spark.pulled
    assert name.endswith(REFERENCE)
    assert name.startswith("127.0.0.1:")
    assert contents == sorted(names)


def test_the_image_is_recorded_and_its_contents_are_removed(
    spark: Spark, journal: Journal, tmp_path: Path
) -> None:
    mirrored_image.fetch(ORDER, "t", journal, tmp_path)
    assert list(fetch_record.read(tmp_path).images) == [REFERENCE]
    assert list((tmp_path / "images").iterdir()) == []
    mirrored_image.fetch(ORDER, "t", journal, tmp_path)  # it is present now
    assert len(spark.pulled) == 1


def test_after_a_refused_pull_the_contents_are_kept_and_nothing_is_recorded(
    spark: Spark, journal: Journal, tmp_path: Path
) -> None:
    spark.error = "no space left on device"
    with pytest.raises(StageError, match="no space left"):
        mirrored_image.fetch(ORDER, "t", journal, tmp_path)
    assert fetch_record.read(tmp_path).images == {}
    folder = mirrored_image.contents_directory(tmp_path, REFERENCE)
    assert len(list(folder.iterdir())) == 2
    assert folder.stat().st_mode & 0o777 == 0o700  # an image may be private


def test_a_loaded_image_gets_its_digest_by_its_manifests_alone(spark: Spark, journal: Journal) -> None:
    mirrored_image.assign_digest(REFERENCE, [base64.b64encode(INDEX).decode()], journal)
    assert spark.pulled == [(spark.pulled[0][0], [hashlib.sha256(INDEX).hexdigest()])]
    assert spark.folder is not None
    assert not spark.folder.exists()


def test_progress_is_logged_with_its_bytes(spark: Spark, journal: Journal, tmp_path: Path) -> None:
    mirrored_image.fetch(ORDER, "t", journal, tmp_path)
    assert spark.received
    events = [json.loads(line) for line in (tmp_path / "job" / "events.jsonl").read_text().splitlines()]
    total = len(INDEX) + len(LAYER)
    assert [event["have"] for event in events if event.get("phase") == "copy"] == [5, total]
    assert events[-1]["fetched"] == 5
