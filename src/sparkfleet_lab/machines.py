"""One machine: the arguments that create its container, its own files, and the wait until it is up."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab import warm
from sparkfleet_lab.content import Entry, tar_of
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.images import UID, USER
from sparkfleet_lab.names import LABEL, Lab
from sparkfleet_lab.state import Machine, Network, State

REGISTRY_NAMES = (
    "nvcr.io",
    "ghcr.io",
    "registry-1.docker.io",
    "auth.docker.io",
    "index.docker.io",
    "docker.io",
)
"""Names that resolve to the lab's registry inside the lab."""

FABRIC_NAME = "enP2p1s0f1np1"
TWIN_NAME = "enp1s0f1np1"
RING_NAMES = ("enp1s0f0np0", "enP2p1s0f0np0", "enp1s0f1np1", "enP2p1s0f1np1")
BOOT_SECONDS = 60
_READY = "systemctl -q is-active ssh docker && ! systemctl -q is-failed lab-nics lab-trust lab-docker"


def find_privileges(docker: Docker, image: str) -> tuple[str, ...]:
    """Return the options that let systemd and dockerd run in a container: ``--privileged`` or capabilities.

    A host without every capability refuses ``--privileged``; then each capability of this process is added,
    without those that the engine does not know.
    """
    version2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    bound = ("--cgroupns=host", *cgroup_mounts(Path("/proc/self/mountinfo").read_text()))
    if docker.ok("run", "--rm", "--privileged", image, "true"):
        return ("--privileged", "--cgroupns=private") if version2 else ("--privileged", *bound)
    available = capabilities(Path("/proc/self/status").read_text())
    for excluded in ((), _RECENT):
        caps = [option for cap in available if cap not in excluded for option in ("--cap-add", cap)]
        args = (
            "--cap-drop", "ALL", *caps, "--security-opt", "seccomp=unconfined",
            "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
            "--device-cgroup-rule", "a *:* rwm",
        )  # fmt: skip
        result = docker.attempt("run", "--rm", *args, image, "true")
        if result.returncode == 0:
            return (*args, *bound)
    raise SparkfleetError(
        Diagnostic(
            "lab",
            f"machines cannot run here: {result.stderr.decode(errors='replace').strip()}",
            "a Docker Engine that may give containers SYS_ADMIN",
            "run the lab on a separate machine",
            code="lab-requirement-missing",
        )
    )


def cgroup_mounts(mountinfo: str) -> tuple[str, ...]:
    """Return the options that mount the cgroups of a ``/proc/<pid>/mountinfo`` text, writable.

    Of version 1 each hierarchy is shown by itself, in a file system of the machine's own: a systemd inside
    makes directories there and then makes it read-only, and neither may reach the one of this computer.
    """
    points = [line.split()[4] for line in mountinfo.splitlines()]
    each = [point for point in points if point.startswith("/sys/fs/cgroup/")]
    if not each:
        return ("-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw")
    return (
        "--tmpfs",
        "/sys/fs/cgroup",
        *(option for point in each for option in ("-v", f"{point}:{point}:rw")),
    )


_RECENT = ("PERFMON", "BPF", "CHECKPOINT_RESTORE")
_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
"""In the kernel's order: the index is the number of the bit."""


def capabilities(status: str) -> tuple[str, ...]:
    """Return the capabilities of the bounding set in a ``/proc/<pid>/status`` text."""
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    mask = int(line.split()[1], 16)
    return tuple(name for bit, name in enumerate(_CAPABILITIES) if mask >> bit & 1)


def create_args(lab: Lab, state: State, machine: Machine) -> list[str]:
    """Return the arguments of ``docker create`` for a machine."""
    last = machine.last
    image = state.containerd_image if machine.containerd else state.spark_image
    own = "" if machine.containerd else f"{docker_volume(lab, machine.name)}:"
    hosts = [f"--add-host={name}:{state.registry_ip}" for name in REGISTRY_NAMES]
    return [
        "create", "--name", lab.container(machine.name), "--hostname", machine.name,
        "--label", f"{LABEL}={lab.prefix}", "--label", f"{LABEL}.role=spark",
        "--network", state.lan.name, "--ip", state.lan.address(last),
        "-p", f"127.0.0.1:{machine.ssh_port}:22", *hosts,
        "--tmpfs", "/run", "--tmpfs", "/run/lock", "--shm-size", "4g",
        "-v", f"{own}/var/lib/docker",
        "-v", "/var/lib/containerd",
        "--stop-signal", "SIGRTMIN+3", "--stop-timeout", "10",
        *state.privileges, image,
    ]  # fmt: skip


def docker_volume(lab: Lab, name: str) -> str:
    """Return the name of the volume with a machine's own images and containers."""
    return f"{lab.container(name)}-docker"


def machine_files(lab: Lab, state: State, machine: Machine) -> tuple[Entry, ...]:
    """Return the files of a machine: host key, machine-id, authorized keys, authority, interfaces.

    Machines of one computer would take the same machine-id from its firmware.
    """
    identity = hashlib.sha256(machine.host_key.encode()).hexdigest()[:32]
    login = (lab.directory / "id_ed25519.pub").read_bytes()
    authority = (lab.directory / "ca.pem").read_bytes()
    nics = "".join(
        f"{network.address(machine.last)} {name} 9000\n" for network, name in cable_ends(state, machine)
    )
    return (
        Entry("etc/ssh/ssh_host_ed25519_key", machine.host_key_private.encode(), 0o600),
        Entry("etc/ssh/ssh_host_ed25519_key.pub", f"{machine.host_key}\n".encode()),
        Entry("etc/machine-id", f"{identity}\n".encode(), 0o444),
        Entry(f"home/{USER}/.ssh/authorized_keys", login, 0o600, UID, UID),
        Entry("usr/local/share/ca-certificates/lab.crt", authority),
        Entry("etc/lab/nics", nics.encode()),
    )


def cable_ends(state: State, machine: Machine) -> tuple[tuple[Network, str], ...]:
    """Return the networks of a machine's cages, each with the name of its netdev."""
    if not state.ring:
        return (state.fabric, FABRIC_NAME), (state.twin, TWIN_NAME)
    own = 2 * (machine.number - 1)  # index of its p0's network, whose cable leads to the p1 of the next one
    networks = (*state.ring[own : own + 2], *state.ring[own - 2 :][:2])
    return tuple(zip(networks, RING_NAMES, strict=True))


def start_machine(docker: Docker, lab: Lab, state: State, machine: Machine) -> None:
    """Create and start a machine; it is not up yet when this returns."""
    container = lab.container(machine.name)
    volume = docker_volume(lab, machine.name)
    if not machine.containerd and docker.inspect("volume", volume) is None:
        docker.run("volume", "create", "--label", f"{LABEL}={lab.prefix}", volume)
        if state.warm_volume:
            warm.copy(docker, state, state.warm_volume, volume)
    docker.run(*create_args(lab, state, machine))
    for network, _ in cable_ends(state, machine):
        docker.run("network", "connect", "--ip", network.address(machine.last), network.name, container)
    docker.run("cp", "-", f"{container}:/", stdin=tar_of(machine_files(lab, state, machine)))
    docker.run("start", container)


def remove_machine(docker: Docker, lab: Lab, name: str, keep_images: bool = False) -> None:
    """Remove a machine; ``keep_images`` leaves its docker directory to the next one of that name."""
    docker.attempt("rm", "-f", "-v", lab.container(name))
    if not keep_images:
        docker.attempt("volume", "rm", "-f", docker_volume(lab, name))


def wait_until_up(docker: Docker, lab: Lab, machine: Machine) -> None:
    """Return when the boot has finished and dockerd and sshd run; else an error with systemd's state."""
    container = lab.container(machine.name)
    end = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < end:
        result = docker.attempt("exec", container, "systemctl", "is-system-running", "--wait")
        state = result.stdout.decode().strip() or result.stderr.decode().strip()
        if state in ("running", "degraded") and docker.ok("exec", container, "sh", "-c", _READY):
            return
        time.sleep(0.2)
    failed = docker.attempt(
        "exec", container, "systemctl", "--failed", "--no-legend", "--plain"
    ).stdout.decode()
    raise SparkfleetError(
        Diagnostic(
            machine.name,
            f"not up after {BOOT_SECONDS} s: {state}\n{failed}".strip(),
            "systemd reports running",
            f"docker exec {container} journalctl -b -p warning; then sparkfleet lab down",
            code="lab-failed",
        )
    )
