"""The state of a running lab: ``state.json`` in its directory, and the SSH files that are derived from it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab.images import USER
from sparkfleet_lab.names import Lab


@dataclass(frozen=True)
class Network:
    """A docker network of the lab and its /24."""

    name: str
    subnet: str

    def address(self, number: int) -> str:
        """Return the address with that last part."""
        return f"{self.subnet.rsplit('.', 1)[0]}.{number}"


@dataclass(frozen=True)
class Machine:
    """One Spark of the lab."""

    name: str
    """``spark-01``; the container is named after the lab and this."""
    number: int
    ssh_port: int
    """On 127.0.0.1 of the operator; stays the same over a reboot."""
    host_key: str
    """Public host key, ``ssh-ed25519 AAAA...``."""
    host_key_private: str
    containerd: bool = False
    """Whether its Docker has the images in containerd's store instead of its own (overlay2)."""

    @property
    def last(self) -> int:
        """Return the last part of its address in every network of the lab."""
        return 10 + self.number


@dataclass(frozen=True)
class State:
    """A lab that is up."""

    lan: Network
    fabric: Network
    twin: Network
    spark_image: str
    privileges: tuple[str, ...]
    """Options of ``docker create`` that let systemd and dockerd run inside."""
    registry_port: int = 0
    """On 127.0.0.1 of the operator, with TLS."""
    registry_image: str = ""
    hub_image: str = ""
    images: tuple[tuple[str, str], ...] = ()
    """Image reference -> digest of its index in the lab's registry."""
    machines: tuple[Machine, ...] = ()
    ring: tuple[Network, ...] = ()
    """Two networks for each cable between three machines; () = the machines are at one switch."""
    containerd_image: str = ""
    """Image of machines with containerd's store; "" = none was needed so far."""
    warm_volume: str = ""
    """Volume that a machine's images are copied from; "" = machines start without images."""

    @property
    def registry_ip(self) -> str:
        """Return the registry's address inside the lab."""
        return self.lan.address(2)

    @property
    def registry_url(self) -> str:
        """Return the registry's URL for the operator."""
        return f"https://127.0.0.1:{self.registry_port}"

    @property
    def hub_url(self) -> str:
        """Return the hub's URL for both the operator and the machines."""
        return f"http://{self.lan.address(3)}"

    def machine(self, name: str) -> Machine:
        """Return the machine of that name; an error that lists the names when there is none."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        names = ", ".join(machine.name for machine in self.machines)
        raise SparkfleetError(
            Diagnostic(
                "lab",
                f"no machine named {name!r}",
                f"one of {names}",
                "sparkfleet lab status",
                code="lab-argument-invalid",
            )
        )


def read_state(lab: Lab) -> State | None:
    """Return the lab's state, or None when it is not up."""
    path = lab.directory / "state.json"
    if not path.is_file():
        return None
    data = json.loads(path.read_text())
    for key in ("lan", "fabric", "twin"):
        data[key] = Network(**data[key])
    data["machines"] = tuple(Machine(**machine) for machine in data["machines"])
    data["images"] = tuple((ref, digest) for ref, digest in data["images"])
    data["privileges"] = tuple(data["privileges"])
    data["ring"] = tuple(Network(**network) for network in data.get("ring", ()))
    return State(**data)


def require_state(lab: Lab) -> State:
    """Return the lab's state; an error with the next command when it is not up."""
    state = read_state(lab)
    if state is None:
        raise SparkfleetError(
            Diagnostic(
                str(lab.directory),
                "no lab is up in this directory",
                hint="sparkfleet lab up",
                code="lab-not-up",
            )
        )
    return state


def write_state(lab: Lab, state: State) -> None:
    """Write state.json, ssh_config and known_hosts."""
    lab.directory.mkdir(parents=True, exist_ok=True)
    (lab.directory / "known_hosts").write_text(known_hosts(state))
    lab.ssh_config.write_text(ssh_config(lab, state))
    path = lab.directory / "state.json"
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(dataclasses.asdict(state), indent=2) + "\n")
    scratch.chmod(0o600)
    scratch.replace(path)


def ssh_config(lab: Lab, state: State) -> str:
    """Return an ssh_config with each machine's name and host key, which must match."""
    text = ""
    for machine in state.machines:
        text += (
            f"Host {machine.name}\n  HostName 127.0.0.1\n  Port {machine.ssh_port}\n  User {USER}\n"
            f"  IdentityFile {lab.directory / 'id_ed25519'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {lab.directory / 'known_hosts'}\n  StrictHostKeyChecking yes\n\n"
        )
    return text


def known_hosts(state: State) -> str:
    """Return the machines' host keys as OpenSSH reads them."""
    return "".join(f"[127.0.0.1]:{machine.ssh_port} {machine.host_key}\n" for machine in state.machines)
