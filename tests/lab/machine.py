"""A lab machine for tests, read through ``docker exec``, never through the code under test."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass
from typing import Any

from sparkfleet_lab import faults, reset
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State

_DOCKER = Docker()
FileStates = dict[str, tuple[object, ...]]

_FILES = r"""
import hashlib, json, os, stat, sys
EXCLUDED = {"/proc", "/sys", "/dev", "/run", "/tmp", "/var/log", "/var/lib/docker", "/var/lib/containerd",
            "/var/lib/systemd/timers", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}
found = {}
def record(path):
    info = os.lstat(path)
    digest = ""
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(info.st_mode):
        digest = os.readlink(path)
    found[path] = (oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, digest)
for folder, folders, names in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in EXCLUDED]
    for name in [*folders, *names]:
        path = os.path.join(folder, name)
        if path not in EXCLUDED:
            record(path)
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command over SSH."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Machine:
    """One Spark of the lab."""

    name: str
    lab: Lab
    state: State
    docker: Docker = _DOCKER

    @property
    def container(self) -> str:
        return self.lab.container(self.name)

    @property
    def address(self) -> str:
        """In the management network: reachable from the test and from the other machines."""
        return self.state.lan.address(self.state.machine(self.name).last)

    @property
    def fabric_address(self) -> str:
        return self.state.fabric.address(self.state.machine(self.name).last)

    def sh(self, command: str, *, user: str = "root", check: bool = True, stdin: str | None = None) -> str:
        """Return stdout of a shell command on the machine, run without SSH; fail unless it exits with 0."""
        interactive = ["-i"] if stdin is not None else []
        result = subprocess.run(
            ["docker", "exec", *interactive, "-u", user, self.container, "sh", "-c", command],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and result.returncode != 0:
            msg = f"{self.name}: {command!r} exited with {result.returncode}\n{result.stdout}{result.stderr}"
            raise AssertionError(msg)
        return result.stdout.strip()

    def ok(self, command: str) -> bool:
        """Return whether a shell command exits with 0."""
        return subprocess.run(
            ["docker", "exec", self.container, "sh", "-c", command], capture_output=True, check=False
        ).returncode == 0  # fmt: skip

    def ssh(self, command: str, timeout: float = 30) -> CommandResult:
        """Run a command over the system's ssh as the login user, as an operator would."""
        args = [
            "ssh",
            "-F",
            str(self.lab.ssh_config),
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=5",
            self.name,
        ]
        seen = subprocess.run(
            [*args, command], capture_output=True, text=True, check=False, timeout=timeout,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return CommandResult(seen.returncode, seen.stdout, seen.stderr)

    def files_snapshot(self) -> FileStates:
        """Return mode, owner, mtime and hash of every file, without logs, /run, /tmp and dockerd's files."""
        return {path: tuple(seen) for path, seen in json.loads(self.sh("python3 -", stdin=_FILES)).items()}

    def inspect_all(self) -> dict[str, Any]:
        """Return every container, image, volume and network of dockerd in full."""
        found: dict[str, Any] = {}
        listings = {
            "container": "ps -aq --no-trunc",
            "image": "images -aq --no-trunc",
            "volume": "volume ls -q",
            "network": "network ls -q --no-trunc",
        }
        for kind, args in listings.items():
            names = sorted(set(self.sh(f"docker {args}").split()))
            text = self.sh(f"docker {kind} inspect {shlex.join(names)}") if names else "[]"
            found[kind] = json.loads(text)
        for container in found["container"]:
            container["Mounts"].sort(
                key=lambda mount: mount["Destination"]
            )  # dockerd lists them in any order
        return found

    def units(self) -> dict[str, tuple[str, str]]:
        """Return each service, timer and mount unit: its state, and whether it starts at boot."""
        listed = self.sh("systemctl list-units --all --plain --no-legend --type=service,timer,mount,path")
        active = {line.split()[0]: line.split()[3] for line in listed.splitlines() if len(line.split()) > 3}
        files = self.sh("systemctl list-unit-files --plain --no-legend")
        enabled = {line.split()[0]: line.split()[1] for line in files.splitlines()}
        names = {name for name in active.keys() | enabled.keys() if not name.startswith("session-")}
        return {name: (active.get(name, ""), enabled.get(name, "")) for name in sorted(names)}

    def snapshot(self) -> dict[str, Any]:
        """Return a snapshot of everything that a dry run must not change."""
        return {"files": self.files_snapshot(), "docker": self.inspect_all(), "units": self.units()}

    def reset(self, *, cold: bool = False) -> None:
        """Reset to a fresh machine; ``cold``: without the engine images."""
        faults.clear(self.lab, self.name)
        reset.reset_machine(self.docker, self.lab, self.state, self.name, cold=cold)

    def reboot(self) -> None:
        """Restart, and return when the machine is up."""
        reset.reboot_machine(self.docker, self.lab, self.state, self.name)

    def break_(self, fault: str) -> None:
        """Apply a fault of ``sparkfleet lab break``; the next reset removes it."""
        faults.break_host(self.docker, self.lab, self.state, self.name, fault)

    def repair(self) -> None:
        """Repair every fault."""
        faults.repair_host(self.docker, self.lab, self.state, self.name)

    def image(self, ref: str) -> str:
        """Return ``repository@digest`` of an image of the lab, as ``nvcr.io/nvidia/vllm:26.04-py3``."""
        return f"{ref.rpartition(':')[0]}@{dict(self.state.images)[ref]}"

    def evidence(self) -> str:
        """Return the machine's last journal lines, for a failed test's report."""
        command = "journalctl -b --no-pager -n 60 -o short-monotonic; docker ps -a"
        return self.sh(f"timeout 20 sh -c '{command}' 2>&1", check=False)


def difference(before: FileStates, after: FileStates) -> list[str]:
    """Return the paths that were added, removed or changed."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
