"""Images in an offline mirror: an OCI layout whose contents match their hashes; a cut download resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from sparkfleet.config.lock_data import LockedImage
from sparkfleet.desired_state import ImageRef, Mirror
from sparkfleet.lock.errors import RegistryError
from sparkfleet.lock.registry import Content, Registry
from sparkfleet.offline import images, oci
from tests.unit.lock.fake_registry import CONFIG, serving

REPOSITORY = "nvcr.io/nvidia/vllm"


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@dataclass
class Shelf:
    """A registry with one image of two layers; ``cuts``: bytes after which an answer breaks off."""

    layers: tuple[bytes, ...] = (b"a" * 1000, b"b" * 500)
    cuts: list[int] = field(default_factory=list)
    requests: list[tuple[str, int]] = field(default_factory=list)
    wrong: bool = False
    whole: bool = False
    """Whether it cannot send from the middle."""

    def __post_init__(self) -> None:
        config = b"{}"
        self.blobs = {digest_of(body): body for body in (config, *self.layers)}
        parts = [{"digest": digest_of(body), "size": len(body)} for body in self.layers]
        self.arm = json.dumps({"config": {"digest": digest_of(config), "size": 2}, "layers": parts}).encode()
        other = {"digest": digest_of(b"amd"), "platform": {"os": "linux", "architecture": "amd64"}}
        arm = {"digest": digest_of(self.arm), "platform": {"os": "linux", "architecture": "arm64"}}
        index = {"mediaType": images.INDEX_TYPE, "manifests": [other, arm]}
        self.index = json.dumps(index).encode()

    @property
    def image(self) -> LockedImage:
        return LockedImage(ImageRef(REPOSITORY, "26.04", digest_of(self.index)), digest_of(self.arm))

    def manifest(self, _: str, digest: str) -> Content:
        body = {digest_of(self.arm): self.arm, digest_of(self.index): self.index}[digest]
        return Content(REPOSITORY, digest, body)

    @contextmanager
    def stream(self, _: str, digest: str, offset: int = 0) -> Iterator[httpx.Response]:
        self.requests.append((digest, offset))
        body = self.blobs[digest].upper() if self.wrong else self.blobs[digest]
        start = 0 if self.whole else offset
        cut = self.cuts.pop(0) if self.cuts else None

        def chunks() -> Iterator[bytes]:
            yield body[start : start + cut] if cut is not None else body[start:]
            if cut is not None:
                raise RegistryError("cannot be reached", "is the network there?")

        yield httpx.Response(206 if start else 200, content=chunks())

    def bring(self, path: Path) -> list[str]:
        output: list[str] = []
        images.download(path, self.image, self, output.append)  # type: ignore[arg-type]
        return output


def test_an_image_is_a_whole_oci_layout_under_its_own_digest(tmp_path: Path) -> None:
    shelf = Shelf()
    assert shelf.bring(tmp_path) == ["nvcr.io/nvidia/vllm:26.04: downloading 3 of 3 layers, 0 MiB"]
    folder = oci.layout(tmp_path)
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
    assert entry["digest"] == shelf.image.image.digest
    assert entry["annotations"] == {images.NAME: shelf.image.image.pull_ref}
    for blob in (folder / "blobs" / "sha256").iterdir():
        assert digest_of(blob.read_bytes()) == f"sha256:{blob.name}"
    assert images.missing(tmp_path, shelf.image) == []


def test_what_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    Shelf().bring(tmp_path)
    again = Shelf()
    assert again.bring(tmp_path) == []
    assert again.requests == []
    lost = digest_of(again.layers[0])
    oci.blob_path(tmp_path, lost).unlink()
    assert images.missing(tmp_path, again.image) == [lost]
    again.bring(tmp_path)
    assert again.requests == [(lost, 0)]


def test_a_cut_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    shelf = Shelf(cuts=[1, 1, 400])  # of the config twice, then of the first layer
    shelf.bring(tmp_path)
    assert (digest_of(shelf.layers[0]), 400) in shelf.requests
    assert images.missing(tmp_path, shelf.image) == []


def test_a_registry_that_cannot_send_from_the_middle_sends_all_of_it(tmp_path: Path) -> None:
    shelf = Shelf(whole=True, cuts=[1])
    shelf.bring(tmp_path)
    assert images.missing(tmp_path, shelf.image) == []


def test_a_line_that_brings_nothing_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    shelf = Shelf()
    config, first = digest_of(b"{}"), digest_of(shelf.layers[0])
    (oci.layout(tmp_path) / "blobs" / "sha256").mkdir(parents=True)
    oci.blob_path(tmp_path, config).write_bytes(b"{}")
    shelf.cuts = [300, 0]
    with pytest.raises(RegistryError, match="reached"):
        shelf.bring(tmp_path)
    part = oci.blob_path(tmp_path, first)
    assert part.with_name(f"{part.name}.part").stat().st_size == 300
    assert images.index_entry(tmp_path, shelf.image.image.pull_ref) is None
    shelf.bring(tmp_path)
    assert images.missing(tmp_path, shelf.image) == []


def test_another_content_is_not_kept(tmp_path: Path) -> None:
    shelf = Shelf(wrong=True)
    shelf.blobs[digest_of(b"{}")] = b"xx"
    with pytest.raises(RegistryError, match="does not match its digest"):
        shelf.bring(tmp_path)
    assert not list(oci.layout(tmp_path).rglob("*.part"))
    assert images.index_entry(tmp_path, shelf.image.image.pull_ref) is None


def test_two_images_share_one_layout(tmp_path: Path) -> None:
    one, two = Shelf(), Shelf(layers=(b"a" * 1000, b"c"))
    one.bring(tmp_path)
    assert two.bring(tmp_path)[0].startswith("nvcr.io/nvidia/vllm:26.04: downloading 1 of 3 layers")
    for shelf in (one, two):
        assert images.index_entry(tmp_path, shelf.image.image.pull_ref) is not None


def test_an_image_of_another_tool_keeps_its_entry(tmp_path: Path) -> None:
    foreign = {
        "digest": "sha256:1",
        "size": 7,
        "annotations": {images.NAME: "alpine"},
        "platform": {"os": "x"},
    }
    index = oci.layout(tmp_path) / "index.json"
    index.parent.mkdir()
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [foreign]}))
    Shelf().bring(tmp_path)
    assert json.loads(index.read_text())["manifests"][0] == foreign


def test_a_manifest_of_another_shape_is_named_with_its_field(tmp_path: Path) -> None:
    body = b'{"layers": 3}'
    path = oci.blob_path(tmp_path, digest_of(body))
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    diagnostic = oci.lack("spark-01", tmp_path, ImageRef(REPOSITORY, "26.04", digest_of(body)))
    assert diagnostic is not None
    assert f"lacks the image: {digest_of(body)[:19]}: layers: " in diagnostic.message


def test_a_blob_comes_from_a_registry_that_wants_a_token() -> None:
    with serving() as fake:
        fake.auth = "bearer"
        digest = fake.put("nvidia/vllm", "", {"a": 1}, CONFIG)
        registry = Registry({"nvcr.io": Mirror("nvcr.io", fake.url)}, lambda _: None)
        with registry.stream(REPOSITORY, digest) as response:
            assert digest_of(response.read()) == digest
        with pytest.raises(RegistryError, match="has no"), registry.stream(REPOSITORY, "sha256:0"):
            pass
        registry.close()


def test_the_contents_of_an_image_are_found_from_its_digest_alone(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.bring(tmp_path)
    digest = shelf.image.image.digest
    assert [one.digest for one in oci.chain(tmp_path, digest)] == [digest, shelf.image.arm64]
    parts = oci.parts(tmp_path, digest)
    assert {one.digest for one in parts} == {digest, shelf.image.arm64, *shelf.blobs}
    assert all(oci.blob_path(tmp_path, one.digest).stat().st_size == one.size for one in parts)
    assert [one.digest for one in oci.chain(tmp_path, shelf.image.arm64)] == [shelf.image.arm64]
    assert oci.lack("spark-01", tmp_path, shelf.image.image) is None


def test_what_a_mirror_lacks_of_an_image_is_reported_and_so_is_a_manifest_with_another_content(
    tmp_path: Path,
) -> None:
    shelf = Shelf()
    image = shelf.image.image
    diagnostic = oci.lack("spark-01", tmp_path, image)
    assert diagnostic is not None
    assert "lacks the image: " in diagnostic.message
    shelf.bring(tmp_path)
    oci.blob_path(tmp_path, digest_of(shelf.layers[0])).write_bytes(b"half")
    diagnostic = oci.lack("spark-01", tmp_path, image)
    assert diagnostic is not None
    assert "lacks 1 of 5 layers" in diagnostic.message
    assert oci.lack("spark-01", tmp_path, image, manifests_alone=True) is None
    manifest = oci.blob_path(tmp_path, shelf.image.arm64)
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(LookupError, match="does not match its digest"):
        oci.parts(tmp_path, image.digest)
    assert oci.lack("spark-01", tmp_path, image, manifests_alone=True) is not None


def test_an_index_without_arm64_is_no_image_for_a_spark(tmp_path: Path) -> None:
    index = b'{"manifests": [{"digest": "sha256:0", "platform": {"os": "linux", "architecture": "amd64"}}]}'
    place = oci.blob_path(tmp_path, digest_of(index))
    place.parent.mkdir(parents=True)
    place.write_bytes(index)
    with pytest.raises(LookupError, match="linux/arm64"):
        oci.chain(tmp_path, digest_of(index))
