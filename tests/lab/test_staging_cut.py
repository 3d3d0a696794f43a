"""Staging that is cut at any moment: nothing half is taken, what serves goes on, the next run completes it.

Moments are drawn from seeds: one here, many in the full run. A test that fails names its seed.
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
from tests.lab.served import converged

NAMES = ("spark-01", "spark-02")
QWEN = {"serve": [{"recipe": "qwen3.6-35b-a3b-nvfp4", "name": "qwen"}]}
REPO = "nvidia/Qwen3.6-35B-A3B-NVFP4"
MODEL = f"/home/nvidia/vllm/hub/models--{REPO.replace('/', '--')}"
MIB_MORE = 100
"""Size of each of the three shards that make the model long enough to be cut."""
LIMIT_S = 240
SLOW = {"slow_bytes_per_s": 25_000_000, "path": "model-9000"}
"""The hub as a real line: a shard takes seconds, so that a cut falls into the middle of it."""
RUN = ("pyinfra", "inventories/lab.py", "deploys/stage.py", "-y")
DOWNLOAD, COPY = "fetch download", "fetch copy"

FETCHED = re.compile(r'"fetched": ?(\d+)')

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
        """Take the new model away from both; hub and registry are as they shall be, however a test ended."""
        faults.mend_services(Docker(), self.lab, self.state)
        for machine in self.machines:
            machine.sh(f"umount {MODEL} 2>/dev/null; rm -rf {MODEL}")

    def hub(self, what: str, body: Any = None) -> Any:
        """Ask the lab's hub for its figures, or tell it what to do."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.state.hub_url}/__lab__/{what}", data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def asked_of_the_hub(self) -> dict[str, int]:
        """Return the bytes that it sent since it was told to forget, by path in the repository."""
        files = self.hub("counters")["files"]
        return {key.partition("/")[2].partition("/")[2]: one["bytes"] for key, one in files.items()}

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
"""What befalls the downloads from their begin on: one of three shards, or all of them."""
SAMPLE = ("operator killed in the copy",)
EVERY = [(name, seed) for name in CUTS for seed in range(3) if not (name in SAMPLE and seed == 0)]


@dataclass
class Serving:
    """The callers of the model that is served all the while."""

    callers: list[Caller]

    def end(self) -> None:
        for caller in self.callers:
            caller.stop()
            assert caller.lost_before(time.time()) == 0
            assert {call.model for call in caller.calls} == {"nano"}


def _asking(machines: list[Machine]) -> Serving:
    serving = Serving([Caller(machine) for machine in machines])
    for caller in serving.callers:
        caller.start()
    return serving


@pytest.mark.parametrize(
    ("cut", "seed"),
    [*((name, 0) for name in SAMPLE), *(pytest.param(*one, marks=pytest.mark.full) for one in EVERY)],
)
def test_a_cut_leaves_nothing_half_and_the_next_run_fetches_only_the_rest(
    cuttable: Cuttable, cut: str, seed: int
) -> None:
    words, apply = CUTS[cut]
    later = round(random.Random(f"{cut} {seed}").uniform(0, 1.5), 2)
    rebooted = 0 if cut.startswith("seed rebooted") else 1 if cut == "receiver rebooted" else None
    cuttable.begin()
    if words == DOWNLOAD:
        cuttable.hub("fault", [SLOW])
    serving = _asking([machine for n, machine in enumerate(cuttable.machines) if n != rebooted])
    process = cuttable.stage_until(words, later)
    apply(cuttable, process)
    _expect_completed(cuttable, cuttable.end(process), killed="operator killed" in cut)
    serving.end()


@pytest.mark.full
@pytest.mark.parametrize("what", HUB)
def test_a_hub_that_is_bad_costs_what_it_did_not_send_and_nothing_else(cuttable: Cuttable, what: str) -> None:
    cuttable.begin()
    cuttable.hub("fault", HUB[what])
    serving = _asking(list(cuttable.machines))
    said = cuttable.end(cuttable.stage_until(DOWNLOAD, 0))
    good = [blob for path, (blob, _) in cuttable.files.items() if not path.startswith("model-90002")]
    if what == "sends wrong bytes":
        assert "do not match the lock file" in said
        assert set(Seen.on(cuttable.machines[0]).right) >= set(good), said  # the others were kept
    if what == "refuses one file":
        assert "403" in said
    _expect_completed(cuttable, said, killed=False)
    serving.end()


@pytest.mark.full
def test_a_sender_with_wrong_bytes_is_not_believed_and_the_hub_is_asked_instead(cuttable: Cuttable) -> None:
    cuttable.fleet.run(deploy="stage").expect(0)
    seed, receiver = cuttable.machines
    receiver.sh(f"rm -rf {MODEL}")
    (shard,) = (blob for path, (blob, _) in cuttable.files.items() if path.startswith("model-90002"))
    seed.sh(f"printf X | dd of={MODEL}/blobs/{shard} bs=1 seek=5000000 conv=notrunc")
    serving = _asking(list(cuttable.machines))
    said = cuttable.end(cuttable.stage_until(COPY, 0))
    assert f"model-90002-of-90003.safetensors of {seed.name} does not match the lock file" in said
    here = Seen.on(receiver)
    assert here.wrong == ()
    assert set(here.links.values()) <= set(here.right)
    assert cuttable.fleet.run(deploy="verify").code == 1  # now the rot is known, and mended
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
def test_an_image_that_was_cut_is_not_taken_for_whole_and_the_next_run_brings_it(
    cuttable: Cuttable, cut: str, seed: int
) -> None:
    words, apply = IMAGE_CUTS[cut]
    later = round(random.Random(f"{cut} {seed}").uniform(0, 1.5), 2)
    reference = cuttable.machines[0].image(IMAGE)
    for machine in cuttable.machines:
        ids = f"docker images -q --no-trunc {reference.partition('@')[0].removeprefix('docker.io/')}"
        machine.sh(f"docker rmi -f $({ids} | sort -u)", check=False)
        assert not machine.ok(f"docker image inspect {reference}")
    asked = [machine for n, machine in enumerate(cuttable.machines) if n != 1 or "rebooted" not in cut]
    serving = _asking(asked)
    process = cuttable.stage_until(words, later)
    apply(cuttable, process)
    said = cuttable.end(process)
    assert "operator killed" in cut or "exit 0" in said or ("FAILED" in said and "run again" in said), said
    faults.mend_services(Docker(), cuttable.lab, cuttable.state)
    cuttable.settled()
    runs = f"docker run --rm --network none --entrypoint python3 {reference} -c 'import vllm'"
    for machine in cuttable.machines:
        assert not machine.ok(f"docker image inspect {reference}") or machine.ok(runs)
    cuttable.fleet.run(deploy="stage").expect(0)
    for machine in cuttable.machines:
        machine.sh(runs)
    seen = [machine.sh(f"docker image inspect {reference} -f '{{{{.Id}}}}'") for machine in cuttable.machines]
    assert seen[0] == seen[1]
    left = "ls -A /var/lib/sparkfleet/images"
    assert "killed" in cut or [machine.sh(left) for machine in cuttable.machines] == ["", ""]
    serving.end()


def _expect_completed(made: Cuttable, said: str, *, killed: bool) -> None:
    """After a cut: it ended well, or with a reason; nothing is half; the next run fetches the rest alone."""
    assert killed or "exit 0" in said or ("FAILED" in said and "run again" in said), said
    faults.mend_services(Docker(), made.lab, made.state)
    made.hub("fault", {})
    for machine in made.machines:
        machine.mend()
    made.settled()
    before = [Seen.on(machine) for machine in made.machines]
    for seen in before:
        assert seen.wrong == (), said
        assert set(seen.links.values()) <= set(seen.right), said
    jobs = made.machines[1].sh("ls /var/lib/sparkfleet/jobs").split()
    made.hub("reset", {})
    again = made.fleet.run(deploy="stage").expect(0)
    made.expect_whole()
    for machine, seen in zip(made.machines, before, strict=True):
        now = Seen.on(machine).right
        assert {name: now[name] for name in seen.right} == seen.right, again.text  # not fetched twice
    _expect_only_the_rest(made, before, jobs, again.text)


def _expect_only_the_rest(made: Cuttable, before: list[Seen], jobs: list[str], said: str) -> None:
    """Counted at the hub and by the copy: what was verified is not sent again, of a partial file the rest."""
    sent = made.asked_of_the_hub()
    anywhere = set(before[0].right) | set(before[1].right)
    assert {path for path in sent if made.files[path][0] in anywhere} == set(), said
    assert all(count <= made.files[path][1] for path, count in sent.items()), sent
    new = "cd /var/lib/sparkfleet/jobs && for j in *; do echo $j $(grep -h fetched $j/events.jsonl); done"
    lines = (line.partition(" ") for line in made.machines[1].sh(new).splitlines())
    copied = sum(int(count) for job, _, text in lines if job not in jobs for count in FETCHED.findall(text))
    missing = {blob: size for blob, size in made.files.values() if blob not in before[1].right}
    left = sum(missing.values()) - sum(size for blob, size in before[1].partial.items() if blob in missing)
    assert copied <= left, said
    assert copied or sent or not left, said  # it came from somewhere


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
    assert "running engines were not touched" in failed.text
    assert Seen.on(machine).wrong == ()
    machine.sh(f"mount -o remount,size=2g {MODEL}")
    cuttable.fleet.run(deploy="stage").expect(0)
    cuttable.expect_whole()
    machine.sh(f"umount {MODEL}")
