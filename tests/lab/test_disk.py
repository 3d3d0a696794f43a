"""A Spark's disk: prune removes what a change left behind and nothing that is needed; verify finds rot."""

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
THEIRS = f"{HUB}/models--{GPT_OSS.replace('/', '--')}"
THEIR_FILE = f"{THEIRS}/snapshots/{'a' * 40}/config.json"
THEIR_CACHE = "/home/nvidia/vllm-compile-cache/theirs/kernel"
SEEN = (
    "find {hub} /home/nvidia/vllm-compile-cache /var/lib/sparkfleet -printf '%p %s %T@ %i\\n' | sort;"
    "docker images --no-trunc --format '{{{{.ID}}}} {{{{.Digest}}}}';"
    "docker ps --all --no-trunc --format '{{{{.ID}}}} {{{{.Names}}}}'"
)


@dataclass
class Changed:
    """A Spark that has one model, serves another, now with a flag changed; and things of its user's."""

    fleet: FleetDirectory
    spark: Machine
    content: dict[str, Any]
    """Of the host file."""
    image: str
    """Of the first: pulled by us, needed by nothing any more."""

    def prune(self, *words: str) -> Outcome:
        return self.fleet.command("sparkfleet", "prune", "inventories/lab.py", *words)

    def listed(self, *words: str) -> list[tuple[str, str]]:
        """Return kind and name of everything that would go."""
        (host,) = json.loads(self.prune("--json", *words).expect(0).out)["hosts"]
        return [(item["kind"], item["name"]) for item in host["items"]]

    def there(self) -> str:
        return self.spark.sh(SEEN.format(hub=HUB))

    def serves(self) -> bool:
        return "qwen" in self.spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")


@pytest.fixture(scope="module")
def changed(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changed]:
    faults.mend_services(Docker(), lab, lab_state)
    spark = Machine("spark-01", lab, lab_state)
    spark.reset(cold=True)  # images that are pulled here are ours
    fleet = FleetDirectory(tmp_path_factory.mktemp("prune") / "checkout", lab)
    flags = {"max-num-seqs": 3}
    contents = (NANO, "stage"), (QWEN, "serve"), ({"serve": [{**QWEN["serve"][0], "flags": flags}]}, "serve")
    for content, deploy in contents:
        fleet.host("spark-01", content)
        fleet.lock()
        fleet.run(deploy=deploy).expect(0)
    for path in (THEIR_FILE, THEIR_CACHE):
        spark.sh(f"mkdir -p {path.rpartition('/')[0]} && echo theirs > {path}")
    yield Changed(fleet, spark, contents[-1][0], spark.image("nvcr.io/nvidia/vllm:26.04-py3"))
    spark.reset()


def test_the_list_is_what_the_change_left_behind_and_showing_it_touches_nothing(changed: Changed) -> None:
    before = changed.there()
    kinds = [kind for kind, _ in changed.listed()]
    assert kinds.count("model") == kinds.count("image") == kinds.count("compile cache") == 1
    text = changed.prune().expect(0).out
    assert "Nemotron" in text
    assert "not managed by sparkfleet" in text
    assert changed.there() == before


def test_what_a_rollback_goes_back_to_is_never_listed(changed: Changed) -> None:
    books = json.loads(changed.spark.sh("cat /var/lib/sparkfleet/services/qwen/current.json"))
    target = books["replaced"][0]["id"]
    names = [name for _, name in changed.listed()]
    assert f"qwen {target}" not in names
    assert not any("Qwen" in name for name in names)


def test_asked_it_removes_what_was_listed_and_a_second_prune_is_empty(changed: Changed) -> None:
    said = changed.prune("--yes").expect(0)
    assert "freed" in said.out
    assert changed.listed() == []
    there = changed.there()
    assert "Nemotron" not in there
    assert changed.image.rpartition("@")[2] not in there
    assert changed.image.rpartition(":")[2][:12] not in there  # its compile cache
    assert "Qwen3.6" in there
    assert changed.spark.ok(f"test -f {THEIR_FILE}")
    assert changed.spark.ok(f"test -f {THEIR_CACHE}")
    assert changed.serves()
    changed.fleet.plan().expect(0)
    assert not changed.spark.ok(f"docker image inspect {changed.image}")


def test_what_is_not_ours_goes_when_it_is_named_and_not_before(changed: Changed) -> None:
    assert changed.listed("--include-unmanaged", GPT_OSS) == [("model", f"{GPT_OSS}@{'a' * 12}")]
    changed.prune("--yes", "--include-unmanaged", GPT_OSS).expect(0)
    assert not changed.spark.ok(f"test -e {THEIRS}")


def test_what_was_hashed_on_arrival_is_not_read_again(changed: Changed) -> None:
    said = changed.fleet.run(deploy="verify").expect(0)
    assert "spark-01   no changes" in said.text


def test_a_file_that_rotted_is_found_by_its_hash_planned_and_fetched_alone(changed: Changed) -> None:
    (path,) = changed.spark.sh(f"ls {HUB}/models--*Qwen3.6*/snapshots/*/model-00002-*").split()
    good = changed.spark.sh(f"sha256sum < {path}")
    changed.spark.sh(f"printf X | dd of=$(realpath {path}) bs=1 seek=1000 conv=notrunc")
    changed.fleet.plan().expect(0)  # its size is right: nobody knows yet
    name = path.rpartition("/")[2]
    dry = changed.fleet.command("pyinfra", "inventories/lab.py", "deploys/verify.py", "--dry").expect(0)
    assert "1 of " in dry.text
    said = changed.fleet.run(deploy="verify").expect(1)
    assert "are not as locked: " + name in said.text
    assert changed.serves()
    assert [row[:3] for row in changed.fleet.changes("spark-01")] == [
        ("weights", name, "changed, hash differs")
    ]
    assert "= changed" in changed.fleet.run(deploy="verify").expect(1).text
    changed.fleet.run(deploy="stage").expect(0)
    assert changed.spark.sh(f"sha256sum < {path}") == good
    changed.fleet.run(deploy="verify").expect(0)
    changed.fleet.plan().expect(0)
