"""What an offline mirror lacks of what Sparks shall get from it, and how it is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.desired_state import Host, ImageRef, Prepare, Service, Stage, WeightFile, Weights
from sparkfleet.desired_state.derived_packages import DerivedPackages, Wheel
from sparkfleet.fleet.connection import tunnel
from sparkfleet.fleet.run import executor, mirror_gaps
from sparkfleet.fleet.staging import from_mirror
from sparkfleet.offline import models, oci, wheels
from sparkfleet.plan.artifacts import ArtifactSource as Source
from sparkfleet.plan.staging import weights_key
from tests.unit.fleet.sparks import Sparks, patched

CONFIG, LAYER, BODY = b"{}", b"layer", b"weights"


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


MANIFEST = json.dumps(
    {
        "config": {"digest": digest_of(CONFIG), "size": len(CONFIG)},
        "layers": [{"digest": digest_of(LAYER), "size": len(LAYER)}],
    }
).encode()
IMAGE = ImageRef("nvcr.io/nvidia/vllm", "26.04", digest_of(MANIFEST))
MODEL = Weights("org/a", "1" * 40, (WeightFile("w", len(BODY), blob=hashlib.sha256(BODY).hexdigest()),))
SERVICE = Service("nano", "", 8000, IMAGE, MODEL, "nano")
KEYS = (IMAGE.pull_ref, weights_key(MODEL))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """An offline mirror that has it all."""
    folder = tmp_path / "carried"
    for body in (MANIFEST, CONFIG, LAYER):
        place = oci.blob_path(folder, digest_of(body))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
    file = models.snapshot(folder, MODEL) / "w"
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)
    return folder


def host(mirror: Path, *, offline: bool = True) -> Host:
    stage, prepare = Stage(mirror=str(mirror)), Prepare(offline=offline)
    return Host("spark-01", (SERVICE,), stage=stage, prepare=prepare)


def lacks(declared: Host, source: Source | None) -> set[str]:
    found = mirror_gaps.gaps({"spark-01": declared}, {("spark-01", key): source for key in KEYS})
    return {key for _, key in found}


def test_a_complete_mirror_lacks_nothing(mirror: Path) -> None:
    assert lacks(host(mirror), Source(mirror=True)) == set()


def test_a_missing_mirror_is_reported_for_image_and_model(tmp_path: Path) -> None:
    declared = host(tmp_path / "nowhere")
    assert lacks(declared, Source(mirror=True)) == set(KEYS)
    assert lacks(declared, Source()) == {IMAGE.pull_ref}  # offline: nothing else could give it its digest
    assert lacks(declared, None) == set()  # reported as an artifact without a source


def test_of_a_copy_from_another_spark_an_offline_one_needs_the_manifests_alone(mirror: Path) -> None:
    oci.blob_path(mirror, digest_of(LAYER)).unlink()
    assert lacks(host(mirror), Source("spark-02")) == set()
    assert lacks(host(mirror), Source(mirror=True)) == {IMAGE.pull_ref}
    oci.blob_path(mirror, digest_of(MANIFEST)).unlink()
    assert lacks(host(mirror), Source("spark-02")) == {IMAGE.pull_ref}
    assert lacks(host(mirror, offline=False), Source("spark-02")) == set()  # its registry gives it one


def test_a_derived_image_from_another_spark_needs_no_mirror(mirror: Path) -> None:
    service = replace(SERVICE, image=DERIVED)
    offline = replace(host(mirror), services=(service,))
    sources = {("spark-01", DERIVED.pull_ref): Source("spark-02")}
    assert mirror_gaps.gaps({"spark-01": offline}, sources) == {}


@pytest.fixture
def sparks(monkeypatch: pytest.MonkeyPatch, mirror: Path) -> Sparks:
    @contextmanager
    def forward_port(_: Any, port: int) -> Iterator[int]:
        assert port
        yield 4711

    monkeypatch.setattr(tunnel, "forward_port", forward_port)
    return patched(monkeypatch, Sparks({"spark-01": host(mirror)}))


def test_an_image_is_ordered_content_by_content_from_the_way_back(sparks: Sparks) -> None:
    from_mirror.send_image(sparks.act("spark-01"), IMAGE)
    (job,) = sparks.requests("stage")
    (order,) = job["mirrored_images"]
    assert order["image"] == IMAGE.pull_ref
    assert order["listeners"] == [[from_mirror.LAN, "127.0.0.1", 4711]]
    assert order["contents"] == [
        {"digest": digest_of(body), "size": len(body)} for body in (MANIFEST, CONFIG, LAYER)
    ]
    assert len(job["transfer_key"]) == 64


def test_a_model_is_ordered_file_by_file(sparks: Sparks) -> None:
    from_mirror.send(sparks.act("spark-01"), [MODEL])
    (job,) = sparks.requests("stage")
    assert [(order["repo"], len(order["files"])) for order in job["copies"]] == [("org/a", 1)]


def test_what_the_mirror_lost_meanwhile_is_reported_and_nothing_is_started(
    sparks: Sparks, mirror: Path
) -> None:
    oci.blob_path(mirror, digest_of(LAYER)).write_bytes(b"half")
    (models.snapshot(mirror, MODEL) / "w").unlink()
    with pytest.raises(executor.FailedError, match="lacks 1 of 3 layers"):
        from_mirror.send_image(sparks.act("spark-01"), IMAGE)
    with pytest.raises(executor.FailedError, match="lacks 1 of 1 files"):
        from_mirror.send(sparks.act("spark-01"), [MODEL])
    assert sparks.calls == []


def test_what_does_not_arrive_is_the_sparks_failure(sparks: Sparks) -> None:
    sparks.results = [{"outcome": "failed", "cause": "the disk is full", "remedy": "df -h"}]
    with pytest.raises(executor.FailedError, match="the disk is full"):
        from_mirror.send_image(sparks.act("spark-01"), IMAGE)


TOOL = Wheel("tool-1-py3-none-any.whl", "https://i.example/tool", hashlib.sha256(b"tool").hexdigest())
DERIVED = replace(IMAGE, derived_packages=DerivedPackages(("tool",), (TOOL,)))


def derived_lacks(mirror: Path, source: Source) -> set[str]:
    declared = replace(host(mirror), services=(replace(SERVICE, image=DERIVED),))
    found = mirror_gaps.gaps({"spark-01": declared}, {("spark-01", DERIVED.pull_ref): source})
    return {key for _, key in found}


def test_a_derived_image_needs_its_base_and_its_wheels_in_the_mirror(mirror: Path) -> None:
    assert derived_lacks(mirror, Source(mirror=True)) == {DERIVED.pull_ref}
    wheels.wheel_path(mirror, TOOL).parent.mkdir()
    wheels.wheel_path(mirror, TOOL).write_bytes(b"tool")
    assert derived_lacks(mirror, Source(mirror=True)) == set()
    oci.blob_path(mirror, digest_of(LAYER)).unlink()
    assert derived_lacks(mirror, Source(mirror=True)) == {DERIVED.pull_ref}


def test_a_copy_of_a_derived_image_needs_no_mirror(tmp_path: Path) -> None:
    assert derived_lacks(tmp_path / "nowhere", Source("spark-02")) == set()


@pytest.mark.provokes("mirror-incomplete")
def test_what_a_derived_image_is_built_from_is_sent_in_one_job(sparks: Sparks, mirror: Path) -> None:
    with pytest.raises(executor.FailedError, match="lacks 1 Python packages"):
        from_mirror.send_derived(sparks.act("spark-01"), DERIVED)
    wheels.wheel_path(mirror, TOOL).parent.mkdir()
    wheels.wheel_path(mirror, TOOL).write_bytes(b"tool")
    from_mirror.send_derived(sparks.act("spark-01"), DERIVED)
    (job,) = sparks.requests("stage")
    ((base,), (build,)) = job["mirrored_images"], job["derived"]
    assert base["image"] == build["base"] == IMAGE.pull_ref
    assert build["wheel_sender"] == {"sender": base["sender"], "listeners": base["listeners"]}
    (wheel,) = build["wheels"]
    assert (wheel["number"], wheel["size"]) == (len(base["contents"]), len(b"tool"))
