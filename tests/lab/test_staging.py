"""A change of model on two Sparks: image and weights are downloaded once, while the old engines serve."""

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
from tests.lab.serving_fleet import nano, reset_machines

NAMES = ("spark-01", "spark-02")
QWEN = {"serve": [{"recipe": "qwen3.6-35b-a3b-nvfp4", "name": "qwen"}]}
HUB = "/home/nvidia/vllm/hub"
MODEL = "models--nvidia--Qwen3.6-35B-A3B-NVFP4"
LISTENING = "ss -Htln | grep -v ':8000 ' | awk '{print $4}' | sort"


def hub(state: State, what: str, method: str = "GET") -> dict[str, Any]:
    """Read the lab hub's own counters."""
    request = urllib.request.Request(f"{state.hub_url}/__lab__/{what}", method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        text = response.read().decode()
    return json.loads(text) if text else {}


def bytes_sent_by_registry(lab: Lab) -> int:
    """Return the bytes that the registry has sent, counted by its network interface."""
    command_line = [
        "docker",
        "exec",
        lab.container("registry"),
        "cat",
        "/sys/class/net/eth0/statistics/tx_bytes",
    ]
    return int(subprocess.run(command_line, capture_output=True, text=True, check=True).stdout)


@dataclass
class StagedChange:
    """Recorded outcomes of the change."""

    fleet: FleetDirectory
    callers: list[Caller]
    first: Outcome | None = None
    """The run that installed the first model."""
    compressed: int = 0
    """Size of its image in the registry, in bytes."""
    sent: int = 0
    """Bytes that the registry sent for it."""
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    """Requests and bytes of the hub while staging, by file."""
    staged: Outcome | None = None
    trees: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    listening: list[tuple[str, str]] = field(default_factory=list)
    """Before and after staging."""
    remaining: list[str] = field(default_factory=list)
    run: Outcome | None = None
    """The run after staging, whose plan has only the rollouts."""

    @property
    def machines(self) -> list[Machine]:
        return [caller.machine for caller in self.callers]


@pytest.fixture(scope="module")
def change(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> StagedChange:
    """Serve one model on two empty Sparks, stage another meanwhile, then serve that."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("staging") / "checkout", lab)
    machines = reset_machines(lab, lab_state, *NAMES, cold=True)
    change = StagedChange(fleet, [Caller(machine) for machine in machines])
    for machine in machines:
        fleet.host(machine.name, nano())
    fleet.lock()
    lock = yaml.safe_load((fleet.root / "inventories" / "lab" / "fleet.lock").read_text())
    (change.compressed,) = (image["size"] for image in lock["images"].values())
    sent = bytes_sent_by_registry(lab)
    change.first = fleet.run().expect(0)
    change.sent = bytes_sent_by_registry(lab) - sent
    for machine in machines:
        fleet.host(machine.name, QWEN)
    fleet.lock()
    for caller in change.callers:
        caller.start()
    try:
        _stage(change, lab_state)
        change.run = fleet.run()
    finally:
        for caller in change.callers:
            caller.stop()
    return change


def _stage(change: StagedChange, lab_state: State) -> None:
    fleet, machines = change.fleet, change.machines
    before = [machine.sh(LISTENING) for machine in machines]
    hub(lab_state, "reset", "POST")
    change.staged = fleet.run(deploy="stage")
    change.files = hub(lab_state, "counters")["files"]
    change.listening = list(zip(before, (machine.sh(LISTENING) for machine in machines), strict=True))
    find = f"cd {HUB}/{MODEL} && find . -name trees -prune -o"  # listings that the hub's client caches
    change.trees = [
        machine.sh(f"{find} -printf '%p %u %g %y %l\\n' | sort; {find} -type f -exec sha256sum {{}} + | sort")
        for machine in machines
    ]
    listed = (
        "docker images --digests --no-trunc --format '{{.Repository}} {{.Digest}} {{.ID}}' vllm/vllm-openai"
    )
    change.digests = [machine.sh(listed) for machine in machines]
    change.remaining = [
        machine.sh("ls -A /run/sparkfleet /var/lib/sparkfleet/images") for machine in machines
    ]


def test_each_byte_of_an_image_is_sent_by_the_registry_once_for_both(change: StagedChange) -> None:
    assert change.first is not None
    assert re.search(r"spark-02.*?\+ pull [^\n]* from spark-01", change.first.text, re.DOTALL)
    assert change.compressed < change.sent < 1.2 * change.compressed + 200_000


def test_each_file_of_a_model_is_sent_by_the_hub_once_for_both(change: StagedChange) -> None:
    assert change.staged is not None
    change.staged.expect(0)
    assert len(change.files) >= 8
    assert {change["requests"] for change in change.files.values()} == {1}, change.files
    assert re.search(r"spark-02.*?\+ weights [^\n]* from spark-01", change.staged.text, re.DOTALL)


def test_both_sparks_have_the_same_files_and_the_same_images_by_digest(change: StagedChange) -> None:
    assert change.trees[0] == change.trees[1]
    assert change.trees[0].count(".safetensors") >= 2
    assert change.digests[0] == change.digests[1]
    assert re.fullmatch(r"(\S+/vllm\S* sha256:\w{64} sha256:\w{64}\n?)+", change.digests[0])


def test_the_hubs_own_client_finds_a_copied_model_without_network(change: StagedChange) -> None:
    machine = change.machines[1]
    revision = machine.sh(f"ls {HUB}/{MODEL}/snapshots")
    image = machine.sh("docker images --digests --format '{{.Repository}}@{{.Digest}}' vllm/vllm-openai")
    repo = MODEL.removeprefix("models--").replace("--", "/")
    output = machine.sh(
        "docker run --rm --network none --user 1000 -e HF_HUB_OFFLINE=1 -e HF_HOME=/models -e HOME=/tmp "
        f"-v /home/nvidia/vllm:/models --entrypoint hf {image} download {repo} --revision {revision}"
    )
    assert f"/models/hub/{MODEL}/snapshots/{revision}" in output


def test_no_port_no_token_and_no_file_of_the_copy_remains(change: StagedChange) -> None:
    for before, after in change.listening:
        assert before == after
    assert change.remaining == ["/run/sparkfleet:\n\n/var/lib/sparkfleet/images:"] * 2


def test_the_plan_after_staging_has_nothing_left_to_fetch(change: StagedChange) -> None:
    assert change.run is not None
    assert "nano → qwen" in change.run.text
    assert not re.search(r"^  [+~] (pull|weights)", change.run.text, re.MULTILINE)


def test_the_old_models_answer_every_request_until_they_are_stopped_for_the_new_ones(
    change: StagedChange,
) -> None:
    assert change.run is not None
    change.run.expect(0)
    for caller in change.callers:
        events = caller.machine.sh("cat $(ls -td /var/lib/sparkfleet/rollouts/*/ | head -1)/events.jsonl")
        steps = {event.get("step"): event["at"] for event in map(json.loads, events.splitlines())}
        result = json.loads(
            caller.machine.sh("cat $(ls -td /var/lib/sparkfleet/rollouts/*/ | head -1)/result.json")
        )
        assert caller.failures_before(steps["stop"]) == 0
        assert sum(call.model == "nano" for call in caller.calls) > 20
        assert caller.calls[-1].model == "qwen"
        print(  # noqa: T201
            f"{caller.machine.name}: {caller.gap('qwen'):.1f} s without service; engine stop "
            f"{steps['start'] - steps['stop']:.1f} s, engine start {result['gate_result']['ready_s']:.1f} s"
        )
