"""An image from an offline mirror: contents by their hashes, then a pull from the Spark's own loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.artifacts.fetch import staged
from sparkfleet.onhost.artifacts.fetch.pull import StageError
from sparkfleet.onhost.artifacts.image import carried_image, own_registry
from sparkfleet.onhost.state.journal import Journal

INDEX = b'{"manifests": []}'
LAYER = b"layer"
REFERENCE = f"docker.io/vllm/vllm-openai@sha256:{hashlib.sha256(INDEX).hexdigest()}"
CONTENTS = [
    {"digest": f"sha256:{hashlib.sha256(body).hexdigest()}", "size": len(body)} for body in (INDEX, LAYER)
]
ORDER = {
    "image": REFERENCE,
    "sender": "the offline mirror",
    "listeners": [],
    "transfer_key": "t",
    "contents": CONTENTS,
}


@dataclass
class Spark:
    """A Spark without the image; ``refuses``: what docker says of a pull."""

    here: bool = False
    refuses: str = ""
    copied: list[dict[str, Any]] = field(default_factory=list)
    pulled: list[tuple[str, list[str]]] = field(default_factory=list)
    """Name that was asked for, and what the registry had then."""
    folder: Path | None = None

    def has_image(self, reference: str) -> bool:
        assert reference == REFERENCE
        return self.here

    def image_size(self, _: str) -> int:
        return 7


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Spark:
    spark = Spark()
    monkeypatch.setattr(carried_image, "DockerEngine", lambda: spark)
    monkeypatch.setattr(staged, "DockerEngine", lambda: spark)
    real = own_registry.of

    def of(folder: Path) -> Any:
        spark.folder = folder
        return real(folder)

    def pull_as(reference: str, asked: str, auth: str, _: Journal) -> None:
        assert spark.folder is not None
        assert (reference, bool(auth)) == (REFERENCE, True)
        spark.pulled.append((asked, sorted(path.name for path in spark.folder.iterdir())))
        if spark.refuses:
            raise StageError(spark.refuses, "run again")
        spark.here = True

    def in_child(
        order: Mapping[str, Any], user: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]
    ) -> dict[str, Any]:
        assert user["uid"] == 0
        for file, body in zip(order["files"], (INDEX, LAYER), strict=True):
            Path(file["target"]).write_bytes(body)
            spark.copied.append(file)
        tell({"have": 5})
        return {"arrived": [], "fetched": 5}

    monkeypatch.setattr(own_registry, "of", of)
    monkeypatch.setattr(carried_image, "pull_as", pull_as)
    monkeypatch.setattr(carried_image, "in_child", in_child)
    return spark


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "job").mkdir()
    return Journal(tmp_path / "job", time.time)


def test_every_content_comes_by_its_hash_and_docker_pulls_the_very_digest(
    spark: Spark, journal: Journal, tmp_path: Path
) -> None:
    carried_image.bring(ORDER, journal, tmp_path)
    names = [str(one["digest"]).removeprefix("sha256:") for one in CONTENTS]
    assert [(file["number"], file["blob"]) for file in spark.copied] == list(enumerate(names))
    ((asked, seen),) = spark.pulled
    assert asked.endswith(REFERENCE)
    assert asked.startswith("127.0.0.1:")
    assert seen == sorted(names)


def test_what_came_is_ours_and_no_file_of_it_stays(spark: Spark, journal: Journal, tmp_path: Path) -> None:
    carried_image.bring(ORDER, journal, tmp_path)
    assert list(staged.read(tmp_path).images) == [REFERENCE]
    assert list((tmp_path / "images").iterdir()) == []
    carried_image.bring(ORDER, journal, tmp_path)  # here by now
    assert len(spark.pulled) == 1


def test_what_docker_refuses_is_said_not_ours_and_its_contents_stay_for_the_next_try(
    spark: Spark, journal: Journal, tmp_path: Path
) -> None:
    spark.refuses = "no space left on device"
    with pytest.raises(StageError, match="no space left"):
        carried_image.bring(ORDER, journal, tmp_path)
    assert staged.read(tmp_path).images == {}
    folder = carried_image.contents(tmp_path, REFERENCE)
    assert len(list(folder.iterdir())) == 2
    assert folder.stat().st_mode & 0o777 == 0o700  # an image may be private


def test_an_image_that_was_loaded_gets_its_digest_by_its_manifests_alone(
    spark: Spark, journal: Journal
) -> None:
    carried_image.give_name(REFERENCE, [base64.b64encode(INDEX).decode()], journal)
    assert spark.pulled == [(spark.pulled[0][0], [hashlib.sha256(INDEX).hexdigest()])]
    assert spark.folder is not None
    assert not spark.folder.exists()


def test_progress_is_told_with_its_bytes(spark: Spark, journal: Journal, tmp_path: Path) -> None:
    carried_image.bring(ORDER, journal, tmp_path)
    events = [json.loads(line) for line in (tmp_path / "job" / "events.jsonl").read_text().splitlines()]
    total = len(INDEX) + len(LAYER)
    assert [event["have"] for event in events if event.get("phase") == "copy"] == [5, total]
    assert events[-1]["fetched"] == 5
