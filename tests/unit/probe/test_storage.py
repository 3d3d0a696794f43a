"""The look at what lies on the disks: what there is, its bytes, and who uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.generation import CurrentGeneration, PromotedGeneration
from sparkfleet.contract.resources import RENAMED_KINDS
from sparkfleet.contract.state import Staged, StagedItem
from sparkfleet.onhost.collectors import basics, main, resources, storage
from sparkfleet.probe.command import more_parts, sources
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.response import read_response
from sparkfleet.probe.stored import Stored, StoredBlob, StoredImage
from sparkfleet.runtimes.docker.collectors import storage as docker_storage
from tests.unit.probe.requests import request_of

A, B = "a" * 40, "b" * 40
DIGEST = "registry.example/vllm@sha256:" + "4" * 64


class Disk:
    """A Spark's directories below a temporary one."""

    def __init__(self, base: Path) -> None:
        self.models, self.caches, self.state = base / "vllm", base / "caches", base / "state"
        self.hub = self.models / "hub"

    def write(self, path: Path, content: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def snapshot(self, repo: str, revision: str) -> Path:
        return self.hub / f"models--{repo.replace('/', '--')}" / "snapshots" / revision

    def put(self, repo: str, revision: str, name: str, blob: str) -> None:
        link = self.snapshot(repo, revision) / name
        self.write(link.parents[2] / "blobs" / blob, "x" * 5000)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../blobs/{blob}")

    def look(self) -> dict[str, Any]:
        return storage.collect_stored(str(self.models), str(self.caches), [docker_storage])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(tmp_path)
    monkeypatch.setattr(basics, "STATE_DIR", str(made.state))
    responses: dict[str, Any] = {
        "/images/json": [
            {"Id": "sha256:1", "RepoTags": ["<none>:<none>"], "RepoDigests": [DIGEST], "Size": 7},
            {"Id": "sha256:2", "RepoTags": None, "RepoDigests": None},
        ],
        "/containers/json?all=1": [{"Id": "c1"}, {"Id": "c2"}],
        "/containers/c1/json": {
            "Id": "c1", "Name": "/theirs", "Image": "sha256:1",
            "Config": {"Env": ["MODEL=org/a", f"SECRET={B}"]},
            "Mounts": [{"Source": str(made.caches / "444444444444")}],
        },
    }  # fmt: skip
    monkeypatch.setattr(docker_storage, "get", responses.get)
    return made


def test_an_empty_spark_has_nothing(disk: Disk) -> None:
    seen = codec.read(Stored, disk.look(), "stored")
    assert (seen.repositories, seen.caches, seen.services, seen.evidence) == ((), (), {}, ())


def test_images_have_every_name_but_none(disk: Disk) -> None:
    assert codec.read(Stored, disk.look(), "stored").images == (
        StoredImage("sha256:1", (DIGEST,), 7),
        StoredImage("sha256:2", ()),
    )


def test_models_have_their_revisions_blobs_and_shared_contents(disk: Disk) -> None:
    disk.put("org/a", A, "config.json", "c1")
    disk.write(disk.snapshot("org/a", A) / "own", "12")
    store = disk.write(disk.hub / "blobs" / "ee" / "shared", "y" * 9000)
    link = disk.hub / "models--org--a" / "blobs" / "w1"
    link.symlink_to(store)
    (disk.hub / "models--org--a" / "blobs" / "lost").symlink_to("nowhere")
    (disk.hub / "models--elsewhere").symlink_to(disk.caches)
    (repository,) = codec.read(Stored, disk.look(), "stored").repositories
    assert repository.repo == "org/a"
    assert [(one.revision, one.blobs, one.own) for one in repository.revisions] == [(A, ("c1",), 2)]
    assert repository.blobs["w1"].shared == str(store)
    assert repository.blobs["w1"].bytes >= 9000
    assert repository.blobs["lost"] == StoredBlob(0)


def test_a_revision_with_only_its_record_is_reported(disk: Disk) -> None:
    disk.put("org/a", A, "config.json", "c1")
    record = {"images": {DIGEST: {"bytes": 7, "at": 1}}, "revisions": {str(disk.snapshot("org/a", B)): {}}}
    disk.write(disk.state / "staged.json", record)
    seen = codec.read(Stored, disk.look(), "stored")
    assert [(one.revision, one.changed > 0) for one in seen.repositories[0].revisions] == [
        (A, True),
        (B, False),
    ]
    assert seen.staged_images == {DIGEST: StagedItem(7, 1.0)}


def test_a_container_uses_what_its_args_name_and_its_args_stay_on_the_spark(disk: Disk) -> None:
    disk.put("org/a", A, "config.json", "c1")
    disk.put("org/a", B, "config.json", "c1")
    disk.put("org/b", A, "config.json", "c1")
    disk.write(disk.caches / "444444444444" / "kernel", "k")
    disk.write(disk.caches / "file", "no directory")
    found = disk.look()
    theirs, gone = codec.read(Stored, found, "stored").containers
    assert theirs.uses == (str(disk.snapshot("org/a", B)),)
    assert theirs.caches == (str(disk.caches / "444444444444"),)
    assert (gone.id, gone.uses) == ("c2", ())
    assert "SECRET" not in json.dumps(found)


def test_a_model_without_a_commit_means_each_of_its_commits(disk: Disk) -> None:
    for revision in (A, B):
        disk.put("org/a", revision, "config.json", "c1")
    generation = {
        "id": "g1",
        "model": "org/x",
        "argv": ["org/x", "--speculative-config", '{"model": "org/a"}'],
    }
    disk.write(disk.state / "services" / "nano" / "generations" / "1-g1.json", generation)
    (stored_generation,) = codec.read(Stored, disk.look(), "stored").services["nano"].generations
    assert set(stored_generation.uses) == {str(disk.snapshot("org/a", revision)) for revision in (A, B)}
    assert stored_generation.names == ("org/a", "org/x")


def test_a_service_has_its_current_generation_those_that_it_replaced_and_other_kept_ones(disk: Disk) -> None:
    def record(name: str) -> dict[str, Any]:
        return {"id": name, "image": DIGEST, "model": "org/a", "revision": A, "promoted_at": 3}

    base = disk.state / "services" / "nano"
    disk.write(base / "current.json", {**record("g3"), "replaced": [{**record("old"), "model": "org/b"}]})
    for number in (10, 9):
        disk.write(base / "generations" / f"{number}-g{number}.json", record(f"g{number}"))
    disk.write(base / "generations" / "notes.txt", "not ours")
    disk.write(disk.state / "rollouts" / "nano-1" / "evidence" / "log", "12345")
    disk.write(disk.state / "rollouts" / "nano-2" / "result.json", "{}")
    seen = codec.read(Stored, disk.look(), "stored")
    nano = seen.services["nano"]
    assert nano.current is not None
    assert (nano.current.id, nano.current.model, nano.current.revision) == ("g3", "org/a", A)
    assert [one.model for one in nano.replaced] == ["org/b"]
    assert [one.id for one in nano.generations] == ["g9", "g10"]
    assert nano.generations[0].bytes > 0
    assert [(one.rollout, one.bytes) for one in seen.evidence] == [("nano-1", 5)]


def test_the_collector_of_disks_is_sent_only_with_a_request_for_it() -> None:
    name = "sparkfleet.onhost.collectors.storage"
    assert name not in [module for module, _ in sources()]
    assert name in [module for module, _ in sources(more_parts(request_of(stored=True)))]
    assert not request_of().to_json()["stored"]


def test_disks_that_cannot_be_read_make_the_spark_unknown(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, Any]:
        raise PermissionError("no")

    request = request_of(stored=True).to_json()
    plain = main.collect(request, "root")
    assert "stored" in plain
    monkeypatch.setattr(storage, "collect_stored", broken)
    data = {
        **main.collect(request, "root"), "sudo": {"state": "ok"}, "systemd": {"state": "ok"},
        "runtimes": {"docker": {"state": "ok", "containers": [], "images": {}}},
    }  # fmt: skip
    text = str(read_response("spark-01", json.dumps(data)))
    assert "stored could not be read: PermissionError" in text
    whole = read_response("spark-01", json.dumps({**data, "stored": plain["stored"]}))
    assert isinstance(whole, Observed)
    assert whole.stored is not None


@pytest.mark.parametrize(
    "text", ["[]", "{", "", "null", '{"id": 1, "replaced": 5}', '{"replaced": [7]}', '{"version": 99}']
)
@pytest.mark.parametrize("name", ["current.json", "generations/1-a.json"])
def test_a_record_that_cannot_be_read_fails_the_whole_part_and_is_named(
    disk: Disk, name: str, text: str
) -> None:
    path = disk.state / "services" / "nano" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    found = main.part(storage.collect_stored, str(disk.models), str(disk.caches), [docker_storage])
    assert found["error"].startswith(f"ValueError: {path}: ")


def test_the_collector_knows_the_present_versions_and_kinds() -> None:
    versions = (CurrentGeneration.VERSION, PromotedGeneration.VERSION, Staged.VERSION)
    assert versions == (storage.RECORD_VERSION, storage.RECORD_VERSION, storage.STAGED_VERSION)
    assert resources.RENAMED_KINDS == RENAMED_KINDS
