"""Staging that is cut at any moment: nothing half is taken, what serves goes on, the next run completes it.

Moments are drawn from seeds: a few here, many in the full run. A test that fails names its seed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

from sparkfleet.lab import faults
from sparkfleet.lab.docker import Docker
from sparkfleet.lab.names import Lab
from sparkfleet.lab.services import HUB as HUB_ROLE
from sparkfleet.lab.state import State
from tests.lab.caller import Caller
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.served import converged

NAMES = ("spark-01", "spark-02")
QWEN = {"serve": [{"recipe": "qwen3.6-35b-a3b-nvfp4", "name": "qwen"}]}
REPO = "nvidia/Qwen3.6-35B-A3B-NVFP4"
MODEL = f"/home/nvidia/vllm/hub/models--{REPO.replace('/', '--')}"
MIB_MORE = 100
"""Size of each of the three shards that make the model long enough to be cut."""
LIMIT_S = 240
RUN = ("pyinfra", "inventories/lab.py", "deploys/stage.py", "-y")
DOWNLOAD, COPY = "fetch download", "fetch copy"

WHOLE = r"""
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
class Seen:
    """The model's files on a Spark, read past our code."""

    right: dict[str, tuple[int, int]]
    """Blob with the content that its name says -> inode and mtime."""
    wrong: tuple[str, ...]
    """Blobs with another content under a whole one's name."""
    partial: dict[str, int]
    """Files of our copy that are not whole yet, by blob: bytes."""
    links: dict[str, str]

    @staticmethod
    def on(machine: Machine) -> Seen:
        data = json.loads(machine.sh(f"python3 - {MODEL}", stdin=WHOLE))
        blobs = {name: one for name, one in data["blobs"].items() if isinstance(one, list)}
        ours = {name.split(".")[0]: n for name, n in data["blobs"].items() if name.endswith(".copying")}
        return Seen(
            {name: (inode, mtime) for name, (right, _, inode, mtime) in blobs.items() if right},
            tuple(name for name, (right, *_) in blobs.items() if not right),
            ours,
            data["links"],
        )


@dataclass
class Cuttable:
    """Two Sparks that serve one model, and are to get another."""

    fleet: FleetDirectory
    machines: tuple[Machine, ...]
    lab: Lab
    state: State
    files: dict[str, tuple[str, int]]
    """Path in the repository -> blob and bytes, as locked."""

    def begin(self) -> None:
        """Take the new model away from both."""
        for machine in self.machines:
            machine.sh(f"umount {MODEL} 2>/dev/null; rm -rf {MODEL}")

    def stage_until(self, words: str, later_s: float) -> subprocess.Popen[str]:
        """Start staging; return so many seconds after it said this (or when it has ended)."""
        process = self.fleet.start(*RUN)
        assert process.stdout is not None
        for line in process.stdout:
            if words in line:
                break
        time.sleep(later_s)
        return process

    def end(self, process: subprocess.Popen[str]) -> str:
        """Return what a run still said, and its exit code in front."""
        said, _ = process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in said, said
        return f"exit {process.returncode}\n{said}"

    def settled(self) -> None:
        """Return when no job goes on any more, whoever began it."""
        end = time.monotonic() + LIMIT_S
        for machine in self.machines:
            while machine.sh("systemctl list-units --no-legend --plain 'sparkfleet-stage-*'", check=False):
                assert time.monotonic() < end, machine.evidence()
                time.sleep(0.5)

    def expect_whole(self) -> None:
        wanted = {path: blob for path, (blob, _) in self.files.items()}
        for machine in self.machines:
            seen = Seen.on(machine)
            assert seen.wrong == ()
            assert seen.links == wanted
            assert set(seen.right) >= set(wanted.values())


@pytest.fixture(scope="module")
def cuttable(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cuttable]:
    served = converged(lab, lab_state, tmp_path_factory.mktemp("cut"), *NAMES)
    hub = lab.container(HUB_ROLE)
    more = f"head -c {MIB_MORE}M /dev/urandom > model-9000$n-of-90003.safetensors"
    docker = Docker()
    script = f"cd /srv/hub/{REPO}/*/ && for n in 1 2 3; do {more}; done"
    docker.run("exec", hub, "sh", "-c", script)
    try:
        for name in NAMES:
            served.fleet.host(name, QWEN)
        served.fleet.lock()
        lock = yaml.safe_load((served.fleet.root / "inventories" / "lab" / "fleet.lock").read_text())
        (files,) = (model["files"] for key, model in lock["models"].items() if REPO in key)
        wanted = {path: (one.get("sha256") or one["blob"], one["size"]) for path, one in files.items()}
        made = Cuttable(served.fleet, served.machines, lab, lab_state, wanted)
        made.fleet.run(deploy="stage").expect(0)  # the image is there: what is cut are the weights
        yield made
    finally:
        docker.run("exec", hub, "sh", "-c", f"rm -f /srv/hub/{REPO}/*/model-9000*")


def _fault(name: str, at: int | None = None) -> Callable[[Cuttable, subprocess.Popen[str]], None]:
    def apply(made: Cuttable, _: subprocess.Popen[str]) -> None:
        if at is None:
            faults.break_host(
                Docker(), made.lab, made.state, "registry" if "registry" in name else "hub", name
            )
        else:
            made.machines[at].break_(name)

    return apply


def _kill_operator(_: Cuttable, process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _kill(at: int, what: str) -> Callable[[Cuttable, subprocess.Popen[str]], None]:
    def apply(made: Cuttable, _: subprocess.Popen[str]) -> None:
        made.machines[at].sh(f"pkill -KILL -f '{what}'", check=False)

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
    "hub down": (DOWNLOAD, _fault("hub-down")),
    "hub breaks off": (DOWNLOAD, _fault("hub-breaks")),
    "hub refuses in the middle": (DOWNLOAD, _fault("hub-refuses")),
}
SAMPLE = ("operator killed in the copy",)
EVERY = [(name, seed) for name in CUTS for seed in range(3) if not (name in SAMPLE and seed == 0)]


@pytest.mark.parametrize(
    ("cut", "seed"),
    [*((name, 0) for name in SAMPLE), *(pytest.param(*one, marks=pytest.mark.full) for one in EVERY)],
)
def test_a_cut_leaves_nothing_half_and_the_next_run_fetches_only_the_rest(
    cuttable: Cuttable, cut: str, seed: int
) -> None:
    words, apply = CUTS[cut]
    later = round(random.Random(f"{cut} {seed}").uniform(0, 1.5), 2)
    rebooted = {"seed rebooted": 0, "receiver rebooted": 1}.get(cut)
    cuttable.begin()
    callers = [Caller(machine) for n, machine in enumerate(cuttable.machines) if n != rebooted]
    for caller in callers:
        caller.start()
    process = cuttable.stage_until(words, later)
    apply(cuttable, process)
    said = cuttable.end(process)
    faults.mend_services(Docker(), cuttable.lab, cuttable.state)
    for machine in cuttable.machines:
        machine.mend()
    cuttable.settled()
    assert "exit 0" in said or "FAILED" in said or "killed" in cut, said

    before = [Seen.on(machine) for machine in cuttable.machines]
    for seen in before:
        assert seen.wrong == (), said
        assert set(seen.links.values()) <= set(seen.right), said
    again = cuttable.fleet.run(deploy="stage").expect(0)
    cuttable.expect_whole()
    for machine, seen in zip(cuttable.machines, before, strict=True):
        now = Seen.on(machine).right
        assert {name: now[name] for name in seen.right} == seen.right, again.text  # not fetched twice
    _expect_resumed(cuttable, before[1], said)
    for caller in callers:
        caller.stop()
        assert caller.lost_before(time.time()) == 0
        assert {call.model for call in caller.calls} == {"nano"}


def _expect_resumed(made: Cuttable, before: Seen, said: str) -> None:
    """What of a copy had come before the cut is not sent again."""
    events = made.machines[1].sh("cat $(ls -td /var/lib/sparkfleet/jobs/*/ | head -1)/events.jsonl")
    fetched = [event["fetched"] for event in map(json.loads, events.splitlines()) if "fetched" in event]
    if fetched and before.partial:
        missing = {blob: size for blob, size in made.files.values() if blob not in before.right}
        assert fetched[-1] <= sum(missing.values()) - sum(before.partial.values()), said


@pytest.mark.full
def test_a_disk_that_fills_up_in_the_middle_is_said_and_what_is_there_is_kept(cuttable: Cuttable) -> None:
    cuttable.begin()
    machine = cuttable.machines[1]
    small = (
        f"install -d -o nvidia -g nvidia {MODEL} && mount -t tmpfs -o size=150m,uid=1000,gid=1000 x {MODEL}"
    )
    machine.sh(small)
    failed = cuttable.fleet.run(deploy="stage")
    assert "the disk is full" in failed.text
    assert "what serves was not touched" in failed.text
    assert Seen.on(machine).wrong == ()
    machine.sh(f"mount -o remount,size=2g {MODEL}")
    cuttable.fleet.run(deploy="stage").expect(0)
    cuttable.expect_whole()
    machine.sh(f"umount {MODEL}")
