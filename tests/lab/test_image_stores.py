"""Docker's two image stores in one fleet: overlay2, and containerd's, which a new Spark has (Docker 29).

Each test starts from the state that the previous one left. ``spark-01`` has the older store, ``spark-02`` and
``spark-03`` have containerd's; all start without images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State, read_state
from tests.lab import package_index
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.names import lab_name
from tests.lab.pairs import Pair
from tests.lab.serving_fleet import nano
from tests.lab.test_staging import bytes_sent_by_registry
from tests.wheels import real_pip, wheel

NAMES = ("spark-01", "spark-02", "spark-03")
NANO_IMAGE = "nvcr.io/nvidia/vllm:26.04-py3"
QWEN: dict[str, Any] = {"serve": [{"recipe": "qwen3.6-35b-a3b-nvfp4", "name": "nano"}]}
MANIFESTS = 300_000
"""Bytes that the registry may send for an image that is copied: manifests, TLS."""
MODELS = "curl -sS --fail http://127.0.0.1:8000/v1/models"


@dataclass
class Stores:
    """A fleet of machines with both image stores."""

    lab: Lab
    state: State
    fleet: FleetDirectory

    def machine(self, name: str) -> Machine:
        return Machine(name, self.lab, self.state)

    def ids(self, name: str, reference: str) -> tuple[str, set[str]]:
        """Return id and digests of an image on a machine."""
        (image,) = json.loads(self.machine(name).sh(f"docker image inspect {reference}"))
        return image["Id"], {digest.rpartition("@")[2] for digest in image["RepoDigests"]}

    def expect_empty_plan(self) -> None:
        assert self.fleet.plan().expect(0).out.splitlines()[-1].startswith("0 to change, ")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    docker, lab = Docker(), Lab(Path(__file__).parents[2], lab_name("stores"))
    lifecycle.up(docker, lab, 1, print)
    lifecycle.up(docker, lab, len(NAMES), print, containerd=True)
    state = read_state(lab) or pytest.fail("the lab is gone")
    fleet = FleetDirectory(tmp_path_factory.mktemp("stores") / "checkout", lab)
    for name in NAMES:
        fleet.host(name, {"serve": None})
    yield Stores(lab, state, fleet)
    lifecycle.down(docker, lab, also_images=False, report=print)


def test_the_machines_have_the_store_that_they_are_for(stores: Stores) -> None:
    drivers = [stores.machine(name).sh("docker info -f '{{json .DriverStatus}}'") for name in NAMES]
    assert ["io.containerd.snapshotter.v1" in driver for driver in drivers] == [False, True, True]
    assert int(stores.machine("spark-02").sh("docker version -f '{{.Server.Version}}'").split(".")[0]) >= 28


def test_a_fresh_spark_with_containerds_store_converges_serves_and_has_nothing_left_to_do(
    stores: Stores,
) -> None:
    spark, digest = stores.machine("spark-02"), stores.machine("spark-02").image(NANO_IMAGE).split("@")[1]
    stores.fleet.host("spark-02", nano())
    stores.fleet.lock()
    assert "to pull" in stores.fleet.plan().expect(2).out
    stores.fleet.run().expect(0)
    assert "nano" in spark.sh(MODELS)
    stores.expect_empty_plan()
    started, files = spark.sh("docker inspect -f '{{.State.StartedAt}}' nano"), spark.files_snapshot()
    stores.fleet.run().expect(0)
    assert spark.sh("docker inspect -f '{{.State.StartedAt}}' nano") == started
    assert spark.files_snapshot() == files
    assert stores.ids("spark-02", spark.image(NANO_IMAGE)) == (digest, {digest})  # the id is the digest


def test_an_image_is_copied_from_containerds_store_to_both_and_the_registry_sends_only_manifests(
    stores: Stores,
) -> None:
    for name in NAMES:
        stores.fleet.host(name, nano())
    before = bytes_sent_by_registry(stores.lab)
    staged = stores.fleet.run(deploy="stage").expect(0)
    assert bytes_sent_by_registry(stores.lab) - before < MANIFESTS
    assert re.findall(r"\+ pull .* (to pull|from spark-\d\d)", staged.text) == ["from spark-02"] * 2
    reference = stores.machine("spark-01").image(NANO_IMAGE)
    digest = reference.rpartition("@")[2]
    found = [stores.ids(name, reference) for name in NAMES]
    assert [digests for _, digests in found] == [{digest}] * 3
    assert [image_id == digest for image_id, _ in found] == [False, True, True]
    for name in NAMES:
        assert stores.machine(name).sh("docker images -aq --no-trunc | sort -u | wc -l") == "1"
    stores.fleet.run().expect(0)
    assert all("nano" in stores.machine(name).sh(MODELS) for name in NAMES)
    stores.expect_empty_plan()


def test_an_image_of_the_older_store_is_not_copied_to_containerds(stores: Stores) -> None:
    stores.fleet.host("spark-01", QWEN)
    stores.fleet.lock()
    stores.fleet.run("--limit", "spark-01", deploy="stage").expect(0)
    stores.fleet.host("spark-02", QWEN)
    stores.fleet.host("spark-03", QWEN)
    plan = stores.fleet.plan().expect(2).out
    assert re.findall(r"\+ pull .* (to pull|from spark-\d\d)", plan) == ["to pull", "from spark-02"]


@pytest.mark.full
def test_a_change_of_the_image_and_a_rollback_of_it(stores: Stores) -> None:
    spark = stores.machine("spark-03")
    stores.fleet.run().expect(0)
    stores.expect_empty_plan()
    running = spark.sh("docker inspect -f '{{.Id}} {{.State.StartedAt}}' nano")
    stores.fleet.host("spark-03", nano(env={"LAB_ENGINE": "crash-at-start"}))
    assert stores.fleet.run("--limit", "spark-03").code != 0
    assert spark.sh("docker inspect -f '{{.Id}}' nano") == running.split()[0]
    assert spark.ok(f"for n in $(seq 120); do {MODELS} && exit 0; sleep 0.5; done; exit 1")
    stores.fleet.host("spark-03", QWEN)
    stores.expect_empty_plan()


@pytest.mark.full
def test_prune_removes_the_image_that_is_no_longer_needed_from_both_stores(stores: Stores) -> None:
    for name in NAMES:  # another change, so that no rollback needs the first image
        stores.fleet.host(name, {"serve": [{**QWEN["serve"][0], "flags": {"max-num-seqs": 3}}]})
    stores.fleet.run().expect(0)
    command_line = ("sparkfleet", "prune", "inventories/lab.py")
    hosts = json.loads(stores.fleet.command(*command_line, "--json").expect(0).out)["hosts"]
    for host in hosts:
        assert [item["kind"] for item in host["items"]].count("image") == 1
        assert [item for item in host["others"] if item["kind"] == "image"] == []
    stores.fleet.command(*command_line, "--yes").expect(0)
    for name in NAMES:
        spark = stores.machine(name)
        assert not spark.ok(f"docker image inspect {spark.image(NANO_IMAGE)}")
        assert spark.sh("docker images -aq --no-trunc | sort -u | wc -l") == "1"
        assert "nano" in spark.sh(MODELS)
    stores.expect_empty_plan()


def derived_content(spark: Machine) -> tuple[str, str]:
    """Return id and layers of the image that ``nano`` runs."""
    (image,) = json.loads(spark.sh("docker image inspect $(docker inspect -f '{{.Image}}' nano)"))
    return image["Id"], json.dumps(image["RootFS"]["Layers"])


@pytest.mark.full
@pytest.mark.parametrize("builder", ["spark-01", "spark-02"], ids=["overlay2", "containerd"])
def test_a_derived_image_is_built_in_one_store_and_copied_to_both(
    stores: Stores, tmp_path: Path, builder: str
) -> None:
    package = f"tool-{builder}"
    with package_index.serve(stores.state.lan.address(1), tmp_path) as index:
        for name, content in (real_pip(), wheel(package, "1.2")):
            index.add(name, content)
        stores.fleet.set_group_data(python_packages={"index": index.url}, stage={"seed": builder})
        for name in NAMES:
            stores.fleet.host(name, {"serve": [{**QWEN["serve"][0], "packages": {package: ">=1"}}]})
        stores.fleet.lock()
        run = stores.fleet.run().expect(0)
    builders = ["spark-02"] if builder == "spark-02" else ["spark-01", "spark-02"]
    assert len(re.findall(r"\+ build .* to build here", run.text)) == len(builders)
    assert re.search(r"\+ build .* from spark-02", run.text)
    receivers = [name for name in NAMES if name not in builders]
    (_, layers), *copies = [derived_content(stores.machine(name)) for name in ("spark-02", *receivers)]
    assert {content for _, content in copies} == {layers}
    stores.expect_empty_plan()
    prune = stores.fleet.command("sparkfleet", "prune", "inventories/lab.py", "--json").expect(0)
    unmanaged = [item for host in json.loads(prune.out)["hosts"] for item in host["others"]]
    assert [item for item in unmanaged if item["kind"] == "image"] == []


@pytest.mark.full
def test_an_offline_spark_with_containerds_store_gets_image_and_digest_from_the_mirror(
    stores: Stores,
) -> None:
    spark = stores.machine("spark-03")
    spark.reset()
    for name in NAMES:
        stores.fleet.host(name, {"serve": None})
    stores.fleet.host("spark-03", {**nano(), "prepare": {"offline": True}})
    stores.fleet.lock()
    stores.fleet.command("sparkfleet", "mirror", "inventories/lab.py", "mirror").expect(0)
    stores.fleet.set_group_data(stage={"mirror": "mirror"})
    before = bytes_sent_by_registry(stores.lab)
    stores.fleet.run("--limit", "spark-03").expect(0)
    assert bytes_sent_by_registry(stores.lab) - before < MANIFESTS
    assert "nano" in spark.sh(MODELS)
    digest = spark.image(NANO_IMAGE).rpartition("@")[2]
    assert spark.sh("docker images --no-trunc --format '{{.Repository}} {{.ID}}'") == (
        f"127.0.0.1:7355/sparkfleet/nvcr.io/nvidia/vllm {digest}"
    )
    assert "spark-03   no changes" in stores.fleet.plan("--limit", "spark-03").expect(0).out


@pytest.mark.full
def test_the_ranks_of_a_cluster_may_have_different_image_stores(stores: Stores) -> None:
    stores.fleet.set_group_data(stage={})
    pair = Pair(stores.fleet, tuple(stores.machine(name) for name in NAMES[:2]), "mixed")
    for name in NAMES:
        stores.fleet.host(name, {"serve": None})
    pair.declare()
    stores.fleet.lock()
    stores.fleet.run().expect(0)
    assert pair.serves()
    used = [machine.sh("docker inspect -f '{{.Image}}' wide") for machine in pair.machines]
    assert len(set(used)) == 2
