"""A site without registry or hub: empty Sparks get image and model from an offline mirror and serve."""

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
from tests.lab.serving_fleet import nano, reset_machines
from tests.lab.test_staging import hub

NAMES = ("spark-01", "spark-02")
DIGESTS = "docker image inspect $(docker images -q --no-trunc) --format '{{json .RepoDigests}}' | sort -u"


@dataclass
class OfflineSite:
    """Two Sparks that were empty, and the outcomes of each step until they served."""

    fleet: FleetDirectory
    machines: tuple[Machine, ...]
    digest: str
    """Digest of the image in the registry."""
    mirror: Path
    repeated: Outcome
    """Outcome of a second ``sparkfleet mirror``."""
    requests: dict[str, Any]
    """Requests of that command to the hub, by file."""
    plan: Outcome
    run: Outcome


@pytest.fixture(scope="module")
def site(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineSite]:
    machines = reset_machines(lab, lab_state, *NAMES, cold=True)
    fleet = FleetDirectory(tmp_path_factory.mktemp("offline") / "checkout", lab)
    for name in NAMES:
        fleet.host(name, {**nano(), "prepare": {"offline": True}})
    fleet.lock()
    command_line = ("sparkfleet", "mirror", "inventories/lab.py", "mirror")
    assert "1 image, 1 model" in fleet.command(*command_line).expect(0).out
    hub(lab_state, "reset", "POST")
    repeated, requests = fleet.command(*command_line).expect(0), hub(lab_state, "counters")["files"]
    digest = machines[0].image("nvcr.io/nvidia/vllm:26.04-py3").rpartition("@")[2]
    fleet.set_group_data(stage={"mirror": "mirror"})
    for role in ("registry", "hub"):
        faults.break_host(Docker(), lab, lab_state, role, f"{role}-down")
    try:
        plan = fleet.plan().expect(2)
        yield OfflineSite(
            fleet, machines, digest, fleet.root / "mirror", repeated, requests, plan, fleet.run()
        )
    finally:
        faults.repair_services(Docker(), lab, lab_state)


def test_an_offline_mirror_has_image_and_model_by_their_hashes_and_fetches_nothing_twice(
    site: OfflineSite,
) -> None:
    for blob in (site.mirror / "images" / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    found = scan_cache_dir(site.mirror / "hub")
    assert not found.warnings
    assert [repo.repo_id for repo in found.repos] == [NANO]
    assert site.repeated.err == ""
    assert site.requests == {}


def test_the_plan_copies_from_the_mirror_to_one_spark_and_from_that_one_to_the_other(
    site: OfflineSite,
) -> None:
    first, second = site.plan.out.split("spark-02 ", 1)
    assert re.search(r"\+ pull .* from the offline mirror", first)
    assert re.search(r"\+ weights .* from the offline mirror", first)
    assert re.search(r"\+ pull .* from spark-01", second)
    assert re.search(r"\+ weights .* from spark-01", second)


def test_empty_sparks_serve_without_registry_and_hub_and_the_next_plan_is_empty(site: OfflineSite) -> None:
    site.run.expect(0)
    for machine in site.machines:
        assert "nano" in machine.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
    assert "no changes" in site.fleet.plan().expect(0).out


def test_docker_has_the_images_under_the_digest_of_the_registry(site: OfflineSite) -> None:
    for machine in site.machines:
        names = [name for line in machine.sh(DIGESTS).splitlines() for name in json.loads(line)]
        assert {name.rpartition("@")[2] for name in names} == {site.digest}
        container, image = (
            machine.sh("docker inspect nano --format '{{.Image}}'"),
            machine.sh(f"docker image inspect {names[0]} --format '{{{{.Id}}}}'"),
        )
        assert container == image


def test_the_login_user_owns_the_model_and_it_equals_that_of_the_mirror(site: OfflineSite) -> None:
    (snapshot,) = (site.mirror / "hub").glob("models--*/snapshots/*")
    mirror = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in snapshot.iterdir()}
    find_snapshot = f"cd /home/nvidia/vllm/{snapshot.relative_to(site.mirror)}"
    for machine in site.machines:
        lines = machine.sh(f"{find_snapshot} && sha256sum *").splitlines()
        assert {line.split()[1]: line.split()[0] for line in lines} == mirror
        assert set(machine.sh(f"{find_snapshot} && stat -L -c %U *").split()) == {"nvidia"}


def test_no_port_no_secret_and_no_file_of_the_copies_is_left(site: OfflineSite) -> None:
    for machine in site.machines:
        listening = machine.sh("ss -Htlnp | grep 127.0.0.1 || true")
        assert "sshd" not in listening
        assert ":7355" not in listening
        assert machine.sh("ls -A /run/sparkfleet /var/lib/sparkfleet/images") == (
            "/run/sparkfleet:\n\n/var/lib/sparkfleet/images:"
        )


def test_the_image_is_managed_and_not_pruned_while_it_is_needed(site: OfflineSite) -> None:
    hosts = json.loads(
        site.fleet.command("sparkfleet", "prune", "inventories/lab.py", "--json").expect(0).out
    )
    assert [item for host in hosts["hosts"] for item in (*host["items"], *host["others"])] == []


def test_after_a_reboot_it_serves_again_without_a_registry(site: OfflineSite) -> None:
    machine = site.machines[1]
    machine.reboot()
    probe_command = "curl -sS --fail http://127.0.0.1:8000/v1/models"
    assert machine.ok(f"for n in $(seq 120); do {probe_command} && exit 0; sleep 0.5; done; exit 1")
    site.fleet.plan().expect(0)
