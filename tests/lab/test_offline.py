"""A site without registry or hub: from empty Sparks to serving, all of it out of an offline mirror."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import scan_cache_dir

from sparkfleet_lab import faults
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.standins.hub_models import NANO
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine
from tests.lab.served import fresh, nano
from tests.lab.test_staging import hub

NAMES = ("spark-01", "spark-02")
DIGESTS = "docker image inspect $(docker images -q --no-trunc) --format '{{json .RepoDigests}}' | sort -u"


@dataclass
class Site:
    """Two Sparks that were empty, and how they came to serve."""

    fleet: FleetDirectory
    machines: tuple[Machine, ...]
    digest: str
    """Of the image, by the registry."""
    carried: Path
    again: Outcome
    """What bundling said when everything was there already."""
    asked: dict[str, Any]
    """What it asked of the hub then."""
    plan: Outcome
    converged: Outcome


@pytest.fixture(scope="module")
def site(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    machines = fresh(lab, lab_state, *NAMES, cold=True)
    fleet = FleetDirectory(tmp_path_factory.mktemp("offline") / "checkout", lab)
    for name in NAMES:
        fleet.host(name, {**nano(), "prepare": {"offline": True}})
    fleet.lock()
    words = ("sparkfleet", "mirror", "inventories/lab.py", "carried")
    assert "1 image, 1 model" in fleet.command(*words).expect(0).out
    hub(lab_state, "reset", "POST")
    again, asked = fleet.command(*words).expect(0), hub(lab_state, "counters")["files"]
    digest = machines[0].image("nvcr.io/nvidia/vllm:26.04-py3").rpartition("@")[2]
    fleet.set_group_data(stage={"mirror": "carried"})
    for role in ("registry", "hub"):
        faults.break_host(Docker(), lab, lab_state, role, f"{role}-down")
    try:
        plan = fleet.plan().expect(2)
        yield Site(fleet, machines, digest, fleet.root / "carried", again, asked, plan, fleet.run())
    finally:
        faults.mend_services(Docker(), lab, lab_state)


def test_a_bundle_has_image_and_model_by_their_hashes_and_is_not_fetched_twice(site: Site) -> None:
    for blob in (site.carried / "images" / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    found = scan_cache_dir(site.carried / "hub")
    assert not found.warnings
    assert [repo.repo_id for repo in found.repos] == [NANO]
    assert site.again.err == ""
    assert site.asked == {}


def test_the_plan_has_one_take_all_from_the_bundle_and_the_other_from_that_one(site: Site) -> None:
    first, second = site.plan.out.split("spark-02 ", 1)
    assert re.search(r"\+ pull .* from the offline mirror", first)
    assert re.search(r"\+ weights .* from the offline mirror", first)
    assert re.search(r"\+ pull .* from spark-01", second)
    assert re.search(r"\+ weights .* from spark-01", second)


def test_without_registry_and_hub_empty_sparks_come_to_serve_and_nothing_is_left_to_do(site: Site) -> None:
    site.converged.expect(0)
    for machine in site.machines:
        assert "nano" in machine.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
    assert "no changes" in site.fleet.plan().expect(0).out


def test_docker_itself_knows_the_images_by_the_digest_of_the_registry(site: Site) -> None:
    for machine in site.machines:
        names = [name for line in machine.sh(DIGESTS).splitlines() for name in json.loads(line)]
        assert {name.rpartition("@")[2] for name in names} == {site.digest}
        container, image = (
            machine.sh("docker inspect nano --format '{{.Image}}'"),
            machine.sh(f"docker image inspect {names[0]} --format '{{{{.Id}}}}'"),
        )
        assert container == image


def test_the_model_is_the_login_users_and_the_very_one_of_the_bundle(site: Site) -> None:
    (snapshot,) = (site.carried / "hub").glob("models--*/snapshots/*")
    carried = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in snapshot.iterdir()}
    there = f"cd /home/nvidia/vllm/{snapshot.relative_to(site.carried)}"
    for machine in site.machines:
        lines = machine.sh(f"{there} && sha256sum *").splitlines()
        assert {line.split()[1]: line.split()[0] for line in lines} == carried
        assert set(machine.sh(f"{there} && stat -L -c %U *").split()) == {"nvidia"}


def test_no_port_no_secret_and_no_file_of_the_copies_is_left(site: Site) -> None:
    for machine in site.machines:
        listening = machine.sh("ss -Htlnp | grep 127.0.0.1 || true")
        assert "sshd" not in listening
        assert ":7355" not in listening
        assert machine.sh("ls -A /run/sparkfleet /var/lib/sparkfleet/images") == (
            "/run/sparkfleet:\n\n/var/lib/sparkfleet/images:"
        )


def test_the_image_is_ours_and_is_not_pruned_while_it_is_needed(site: Site) -> None:
    hosts = json.loads(
        site.fleet.command("sparkfleet", "prune", "inventories/lab.py", "--json").expect(0).out
    )
    assert [item for host in hosts["hosts"] for item in (*host["items"], *host["others"])] == []


def test_after_a_reboot_it_serves_again_without_a_registry(site: Site) -> None:
    machine = site.machines[1]
    machine.reboot()
    answers = "curl -sS --fail http://127.0.0.1:8000/v1/models"
    assert machine.ok(f"for n in $(seq 120); do {answers} && exit 0; sleep 0.5; done; exit 1")
    site.fleet.plan().expect(0)
