"""Models in an offline mirror: downloaded by the hub's client, hashed once; corrupt files are replaced."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.config.lock_data import Lock, LockedImage
from sparkfleet.contract import hub_access
from sparkfleet.contract.hub_access import Access
from sparkfleet.desired_state import Fleet, Host, ImageRef, Service, WeightFile, Weights
from sparkfleet.lock.errors import HubError, RegistryError
from sparkfleet.offline import downloads, mirror, models

CONTENT = {"config.json": b"{}", "sub/model[1].safetensors": b"weights"}
FILES = tuple(
    WeightFile(name, len(body), blob=hashlib.sha256(body).hexdigest()) for name, body in CONTENT.items()
)
WEIGHTS = Weights("org/a", "1" * 40, FILES)


class Hub:
    """What the hub's client would bring; ``lies``: contents that it brings instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lies: dict[str, bytes] = {}
        self.broken: Exception | None = None
        self.requests: list[list[str]] = []
        self.access = Access.OPEN
        monkeypatch.setattr(downloads, "snapshot_download", self.download)
        monkeypatch.setattr(hub_access, "ask", lambda *_: self.access)

    def download(self, repo: str, **options: Any) -> None:
        self.requests.append(options["allow_patterns"])
        if self.broken:
            raise self.broken
        root = options["cache_dir"] / f"models--{repo.replace('/', '--')}"
        for file in FILES:
            blob, link = root / "blobs" / file.blob, root / "snapshots" / options["revision"] / file.path
            if link.exists():
                continue
            for path in (blob, link):
                path.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(self.lies.get(file.path, CONTENT[file.path]))
            link.symlink_to(blob)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(monkeypatch)


def bring(path: Path) -> list[str]:
    output: list[str] = []
    downloads.download(path, WEIGHTS, "http://hub", "", output.append)
    return output


def test_a_model_is_downloaded_and_hashed_once(hub: Hub, tmp_path: Path) -> None:
    assert bring(tmp_path) == ["org/a: downloading 2 of 2 files, 0 MiB", "org/a: hashing 2 files"]
    assert hub.requests == [["config.json", "sub/model[[]1].safetensors"]]
    assert models.missing(tmp_path, WEIGHTS) == []
    assert bring(tmp_path) == []
    assert len(hub.requests) == 1


def test_another_content_is_reported_and_fetched_again_the_next_time(hub: Hub, tmp_path: Path) -> None:
    hub.lies = {"config.json": b"[]"}
    with pytest.raises(HubError, match="1 files do not match the lock file"):
        bring(tmp_path)
    hub.lies = {}
    assert bring(tmp_path)[0] == "org/a: downloading 1 of 2 files, 0 MiB"
    assert models.missing(tmp_path, WEIGHTS) == []


def test_a_gated_model_is_refused_before_anything_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.access = Access.NO_TOKEN
    with pytest.raises(HubError, match="gated"):
        bring(tmp_path)
    assert hub.requests == []


def test_a_download_that_breaks_off_is_reported_in_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.broken = OSError("no space\nleft")
    with pytest.raises(HubError, match=r"failed: no space; run again"):
        bring(tmp_path)


@pytest.mark.provokes("mirror-download-failed")
def test_a_mirror_has_each_artifact_once_and_continues_after_a_diagnostic(hub: Hub, tmp_path: Path) -> None:
    image = ImageRef("nvcr.io/nvidia/vllm", "1", "sha256:" + "4" * 64)
    services = tuple(Service(f"s{n}", "", 8000 + n, image, WEIGHTS, f"s{n}") for n in range(2))
    entries = {"a": LockedImage(image, "sha256:5"), "b": LockedImage(ImageRef("other", "1", "sha256:6"))}
    content = mirror.content(Fleet("f", (Host("one", services), Host("two", services))), Lock(entries))
    assert ([entry.image for entry in content.images], len(content.models)) == ([image], 1)
    hub.access = Access.NO_LICENCE

    class Registry:
        def manifest(self, *_: str) -> None:
            raise RegistryError("cannot be reached", "is the network there?")

    source = mirror.Source(Registry())  # type: ignore[arg-type]
    diagnostics = list(mirror.write(tmp_path, content, source, lambda _: None))
    assert [diagnostic.location for diagnostic in diagnostics] == ["nvcr.io/nvidia/vllm:1", "org/a"]
    assert all(diagnostic.hint for diagnostic in diagnostics)
