"""A Spark's disk: prune removes what a change left behind and no more; verify finds corrupt files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sparkfleet_lab import faults
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.standins.hub_models import GPT_OSS
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine

NANO = {"serve": [{"recipe": "nemotron-3-nano-30b-a3b-nvfp4", "name": "nano"}]}
QWEN: dict[str, Any] = {"serve": [{"recipe": "qwen3.6-35b-a3b-nvfp4", "name": "qwen"}]}
HUB = "/home/nvidia/vllm/hub"
USER_MODEL = f"{HUB}/models--{GPT_OSS.replace('/', '--')}"
USER_FILE = f"{USER_MODEL}/snapshots/{'a' * 40}/config.json"
USER_CACHE = "/home/nvidia/vllm-compile-cache/theirs/kernel"
DISK_STATE = (
    "find {hub} /home/nvidia/vllm-compile-cache /var/lib/sparkfleet -printf '%p %s %T@ %i\\n' | sort;"
    "docker images --no-trunc --format '{{{{.ID}}}} {{{{.Digest}}}}';"
    "docker ps --all --no-trunc --format '{{{{.ID}}}} {{{{.Names}}}}'"
)


@dataclass
class ChangedSpark:
    """A Spark that has one model, serves another with a changed flag, and has files of its user."""

    fleet: FleetDirectory
    spark: Machine
    content: dict[str, Any]
    """Content of the host file."""
    image: str
    """Image of the first model: pulled by sparkfleet, no longer needed."""

    def prune(self, *args: str) -> Outcome:
        return self.fleet.command("sparkfleet", "prune", "inventories/lab.py", *args)

    def listed(self, *args: str) -> list[tuple[str, str]]:
        """Return kind and name of everything that would be removed."""
        (host,) = json.loads(self.prune("--json", *args).expect(0).out)["hosts"]
        return [(item["kind"], item["name"]) for item in host["items"]]

    def disk_state(self) -> str:
        return self.spark.sh(DISK_STATE.format(hub=HUB))

    def serves(self) -> bool:
        return "qwen" in self.spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")


@pytest.fixture(scope="module")
def changed_spark(
    lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChangedSpark]:
    faults.repair_services(Docker(), lab, lab_state)
    spark = Machine("spark-01", lab, lab_state)
    spark.reset(cold=True)  # images that the test pulls count as managed
    fleet = FleetDirectory(tmp_path_factory.mktemp("prune") / "checkout", lab)
    flags = {"max-num-seqs": 3}
    contents = (NANO, "stage"), (QWEN, "serve"), ({"serve": [{**QWEN["serve"][0], "flags": flags}]}, "serve")
    for content, deploy in contents:
        fleet.host("spark-01", content)
        fleet.lock()
        fleet.run(deploy=deploy).expect(0)
    for path in (USER_FILE, USER_CACHE):
        spark.sh(f"mkdir -p {path.rpartition('/')[0]} && echo theirs > {path}")
    yield ChangedSpark(fleet, spark, contents[-1][0], spark.image("nvcr.io/nvidia/vllm:26.04-py3"))
    spark.reset()


def test_prune_lists_what_the_change_left_behind_and_removes_nothing_without_approval(
    changed_spark: ChangedSpark,
) -> None:
    before = changed_spark.disk_state()
    kinds = [kind for kind, _ in changed_spark.listed()]
    assert kinds.count("model") == kinds.count("image") == kinds.count("compile cache") == 1
    text = changed_spark.prune().expect(0).out
    assert "Nemotron" in text
    assert "not managed by sparkfleet" in text
    assert changed_spark.disk_state() == before


def test_the_target_of_a_rollback_is_never_listed(changed_spark: ChangedSpark) -> None:
    record = json.loads(changed_spark.spark.sh("cat /var/lib/sparkfleet/services/qwen/current.json"))
    target = record["replaced"][0]["id"]
    names = [name for _, name in changed_spark.listed()]
    assert f"qwen {target}" not in names
    assert not any("Qwen" in name for name in names)


def test_prune_removes_what_was_listed_and_a_second_prune_is_empty(changed_spark: ChangedSpark) -> None:
    outcome = changed_spark.prune("--yes").expect(0)
    assert "freed" in outcome.out
    assert changed_spark.listed() == []
    disk_state = changed_spark.disk_state()
    assert "Nemotron" not in disk_state
    assert changed_spark.image.rpartition("@")[2] not in disk_state
    assert changed_spark.image.rpartition(":")[2][:12] not in disk_state  # its compile cache
    assert "Qwen3.6" in disk_state
    assert changed_spark.spark.ok(f"test -f {USER_FILE}")
    assert changed_spark.spark.ok(f"test -f {USER_CACHE}")
    assert changed_spark.serves()
    changed_spark.fleet.plan().expect(0)
    assert not changed_spark.spark.ok(f"docker image inspect {changed_spark.image}")


def test_unmanaged_models_are_removed_only_when_they_are_named(changed_spark: ChangedSpark) -> None:
    assert changed_spark.listed("--include-unmanaged", GPT_OSS) == [("model", f"{GPT_OSS}@{'a' * 12}")]
    changed_spark.prune("--yes", "--include-unmanaged", GPT_OSS).expect(0)
    assert not changed_spark.spark.ok(f"test -e {USER_MODEL}")


def test_files_that_were_hashed_on_arrival_are_not_read_again(changed_spark: ChangedSpark) -> None:
    outcome = changed_spark.fleet.run(deploy="verify").expect(0)
    assert "spark-01   no changes" in outcome.text


def test_a_corrupt_file_is_found_by_its_hash_and_only_that_file_is_fetched(
    changed_spark: ChangedSpark,
) -> None:
    (path,) = changed_spark.spark.sh(f"ls {HUB}/models--*Qwen3.6*/snapshots/*/model-00002-*").split()
    good = changed_spark.spark.sh(f"sha256sum < {path}")
    changed_spark.spark.sh(f"printf X | dd of=$(realpath {path}) bs=1 seek=1000 conv=notrunc")
    changed_spark.fleet.plan().expect(0)  # its size is unchanged, so a plan does not notice
    name = path.rpartition("/")[2]
    dry = changed_spark.fleet.command("pyinfra", "inventories/lab.py", "deploys/verify.py", "--dry").expect(0)
    assert "1 of " in dry.text
    outcome = changed_spark.fleet.run(deploy="verify").expect(1)
    assert "are not as locked: " + name in outcome.text
    assert changed_spark.serves()
    assert [row[:3] for row in changed_spark.fleet.changes("spark-01")] == [
        ("weights", name, "changed, hash differs")
    ]
    assert "= changed" in changed_spark.fleet.run(deploy="verify").expect(1).text
    changed_spark.fleet.run(deploy="stage").expect(0)
    assert changed_spark.spark.sh(f"sha256sum < {path}") == good
    changed_spark.fleet.run(deploy="verify").expect(0)
    changed_spark.fleet.plan().expect(0)
