"""Interrupted staging: partial data is not used, engines keep serving, the next run completes it.

Moments are chosen by seeds: one here, many in the full run. A test that fails names its seed.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from sparkfleet_lab import faults
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.services import HUB as HUB_ROLE
from sparkfleet_lab.state import State
from tests.lab.caller import Caller
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.serving_fleet import converge_fleet

NAMES = ("spark-01", "spark-02")
QWEN = {"serve": [{"recipe": "qwen3.6-35b-a3b-nvfp4", "name": "qwen"}]}
REPO = "nvidia/Qwen3.6-35B-A3B-NVFP4"
MODEL = f"/home/nvidia/vllm/hub/models--{REPO.replace('/', '--')}"
SHARD_MIB = 100
"""Size of each of three additional shards, so that a transfer takes long enough to be interrupted."""
LIMIT_S = 240
SLOW = {"slow_bytes_per_s": 25_000_000, "path": "model-9000"}
"""A slow hub: a shard takes seconds, so that an interruption happens during its transfer."""
RUN = ("pyinfra", "inventories/lab.py", "deploys/stage.py", "-y")
DOWNLOAD, COPY = "fetch download", "fetch copy"

FETCHED = re.compile(r'"fetched": ?(\d+)')

LIST_FILES = r"""
import hashlib, json, os, sys
found = {}
blobs = sys.argv[1] + "/blobs"
for name in os.listdir(blobs) if os.path.isdir(blobs) else ():
    path = os.path.join(blobs, name)
    if "." in name:
        found[name] = os.stat(path).st_size
        continue
    data = open(path, "rb").read()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    right = name == (hashlib.sha256(data).hexdigest() if len(name) == 64 else git)
    found[name] = [right, len(data), os.stat(path).st_ino, os.stat(path).st_mtime_ns]
links = {}
for folder, _, names in os.walk(sys.argv[1] + "/snapshots"):
    for name in names:
        links[name] = os.path.basename(os.readlink(os.path.join(folder, name)))
json.dump({"blobs": found, "links": links}, sys.stdout)
"""


@dataclass(frozen=True)
class ModelFiles:
    """The model's files on a Spark, read without our code."""

    right: dict[str, tuple[int, int]]
    """Blob whose content matches its name -> inode and mtime."""
    wrong: tuple[str, ...]
    """Blobs whose content does not match their name."""
    partial: dict[str, int]
    """Bytes of each partial file of a copy, by blob."""
    links: dict[str, str]

    @staticmethod
    def on(machine: Machine) -> ModelFiles:
        data = json.loads(machine.sh(f"python3 - {MODEL}", stdin=LIST_FILES))
        blobs = {name: one for name, one in data["blobs"].items() if isinstance(one, list)}
        ours = {name.split(".")[0]: n for name, n in data["blobs"].items() if name.endswith(".copying")}
        return ModelFiles(
            {name: (inode, mtime) for name, (right, _, inode, mtime) in blobs.items() if right},
            tuple(name for name, (right, *_) in blobs.items() if not right),
            ours,
            data["links"],
        )


@dataclass
class Cuttable:
    """Two Sparks that serve one model while another is staged."""

    fleet: FleetDirectory
    machines: tuple[Machine, ...]
    lab: Lab
    state: State
    files: dict[str, tuple[str, int]]
    """Path in the repository -> blob and bytes, as locked."""

    def reset(self) -> None:
        """Remove the new model from both; repair hub and registry, however the last test ended."""
        faults.repair_services(Docker(), self.lab, self.state)
        for machine in self.machines:
            machine.sh(f"umount {MODEL} 2>/dev/null; rm -rf {MODEL}")

    def hub(self, what: str, body: Any = None) -> Any:
        """Read the lab hub's counters, or set its fault."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.state.hub_url}/__lab__/{what}", data)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())

    def bytes_sent_by_hub(self) -> dict[str, int]:
        """Return the bytes that the hub sent since the last reset, by path in the repository."""
        files = self.hub("counters")["files"]
        return {key.partition("/")[2].partition("/")[2]: one["bytes"] for key, one in files.items()}

    def stage_until(self, text: str, later_s: float) -> subprocess.Popen[str]:
        """Start staging; return a number of seconds after it printed a text (or when it has ended)."""
        process = self.fleet.start(*RUN)
        assert process.stdout is not None
        for line in process.stdout:
            if text in line:
                break
        time.sleep(later_s)
        return process

    def end(self, process: subprocess.Popen[str]) -> str:
        """Return the exit code and the remaining output of a run."""
        output, _ = process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in output, output
        return f"exit {process.returncode}\n{output}"

    def wait_for_jobs(self) -> None:
        """Return when no job is running, whoever started it."""
        end = time.monotonic() + LIMIT_S
        for machine in self.machines:
            while machine.sh("systemctl list-units --no-legend --plain 'sparkfleet-stage-*'", check=False):
                assert time.monotonic() < end, machine.evidence()
                time.sleep(0.5)

    def expect_whole(self) -> None:
        expected = {path: blob for path, (blob, _) in self.files.items()}
        for machine in self.machines:
            files = ModelFiles.on(machine)
            assert files.wrong == ()
            assert files.links == expected
            assert set(files.right) >= set(expected.values())


@pytest.fixture(scope="module")
def cuttable(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cuttable]:
    serving = converge_fleet(lab, lab_state, tmp_path_factory.mktemp("cut"), *NAMES)
    hub = lab.container(HUB_ROLE)
    more = f"head -c {SHARD_MIB}M /dev/urandom > model-9000$n-of-90003.safetensors"
    docker = Docker()
    script = f"cd /srv/hub/{REPO}/*/ && for n in 1 2 3; do {more}; done"
    docker.run("exec", hub, "sh", "-c", script)
    try:
        for name in NAMES:
            serving.fleet.host(name, QWEN)
        serving.fleet.lock()
        lock = yaml.safe_load((serving.fleet.root / "inventories" / "lab" / "fleet.lock").read_text())
        (files,) = (model["files"] for key, model in lock["models"].items() if REPO in key)
        expected = {path: (one.get("sha256") or one["blob"], one["size"]) for path, one in files.items()}
        cuttable = Cuttable(serving.fleet, serving.machines, lab, lab_state, expected)
        cuttable.fleet.run(deploy="stage").expect(
            0
        )  # the image is present, so that the weights are interrupted
        yield cuttable
    finally:
        docker.run("exec", hub, "sh", "-c", f"rm -f /srv/hub/{REPO}/*/model-9000*")


def _fault(name: str, at: int | None = None) -> Callable[[Cuttable, subprocess.Popen[str]], None]:
    def apply(cuttable: Cuttable, _: subprocess.Popen[str]) -> None:
        if at is None:
            faults.break_host(
                Docker(), cuttable.lab, cuttable.state, "registry" if "registry" in name else "hub", name
            )
        else:
            cuttable.machines[at].break_(name)

    return apply


def _kill_operator(_: Cuttable, process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _kill(at: int, what: str) -> Callable[[Cuttable, subprocess.Popen[str]], None]:
    def apply(cuttable: Cuttable, _: subprocess.Popen[str]) -> None:
        cuttable.machines[at].sh(f"pkill -KILL -f '{what}'", check=False)

    return apply


CUTS: dict[str, tuple[str, Callable[[Cuttable, subprocess.Popen[str]], None]]] = {
    "operator killed in the copy": (COPY, _kill_operator),
    "operator killed in the download": (DOWNLOAD, _kill_operator),
    "sender killed": (COPY, _kill(0, "[s]parkfleet.pyz copy-send")),
    "receiver killed": (COPY, _kill(1, "[s]parkfleet.pyz copy-receive")),
    "receiver's job killed": (COPY, _kill(1, "[s]parkfleet.pyz stage-run")),
    "fabric cut": (COPY, _fault("cable-out", 1)),
    "seed rebooted": (COPY, _fault("reboot", 0)),
    "receiver rebooted": (COPY, _fault("reboot", 1)),
    "ssh to the seed cut": (COPY, _fault("ssh-cut", 0)),
    "seed rebooted in the download": (DOWNLOAD, _fault("reboot", 0)),
    "hub down": (DOWNLOAD, _fault("hub-down")),
}
HUB: dict[str, list[dict[str, Any]]] = {
    "slow": [{**SLOW, "slow_bytes_per_s": 8_000_000}],
    "breaks off": [{"path": "model-90002", "break_after_bytes": 60_000_000, "times": 3}, SLOW],
    "sends wrong bytes": [{"path": "model-90002", "corrupt": True}, SLOW],
    "refuses one file": [{"path": "model-90002", "status": 403}, SLOW],
    "is overloaded": [{"path": "model-90002", "status": 503}, SLOW],
}
"""Faults from the beginning of the downloads: of one of three shards, or of all."""
SAMPLE = ("operator killed in the copy",)
EVERY = [(name, seed) for name in CUTS for seed in range(3) if not (name in SAMPLE and seed == 0)]


@dataclass
class Callers:
    """The clients of the model that is served during the test."""

    callers: list[Caller]

    def end(self) -> None:
        for caller in self.callers:
            caller.stop()
            assert caller.failures_before(time.time()) == 0
            assert {call.model for call in caller.calls} == {"nano"}


def start_callers(machines: list[Machine]) -> Callers:
    serving = Callers([Caller(machine) for machine in machines])
    for caller in serving.callers:
        caller.start()
    return serving


@pytest.mark.parametrize(
    ("cut", "seed"),
    [*((name, 0) for name in SAMPLE), *(pytest.param(*one, marks=pytest.mark.full) for one in EVERY)],
)
def test_an_interruption_leaves_no_corrupt_file_and_the_next_run_fetches_only_the_rest(
    cuttable: Cuttable, cut: str, seed: int
) -> None:
    text, apply = CUTS[cut]
    later = round(random.Random(f"{cut} {seed}").uniform(0, 1.5), 2)
    rebooted = 0 if cut.startswith("seed rebooted") else 1 if cut == "receiver rebooted" else None
    cuttable.reset()
    if text == DOWNLOAD:
        cuttable.hub("fault", [SLOW])
    serving = start_callers([machine for n, machine in enumerate(cuttable.machines) if n != rebooted])
    process = cuttable.stage_until(text, later)
    apply(cuttable, process)
    _expect_completed(cuttable, cuttable.end(process), killed="operator killed" in cut)
    serving.end()


@pytest.mark.full
@pytest.mark.parametrize("what", HUB)
def test_after_a_fault_of_the_hub_only_missing_data_is_fetched(cuttable: Cuttable, what: str) -> None:
    cuttable.reset()
    cuttable.hub("fault", HUB[what])
    serving = start_callers(list(cuttable.machines))
    output = cuttable.end(cuttable.stage_until(DOWNLOAD, 0))
    good = [blob for path, (blob, _) in cuttable.files.items() if not path.startswith("model-90002")]
    if what == "sends wrong bytes":
        assert "do not match the lock file" in output
        assert set(ModelFiles.on(cuttable.machines[0]).right) >= set(good), output  # the others are kept
    if what == "refuses one file":
        assert "403" in output
    _expect_completed(cuttable, output, killed=False)
    serving.end()


@pytest.mark.full
def test_corrupt_data_of_a_sender_is_rejected_and_fetched_from_the_hub(cuttable: Cuttable) -> None:
    cuttable.fleet.run(deploy="stage").expect(0)
    seed, receiver = cuttable.machines
    receiver.sh(f"rm -rf {MODEL}")
    (shard,) = (blob for path, (blob, _) in cuttable.files.items() if path.startswith("model-90002"))
    seed.sh(f"printf X | dd of={MODEL}/blobs/{shard} bs=1 seek=5000000 conv=notrunc")
    serving = start_callers(list(cuttable.machines))
    output = cuttable.end(cuttable.stage_until(COPY, 0))
    assert f"model-90002-of-90003.safetensors: the copy of {seed.name} does not match the lock file" in output
    received = ModelFiles.on(receiver)
    assert received.wrong == ()
    assert set(received.links.values()) <= set(received.right)
    assert cuttable.fleet.run(deploy="verify").code == 1  # now the corruption is recorded, and repaired
    cuttable.fleet.run(deploy="stage").expect(0)
    cuttable.expect_whole()
    serving.end()


IMAGE = "docker.io/vllm/vllm-openai:v0.24.0-ubuntu2404"
IMAGE_CUTS: dict[str, tuple[str, Callable[[Cuttable, subprocess.Popen[str]], None]]] = {
    "registry down": ("fetch pull", _fault("registry-down")),
    "operator killed in the pull": ("fetch pull", _kill_operator),
    "operator killed while it is packed": ("fetch pack", _kill_operator),
    "receiver killed": ("fetch copy", _kill(1, "[s]parkfleet.pyz copy-receive")),
    "receiver rebooted while it is loaded": ("fetch load", _fault("reboot", 1)),
}


@pytest.mark.full
@pytest.mark.parametrize(("cut", "seed"), [(name, seed) for name in IMAGE_CUTS for seed in range(2)])
def test_an_interrupted_image_is_not_used_and_the_next_run_completes_it(
    cuttable: Cuttable, cut: str, seed: int
) -> None:
    text, apply = IMAGE_CUTS[cut]
    later = round(random.Random(f"{cut} {seed}").uniform(0, 1.5), 2)
    reference = cuttable.machines[0].image(IMAGE)
    for machine in cuttable.machines:
        ids = f"docker images -q --no-trunc {reference.partition('@')[0].removeprefix('docker.io/')}"
        machine.sh(f"docker rmi -f $({ids} | sort -u)", check=False)
        assert not machine.ok(f"docker image inspect {reference}")
    reachable = [machine for n, machine in enumerate(cuttable.machines) if n != 1 or "rebooted" not in cut]
    serving = start_callers(reachable)
    process = cuttable.stage_until(text, later)
    apply(cuttable, process)
    output = cuttable.end(process)
    assert "operator killed" in cut or "exit 0" in output or ("FAILED" in output and "run again" in output), (
        output
    )
    faults.repair_services(Docker(), cuttable.lab, cuttable.state)
    cuttable.wait_for_jobs()
    runs = f"docker run --rm --network none --entrypoint python3 {reference} -c 'import vllm'"
    for machine in cuttable.machines:
        assert not machine.ok(f"docker image inspect {reference}") or machine.ok(runs)
    cuttable.fleet.run(deploy="stage").expect(0)
    for machine in cuttable.machines:
        machine.sh(runs)
    files = [
        machine.sh(f"docker image inspect {reference} -f '{{{{.Id}}}}'") for machine in cuttable.machines
    ]
    assert files[0] == files[1]
    remaining = "ls -A /var/lib/sparkfleet/images"
    assert "killed" in cut or [machine.sh(remaining) for machine in cuttable.machines] == ["", ""]
    serving.end()


def _expect_completed(cuttable: Cuttable, output: str, *, killed: bool) -> None:
    """Fail unless the interrupted run succeeded or gave a reason, and the next run fetched only the rest."""
    assert killed or "exit 0" in output or ("FAILED" in output and "run again" in output), output
    faults.repair_services(Docker(), cuttable.lab, cuttable.state)
    cuttable.hub("fault", {})
    for machine in cuttable.machines:
        machine.repair()
    cuttable.wait_for_jobs()
    before = [ModelFiles.on(machine) for machine in cuttable.machines]
    for files in before:
        assert files.wrong == (), output
        assert set(files.links.values()) <= set(files.right), output
    jobs = cuttable.machines[1].sh("ls /var/lib/sparkfleet/jobs").split()
    cuttable.hub("reset", {})
    second = cuttable.fleet.run(deploy="stage").expect(0)
    cuttable.expect_whole()
    for machine, files in zip(cuttable.machines, before, strict=True):
        current = ModelFiles.on(machine).right
        assert {name: current[name] for name in files.right} == files.right, second.text  # not fetched twice
    _expect_only_the_rest(cuttable, before, jobs, second.text)


def _expect_only_the_rest(cuttable: Cuttable, before: list[ModelFiles], jobs: list[str], output: str) -> None:
    """Fail if verified data was sent again, or more than the rest of a partial file."""
    sent = cuttable.bytes_sent_by_hub()
    anywhere = set(before[0].right) | set(before[1].right)
    assert {path for path in sent if cuttable.files[path][0] in anywhere} == set(), output
    assert all(count <= cuttable.files[path][1] for path, count in sent.items()), sent
    new = "cd /var/lib/sparkfleet/jobs && for j in *; do echo $j $(grep -h fetched $j/events.jsonl); done"
    lines = (line.partition(" ") for line in cuttable.machines[1].sh(new).splitlines())
    copied = sum(int(count) for job, _, text in lines if job not in jobs for count in FETCHED.findall(text))
    missing = {blob: size for blob, size in cuttable.files.values() if blob not in before[1].right}
    remaining = sum(missing.values()) - sum(
        size for blob, size in before[1].partial.items() if blob in missing
    )
    assert copied <= remaining, output
    assert copied or sent or not remaining, output  # the data was sent by one of them


@pytest.mark.full
def test_a_disk_that_fills_up_is_reported_and_received_data_is_kept(cuttable: Cuttable) -> None:
    cuttable.reset()
    machine = cuttable.machines[1]
    small = (
        f"install -d -o nvidia -g nvidia {MODEL} && mount -t tmpfs -o size=150m,uid=1000,gid=1000 x {MODEL}"
    )
    machine.sh(small)
    failed = cuttable.fleet.run(deploy="stage")
    assert "the disk is full" in failed.text
    assert "running engines were not touched" in failed.text
    assert ModelFiles.on(machine).wrong == ()
    machine.sh(f"mount -o remount,size=2g {MODEL}")
    cuttable.fleet.run(deploy="stage").expect(0)
    cuttable.expect_whole()
    machine.sh(f"umount {MODEL}")
