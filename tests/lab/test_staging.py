"""Images and weights reach a fleet: from outside once, then from Spark to Spark."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from typing import Any

import yaml

from sparkfleet.lab.names import Lab
from sparkfleet.lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.served import nano

HUB = "/home/nvidia/vllm/hub"


def hub(state: State, what: str, method: str = "GET") -> dict[str, Any]:
    """Ask the lab's hub for its own figures."""
    request = urllib.request.Request(f"{state.hub_url}/__lab__/{what}", method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    return json.loads(text) if text else {}


def tree(machine: Machine) -> str:
    """Return the models in a machine's cache: names, owners, targets of links, hashes of contents."""
    find = "find models--* -name trees -prune -o"  # listings that the hub's own download keeps for itself
    names = machine.sh(f"cd {HUB} && {find} -printf '%p %u %g %y %l\\n' | sort")
    hashes = machine.sh(f"cd {HUB} && {find} -type f -exec sha256sum {{}} + | sort")
    return f"{names}\n{hashes}"


def snapshot_by_the_hubs_own_program(machine: Machine) -> str:
    """Ask huggingface_hub in the engine's image, without network, where the model is."""
    image = machine.sh(
        "docker images --digests --format '{{.Repository}}@{{.Digest}}' | grep nvcr.io | head -1"
    )
    (name,) = machine.sh(f"ls {HUB} | grep ^models--").split()
    (revision,) = machine.sh(f"ls {HUB}/{name}/snapshots").split()
    repo = name.removeprefix("models--").replace("--", "/")
    return machine.sh(
        f"docker run --rm --network none --user 1000 -e HF_HUB_OFFLINE=1 -e HF_HOME=/models -e HOME=/tmp "
        f"-v /home/nvidia/vllm:/models --entrypoint hf {image} download {repo} --revision {revision}"
    )


def sent_by_the_registry(lab: Lab) -> int:
    """Return the bytes that the registry has sent, by its own network card."""
    words = ["docker", "exec", lab.container("registry"), "cat", "/sys/class/net/eth0/statistics/tx_bytes"]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_images_and_weights_come_from_outside_once_and_are_copied_to_the_other_sparks(
    fleet: FleetDirectory, sparks: tuple[Machine, ...], lab: Lab, lab_state: State
) -> None:
    for machine in sparks:
        machine.reset(cold=True)
        fleet.host(machine.name, nano())
    fleet.lock()
    hub(lab_state, "reset", "POST")
    before = sent_by_the_registry(lab)
    listening = [machine.sh("ss -Htln | sort") for machine in sparks]
    staged = fleet.run(deploy="stage").expect(0)

    counted = hub(lab_state, "counters")["files"]
    assert counted
    assert {seen["requests"] for seen in counted.values()} == {1}, counted
    sent = sent_by_the_registry(lab) - before
    lock = yaml.safe_load((fleet.root / "inventories" / "lab" / "fleet.lock").read_text())
    (compressed,) = (image["size"] for image in lock["images"].values())
    assert compressed < sent < 1.2 * compressed + 100_000

    assert staged.text.count(" from spark-01 over the LAN") == 2, staged.text
    assert tree(sparks[0]) == tree(sparks[1])
    assert "/models/hub/models--" in snapshot_by_the_hubs_own_program(sparks[1])
    listed = "docker images --digests --no-trunc --format '{{.Repository}} {{.Digest}} {{.ID}}'"
    digests = [machine.sh(listed) for machine in sparks]
    assert digests[0] == digests[1]
    assert re.fullmatch(r"nvcr.io/nvidia/vllm sha256:\w{64} sha256:\w{64}", digests[0])
    assert [machine.sh("ss -Htln | sort") for machine in sparks] == listening
    for machine in sparks:
        assert machine.sh("ls -A /run/sparkfleet; ls -A /var/lib/sparkfleet/images") == ""
        assert {field for field, _, _, _ in fleet.changes(machine.name)}.isdisjoint({"pull", "weights"})
