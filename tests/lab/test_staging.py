"""Images and weights reach a fleet: from outside once, then from Spark to Spark."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

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


def test_weights_are_downloaded_once_and_copied_to_the_other_spark(
    fleet: FleetDirectory, sparks: tuple[Machine, ...], lab: Lab, lab_state: State
) -> None:
    for machine in sparks:
        fleet.host(machine.name, nano())
    fleet.lock()
    hub(lab_state, "reset", "POST")
    listening = [machine.sh("ss -Htln | sort") for machine in sparks]
    staged = fleet.run(deploy="stage").expect(0)
    counted = hub(lab_state, "counters")["files"]
    assert counted
    once = {name: seen for name, seen in counted.items() if "safetensors" in name}
    assert {seen["requests"] for seen in once.values()} == {1}, counted
    assert "from spark-01 over the LAN before the stop" in staged.text
    assert tree(sparks[0]) == tree(sparks[1])
    assert "/models/hub/models--" in snapshot_by_the_hubs_own_program(sparks[1])
    assert [machine.sh("ss -Htln | sort") for machine in sparks] == listening
    assert sparks[0].sh("ls /run/sparkfleet") == ""
    assert "weights" not in {field for field, _, _, _ in fleet.changes("spark-02")}
