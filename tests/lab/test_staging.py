"""A change of model on two Sparks: image and weights come from outside once, while the old ones serve."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.caller import Caller
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine
from tests.lab.served import fresh, nano

NAMES = ("spark-01", "spark-02")
QWEN = {"serve": [{"recipe": "qwen3.6-35b-a3b-nvfp4", "name": "qwen"}]}
HUB = "/home/nvidia/vllm/hub"
MODEL = "models--nvidia--Qwen3.6-35B-A3B-NVFP4"
LISTENING = "ss -Htln | grep -v ':8000 ' | awk '{print $4}' | sort"


def hub(state: State, what: str, method: str = "GET") -> dict[str, Any]:
    """Ask the lab's hub for its own figures."""
    request = urllib.request.Request(f"{state.hub_url}/__lab__/{what}", method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    return json.loads(text) if text else {}


def sent_by_the_registry(lab: Lab) -> int:
    """Return the bytes that the registry has sent, by its own network card."""
    words = ["docker", "exec", lab.container("registry"), "cat", "/sys/class/net/eth0/statistics/tx_bytes"]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@dataclass
class Change:
    """What was seen of the change."""

    fleet: FleetDirectory
    callers: list[Caller]
    first: Outcome | None = None
    """The run that brought the first model."""
    compressed: int = 0
    """Bytes of its image in the registry."""
    sent: int = 0
    """Bytes that the registry sent for it."""
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    """What the hub was asked for while staging, by file: requests and bytes."""
    staged: Outcome | None = None
    trees: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    listening: list[tuple[str, str]] = field(default_factory=list)
    """Before and after staging."""
    left: list[str] = field(default_factory=list)
    converged: Outcome | None = None
    """The run after staging, of whose plan nothing but the swap may be left."""

    @property
    def machines(self) -> list[Machine]:
        return [caller.machine for caller in self.callers]


@pytest.fixture(scope="module")
def change(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Change:
    """Bring one model to two empty Sparks, stage another while it serves, then serve that."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("staging") / "checkout", lab)
    machines = fresh(lab, lab_state, *NAMES, cold=True)
    seen = Change(fleet, [Caller(machine) for machine in machines])
    for machine in machines:
        fleet.host(machine.name, nano())
    fleet.lock()
    lock = yaml.safe_load((fleet.root / "inventories" / "lab" / "fleet.lock").read_text())
    (seen.compressed,) = (image["size"] for image in lock["images"].values())
    sent = sent_by_the_registry(lab)
    seen.first = fleet.run().expect(0)
    seen.sent = sent_by_the_registry(lab) - sent
    for machine in machines:
        fleet.host(machine.name, QWEN)
    fleet.lock()
    for caller in seen.callers:
        caller.start()
    try:
        _stage(seen, lab_state)
        seen.converged = fleet.run()
    finally:
        for caller in seen.callers:
            caller.stop()
    return seen


def _stage(seen: Change, lab_state: State) -> None:
    fleet, machines = seen.fleet, seen.machines
    before = [machine.sh(LISTENING) for machine in machines]
    hub(lab_state, "reset", "POST")
    seen.staged = fleet.run(deploy="stage")
    seen.files = hub(lab_state, "counters")["files"]
    seen.listening = list(zip(before, (machine.sh(LISTENING) for machine in machines), strict=True))
    find = (
        f"cd {HUB}/{MODEL} && find . -name trees -prune -o"  # listings that the hub's client keeps for itself
    )
    seen.trees = [
        machine.sh(f"{find} -printf '%p %u %g %y %l\\n' | sort; {find} -type f -exec sha256sum {{}} + | sort")
        for machine in machines
    ]
    listed = (
        "docker images --digests --no-trunc --format '{{.Repository}} {{.Digest}} {{.ID}}' vllm/vllm-openai"
    )
    seen.digests = [machine.sh(listed) for machine in machines]
    seen.left = [machine.sh("ls -A /run/sparkfleet /var/lib/sparkfleet/images") for machine in machines]


def test_each_byte_of_an_image_is_sent_by_the_registry_once_for_both(change: Change) -> None:
    assert change.first is not None
    assert re.search(r"spark-02.*?\+ pull [^\n]* from spark-01", change.first.text, re.DOTALL)
    assert change.compressed < change.sent < 1.2 * change.compressed + 200_000


def test_each_file_of_a_model_is_sent_by_the_hub_once_for_both(change: Change) -> None:
    assert change.staged is not None
    change.staged.expect(0)
    assert len(change.files) >= 8
    assert {seen["requests"] for seen in change.files.values()} == {1}, change.files
    assert re.search(r"spark-02.*?\+ weights [^\n]* from spark-01", change.staged.text, re.DOTALL)


def test_both_have_the_same_files_and_the_same_images_by_digest(change: Change) -> None:
    assert change.trees[0] == change.trees[1]
    assert change.trees[0].count(".safetensors") >= 2
    assert change.digests[0] == change.digests[1]
    assert re.fullmatch(r"(\S+/vllm\S* sha256:\w{64} sha256:\w{64}\n?)+", change.digests[0])


def test_the_hubs_own_program_finds_a_copied_model_without_network(change: Change) -> None:
    machine = change.machines[1]
    revision = machine.sh(f"ls {HUB}/{MODEL}/snapshots")
    image = machine.sh("docker images --digests --format '{{.Repository}}@{{.Digest}}' vllm/vllm-openai")
    repo = MODEL.removeprefix("models--").replace("--", "/")
    said = machine.sh(
        "docker run --rm --network none --user 1000 -e HF_HUB_OFFLINE=1 -e HF_HOME=/models -e HOME=/tmp "
        f"-v /home/nvidia/vllm:/models --entrypoint hf {image} download {repo} --revision {revision}"
    )
    assert f"/models/hub/{MODEL}/snapshots/{revision}" in said


def test_no_port_no_token_and_no_file_of_the_copy_is_left(change: Change) -> None:
    for before, after in change.listening:
        assert before == after
    assert change.left == ["/run/sparkfleet:\n\n/var/lib/sparkfleet/images:"] * 2


def test_the_plan_after_staging_has_nothing_left_to_fetch(change: Change) -> None:
    assert change.converged is not None
    assert "nano → qwen" in change.converged.text
    assert not re.search(r"^  [+~] (pull|weights)", change.converged.text, re.MULTILINE)


def test_the_old_models_answer_every_request_until_they_are_stopped_for_the_new_ones(change: Change) -> None:
    assert change.converged is not None
    change.converged.expect(0)
    for caller in change.callers:
        events = caller.machine.sh("cat $(ls -td /var/lib/sparkfleet/rollouts/*/ | head -1)/events.jsonl")
        steps = {event.get("step"): event["at"] for event in map(json.loads, events.splitlines())}
        result = json.loads(
            caller.machine.sh("cat $(ls -td /var/lib/sparkfleet/rollouts/*/ | head -1)/result.json")
        )
        assert caller.lost_before(steps["stop"]) == 0
        assert sum(call.model == "nano" for call in caller.calls) > 20
        assert caller.calls[-1].model == "qwen"
        print(  # noqa: T201
            f"{caller.machine.name}: {caller.gap('qwen'):.1f} s without service; engine stop "
            f"{steps['start'] - steps['stop']:.1f} s, engine start {result['gate_result']['ready_s']:.1f} s"
        )
