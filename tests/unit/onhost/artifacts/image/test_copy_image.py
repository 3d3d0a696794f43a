"""An image from another Spark: packed once, loaded, and named by its registry; no file of it stays."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.artifacts.fetch import staged
from sparkfleet.onhost.artifacts.fetch.pull import StageError
from sparkfleet.onhost.artifacts.image import copy_image
from sparkfleet.onhost.state.journal import Journal

REFERENCE = "nvcr.io/nvidia/vllm@sha256:" + "c" * 64
DERIVED = "localhost/sparkfleet/derived:0123456789abcdef"
CONTENT = b"an image in a tar" * 100_000
USER = {"uid": os.getuid(), "gid": os.getgid(), "home": "/home/nvidia"}


@dataclass
class Dockerd:
    """What docker has, and what was asked of it."""

    folder: Path
    here: bool = False
    loaded: bool = False
    asked: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    id: str = "sha256:" + "1" * 64

    def has_image(self, reference: str) -> bool:
        assert reference in {REFERENCE, DERIVED}
        return self.here

    def image(self, _: str) -> dict[str, Any] | None:
        loaded = self.here or "load" in asked(self)
        return {"Id": self.id} if loaded else None

    def remove_image(self, reference: str) -> None:
        self.removed.append(reference)

    def name_of(self, reference: str) -> str:
        return f"127.0.0.1:7355/sparkfleet/{reference}"  # it came from an offline mirror

    def image_size(self, _: str) -> int:
        return len(CONTENT)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dockerd:
    """A docker command on PATH that packs and loads files, and a registry that names what was loaded."""
    dockerd = Dockerd(tmp_path / "docker")
    dockerd.folder.mkdir()
    (dockerd.folder / "content").write_bytes(CONTENT)
    command = dockerd.folder / "docker"
    command.write_text(
        "#!/bin/sh\n"
        f"echo $1 >> {dockerd.folder}/asked\n"
        f"[ $1 = save ] && exec cat {dockerd.folder}/content\n"
        f'cmp -s "$4" {dockerd.folder}/content || {{ echo "unexpected EOF" >&2; exit 1; }}\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{dockerd.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(copy_image, "DockerEngine", lambda: dockerd)
    monkeypatch.setattr(copy_image, "ImageEngine", lambda: dockerd)
    monkeypatch.setattr(staged, "DockerEngine", lambda: dockerd)
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def pull(reference: str, home: Path, _: Journal) -> None:
        assert (reference, home) == (REFERENCE, Path("/home/nvidia"))
        dockerd.here = True

    monkeypatch.setattr(copy_image, "pull", pull)
    return dockerd


def asked(docker: Dockerd) -> list[str]:
    path = docker.folder / "asked"
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "job").mkdir()
    return Journal(tmp_path / "job", time.time)


def test_an_image_is_packed_once_for_all_who_want_it_and_forgotten_after(
    docker: Dockerd, tmp_path: Path, journal: Journal
) -> None:
    first = copy_image.export(REFERENCE, USER, tmp_path, journal)
    assert first == copy_image.export(REFERENCE, USER, tmp_path, journal)
    assert asked(docker) == ["save"]
    path = Path(first["path"])
    assert path.read_bytes() == CONTENT
    assert (first["size"], first["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert path.stat().st_mode & 0o777 == 0o600
    copy_image.forget(tmp_path, REFERENCE)
    assert list((tmp_path / "images").iterdir()) == []


def test_what_cannot_be_packed_may_come_from_elsewhere_and_leaves_nothing(
    docker: Dockerd, tmp_path: Path, journal: Journal
) -> None:
    (docker.folder / "content").unlink()
    with pytest.raises(StageError, match="could not be written to a file") as raised:
        copy_image.export(REFERENCE, USER, tmp_path, journal)
    assert raised.value.result["elsewhere"]
    assert list((tmp_path / "images").iterdir()) == []


def arriving(
    monkeypatch: pytest.MonkeyPatch, content: bytes
) -> Callable[[Mapping[str, Any], Mapping[str, Any], Callable[[Mapping[str, Any]], None]], dict[str, Any]]:
    def in_child(
        order: Mapping[str, Any], user: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]
    ) -> dict[str, Any]:
        assert user["uid"] == 0
        (file,) = order["files"]
        Path(file["target"]).write_bytes(content)
        tell({"have": len(content)})
        return {"arrived": [], "fetched": len(content)}

    monkeypatch.setattr(copy_image, "in_child", in_child)
    return in_child


ORDER = {"image": REFERENCE, "sender": "spark-01", "listeners": [], "size": len(CONTENT), "sha256": "f" * 64,
         "transfer_key": "t"}  # fmt: skip


def test_an_image_that_arrived_is_loaded_named_and_ours_and_its_file_goes(
    docker: Dockerd, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving(monkeypatch, CONTENT)
    copy_image.bring(ORDER, Path("/home/nvidia"), journal, tmp_path)
    assert docker.here
    assert asked(docker) == ["load"]
    assert list((tmp_path / "images").iterdir()) == []
    assert list(staged.read(tmp_path).images) == [REFERENCE]
    copy_image.bring(ORDER, Path("/home/nvidia"), journal, tmp_path)  # here by now: nothing to do
    assert asked(docker) == ["load"]


def test_a_file_that_docker_does_not_take_is_no_image_and_goes(
    docker: Dockerd, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving(monkeypatch, CONTENT[:-1])
    with pytest.raises(StageError, match="could not be loaded: unexpected EOF"):
        copy_image.bring(ORDER, Path("/home/nvidia"), journal, tmp_path)
    assert not docker.here
    assert list((tmp_path / "images").iterdir()) == []
    assert staged.read(tmp_path).images == {}


def test_a_derived_image_is_known_by_its_id_and_no_registry_is_asked(
    docker: Dockerd, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving(monkeypatch, CONTENT)
    copy_image.bring(ORDER | {"image": DERIVED, "id": docker.id}, Path("/root"), journal, tmp_path)
    assert not docker.here  # the pull would have set it
    assert docker.removed == []
    copy_image.bring(ORDER | {"image": DERIVED, "id": docker.id}, Path("/root"), journal, tmp_path)
    assert asked(docker) == ["load"]


def test_a_derived_image_with_another_id_than_the_senders_is_not_kept(
    docker: Dockerd, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving(monkeypatch, CONTENT)
    with pytest.raises(StageError, match="another id than there"):
        copy_image.bring(ORDER | {"image": DERIVED, "id": "sha256:other"}, Path("/root"), journal, tmp_path)
    assert docker.removed == [DERIVED]
    assert list((tmp_path / "images").iterdir()) == []
    assert staged.read(tmp_path).images == {}


def test_a_file_that_nobody_came_for_is_swept_away_after_a_day(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, age in (("old.tar", copy_image.OLD_S + 9), ("new.tar", 9)):
        (folder / name).write_text("x")
        os.utime(folder / name, (time.time() - age,) * 2)
    copy_image.sweep(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["new.tar"]
