"""Prune on a host: each item after another check; what has changed, is open or is not ours remains."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.stage import PruneItem, PruneRequest, StageResult
from sparkfleet.contract.state import Staged
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record
from sparkfleet.onhost.machine import open_files
from sparkfleet.onhost.prune import prune
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import Image, RuntimeUnavailableError
from tests.unit.onhost.artifacts.fake_images import FakeImages

REVISION = "1" * 40
IMAGE = "registry.example/vllm@sha256:" + "4" * 64


class Spark:
    """A Spark's disk in a directory."""

    def __init__(self, base: Path) -> None:
        self.state, self.models, self.caches = base / "state", base / "vllm", base / "caches"
        self.snapshot = self.models / "hub" / "models--org--a" / "snapshots" / REVISION
        (self.state / "jobs" / "1").mkdir(parents=True)
        self.images = FakeImages({IMAGE: Image("sha256:id")}, directory=base)
        self.items: list[PruneItem] = []
        self.records: dict[str, str] = {}

    def put(self, path: Path, content: str = "x") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def list(self, kind: str, key: Path | str, *refs: str) -> None:
        self.items.append(PruneItem(kind, str(key)[-20:], str(key), refs))

    def prune(self) -> StageResult:
        request = PruneRequest(str(self.models), str(self.caches), self.records, {}, tuple(self.items))
        return prune.prune(request, self.state, Journal(self.state / "jobs" / "1", lambda: 0.0))


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spark:
    made = Spark(tmp_path)
    monkeypatch.setattr(onhost, "images", lambda: made.images)
    monkeypatch.setattr(open_files, "open_identities", set)
    return made


def test_each_kind_is_removed_and_forgotten(spark: Spark) -> None:
    spark.put(spark.snapshot / "config.json")
    cache = spark.put(spark.caches / ("4" * 12) / "kernel").parent
    generation = spark.put(spark.state / "services" / "nano" / "generations" / "1-a.json", "{}")
    evidence = spark.put(spark.state / "rollouts" / "nano-1" / "evidence" / "log").parent
    fetch_record.note(spark.state, "images", IMAGE, 1)
    fetch_record.note(spark.state, "revisions", str(spark.snapshot), 1)
    spark.list("image", "sha256:id", IMAGE)
    spark.list("model", spark.snapshot)
    for kind, path in (("compile cache", cache), ("generation", generation), ("evidence", evidence)):
        spark.list(kind, path)
    result = spark.prune()
    assert (result.removed, result.remaining) == (5, ())
    for path in (spark.snapshot, cache, generation.parents[1], evidence):
        assert not path.exists()
    assert evidence.parent.exists()
    assert spark.images.present == {}
    assert fetch_record.read(spark.state) == Staged()


def test_an_image_that_a_container_needs_remains_and_the_rest_is_removed(spark: Spark) -> None:
    spark.images.needed.add("sha256:id")
    spark.list("image", "sha256:id", IMAGE)
    spark.put(spark.snapshot / "config.json")
    spark.list("model", spark.snapshot)
    result = spark.prune()
    assert result.removed == 1
    assert "container c1 is using it" in result.remaining[0].message


def test_a_spark_without_docker_is_pruned_and_one_whose_docker_is_down_is_not(spark: Spark) -> None:
    spark.put(spark.snapshot / "config.json")
    spark.list("model", spark.snapshot)
    spark.images.unavailable = "down"
    with pytest.raises(RuntimeUnavailableError):
        spark.prune()
    spark.images.unavailable = "missing"
    assert spark.prune().removed == 1


def changed_record(spark: Spark) -> None:
    spark.put(spark.state / "services" / "nano" / "current.json", "{}")


def unfinished_rollout(spark: Spark) -> None:
    spark.put(spark.state / "rollouts" / "nano-1" / "request.json", "{}")


def new_container(spark: Spark) -> None:
    spark.images.used["c1"] = "sha256:id"


@pytest.mark.parametrize("change", [changed_record, unfinished_rollout, new_container])
def test_nothing_is_removed_when_the_host_has_changed(spark: Spark, change: Any) -> None:
    spark.put(spark.snapshot / "config.json")
    spark.list("model", spark.snapshot)
    change(spark)
    with pytest.raises(StageError):
        spark.prune()
    assert (spark.snapshot / "config.json").exists()


def test_an_unchanged_record_is_no_reason_to_refuse(spark: Spark) -> None:
    record = spark.put(spark.state / "services" / "nano" / "current.json", '{"id": "a"}')
    spark.records["nano"] = hashlib.sha256(record.read_bytes()).hexdigest()
    spark.put(spark.snapshot / "config.json")
    spark.list("model", spark.snapshot)
    assert spark.prune().removed == 1


def test_nothing_is_removed_during_a_rollout(spark: Spark) -> None:
    spark.put(spark.snapshot / "config.json")
    spark.list("model", spark.snapshot)
    with store.lock(spark.state), pytest.raises(StageError, match="0 items removed"):
        spark.prune()
    assert spark.snapshot.exists()


@pytest.mark.provokes("item-not-removed")
def test_an_item_that_a_process_has_open_remains(spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(onhost, "images", lambda: spark.images)
    weights = spark.put(spark.snapshot / "model.safetensors")
    spark.list("model", spark.snapshot)
    with weights.open():
        (wrong,) = spark.prune().remaining
        assert "open in a process" in wrong.message
        assert wrong.code == "item-not-removed"
    assert weights.exists()
    assert spark.prune().removed == 1


def test_a_path_that_sparkfleet_does_not_create_is_refused(spark: Spark, tmp_path: Path) -> None:
    precious = spark.put(tmp_path / "precious" / "file")
    linked = spark.caches / ("5" * 12)
    linked.parent.mkdir()
    linked.symlink_to(precious.parent)
    cache = spark.put(spark.caches / "theirs" / "kernel").parent
    other = tmp_path / "elsewhere" / "hub" / "models--org--a"
    repo = spark.models / "hub" / "models--org--linked"
    repo.parent.mkdir(parents=True)
    repo.symlink_to(precious.parent)
    for kind, path in (
        ("model", precious.parent), ("model", spark.models), ("model", other / "snapshots" / REVISION),
        ("model", repo / "snapshots" / REVISION), ("model", spark.snapshot / ".." / ".."),
        ("compile cache", cache), ("compile cache", linked), ("compile cache", precious.parent),
        ("generation", precious), ("generation", spark.state / "services" / ".." / "x"),
        ("evidence", precious.parent),
    ):  # fmt: skip
        spark.list(kind, path)
    result = spark.prune()
    assert result.removed == 0
    assert len(result.remaining) == len(spark.items)
    assert precious.exists()
    assert cache.exists()


def test_removing_an_old_generation_keeps_the_record_of_its_service(spark: Spark) -> None:
    record = spark.put(spark.state / "services" / "nano" / "current.json", "{}")
    spark.records["nano"] = hashlib.sha256(b"{}").hexdigest()
    generation = spark.put(record.parent / "generations" / "1-a.json", "{}")
    spark.list("generation", generation)
    assert spark.prune().removed == 1
    assert record.exists()


def test_freed_bytes_are_counted_once_for_each_file_system(
    spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([10, 10, 10, 25])  # three directories of one file system before, and it once after
    monkeypatch.setattr(prune, "_free", lambda _: (7, next(left)))
    assert spark.prune().freed == 15


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path / "proc"


def test_open_and_mapped_files_are_known_by_device_and_inode(proc: Path, tmp_path: Path) -> None:
    opened, mapped = tmp_path / "opened", tmp_path / "mapped"
    for path in (opened, mapped):
        path.write_text("x")
    (proc / "17" / "fd").mkdir(parents=True)
    (proc / "17" / "fd" / "3").symlink_to(opened)
    (proc / "17" / "fd" / "4").symlink_to(tmp_path / "gone")
    info = mapped.stat()
    device = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}"
    (proc / "17" / "maps").write_text(
        f"7f00-7f01 r--p 00000000 {device} {info.st_ino}   /models/mapped\n7f02-7f03 rw-p 0 00:00 0\nshort\n"
    )
    (proc / "18").mkdir()  # it ended meanwhile
    (proc / "self").mkdir()
    held = open_files.open_identities(proc)
    assert open_files.first_open([tmp_path / "gone", mapped], held) == mapped
    assert open_files.first_open([opened], held) == opened
    assert open_files.first_open([tmp_path], held) is None


def test_a_prune_logs_its_items(spark: Spark) -> None:
    spark.put(spark.snapshot / "config.json")
    spark.list("model", spark.snapshot)
    spark.prune()
    lines = (spark.state / "jobs" / "1" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["phase", "note"]
    assert fetch_record.read(spark.state) == Staged()


def test_nothing_is_removed_when_a_newer_version_wrote_what_was_fetched(spark: Spark) -> None:
    file = spark.put(spark.snapshot / "config.json")
    record = spark.put(spark.state / "staged.json", '{"version": 99}')
    spark.list("image", "sha256:id", IMAGE)
    spark.list("model", spark.snapshot)
    with pytest.raises(ContractError, match="version 99"):
        spark.prune()
    assert file.exists()
    assert spark.images.present
    assert record.read_text() == '{"version": 99}'
