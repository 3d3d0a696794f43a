"""What several Sparks are compared for: properties of members of a cluster, identities in a fleet. Pure.

A value that could not be read is unknown: it neither differs from another one nor equals it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.desired_state import Member
from sparkfleet.plan.groups import names
from sparkfleet.plan.model import HostPlan
from sparkfleet.probe.machine import (
    CMDLINE,
    DRIVER,
    KERNEL,
    RDMA,
    ObservedMachine,
    shown,
)


@dataclass(frozen=True)
class Unknown:
    """A value that could not be read."""

    reason: str


Value = tuple[str, ...] | Unknown
"""Parts of a value; () where the host has none."""
Values = Mapping[str, Value]
"""By host."""


@dataclass(frozen=True)
class Row:
    """One property of several hosts."""

    name: str
    values: tuple[tuple[str, tuple[str, ...]], ...]
    """Each distinct value with its hosts. Where they differ, without the parts that all hosts have."""
    unknown: tuple[tuple[str, str], ...] = ()
    """Host, and why its value could not be read."""

    @property
    def differs(self) -> bool:
        """Return whether two hosts have different values."""
        return len(self.values) > 1

    @property
    def is_equal(self) -> bool:
        """Return whether all hosts are known to have the same value."""
        return not self.differs and not self.unknown

    @property
    def text(self) -> str:
        """Return the values with their hosts."""
        known = [f"{value} on {names(hosts)}" for value, hosts in self.values]
        return ", ".join([*known, *(f"unknown on {host}" for host, _ in self.unknown)])


def row(name: str, values: Values) -> Row:
    """Return the comparison of a property."""
    found: dict[tuple[str, ...], list[str]] = {}
    for host, value in values.items():
        if not isinstance(value, Unknown):
            found.setdefault(value, []).append(host)
    common = set.intersection(*map(set, found)) if len(found) > 1 else set()
    if len({frozenset(value) for value in found}) < len(found):  # the same parts in another order
        common = set()
    texts = (
        (" ".join(shown(part) for part in value if part not in common), hosts)
        for value, hosts in found.items()
    )
    unknown = tuple((host, value.reason) for host, value in values.items() if isinstance(value, Unknown))
    return Row(name, tuple((text or NONE, tuple(hosts)) for text, hosts in texts), unknown)


@dataclass(frozen=True)
class Property:
    """Something that every plan knows of a host."""

    name: str
    path: str
    """Where it is read: if that failed, the value is unknown."""
    value: Callable[[ObservedMachine], tuple[str, ...]]


KERNEL_ROW, BOOT_ROW, DRIVER_ROW, FLAVOUR_ROW, FIRMWARE_ROW, CLOCKS_ROW = (
    "kernel", "boot parameters", "GPU driver", "GPU driver flavour", "ConnectX-7 firmware",
    "GPU clocks at boot",
)  # fmt: skip


def _part(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


PROPERTIES = (
    Property(KERNEL_ROW, KERNEL, lambda observed: _part(observed.kernel)),
    Property(BOOT_ROW, CMDLINE, lambda observed: observed.parameters),
    Property(DRIVER_ROW, DRIVER, lambda observed: _part(observed.driver)),
    Property(FLAVOUR_ROW, DRIVER, lambda observed: _part(observed.flavour)),
    Property(FIRMWARE_ROW, RDMA, lambda observed: observed.firmware),
)


def machine_values(observed: Mapping[str, ObservedMachine]) -> dict[str, Values]:
    """Return the values of every property that every plan knows."""
    return {
        one.name: {
            host: Unknown(reason) if (reason := machine.reason(one.path)) else one.value(machine)
            for host, machine in observed.items()
        }
        for one in PROPERTIES
    }


NONE = "none"
UPDATE = "on the members that are behind: sudo apt-get update && sudo apt-get dist-upgrade && sudo reboot"


def _differs(effect: str, remedy: str) -> Diagnostic:
    expected = "the same on every member"
    return Diagnostic("", effect, expected, remedy, severity=Severity.WARNING, code="cluster-members-differ")


DIFFERENCES: Mapping[str, Diagnostic] = {
    KERNEL_ROW: _differs("memory and RDMA behave differently in different kernels", UPDATE),
    BOOT_ROW: _differs(
        "a parameter that one member lacks, such as kho=off, can break RDMA there alone",
        "make GRUB_CMDLINE_LINUX* in /etc/default/grub and /etc/default/grub.d/ equal, then: sudo "
        "update-grub && sudo reboot",
    ),
    DRIVER_ROW: _differs("NCCL and the engine's kernels are tested with one driver on all members", UPDATE),
    FLAVOUR_ROW: _differs(
        "the GPU of a Spark needs the open kernel modules",
        "where it is proprietary: sudo apt-get install nvidia-driver-580-open (580: the first number of the "
        "driver's version) && sudo reboot",
    ),
    FIRMWARE_ROW: _differs(
        "links between different firmware may be slow or unstable",
        "on the members that are behind: sudo fwupdmgr refresh && sudo fwupdmgr update; then switch them off "
        "and on",
    ),
    CLOCKS_ROW: _differs(
        "all ranks run at the speed of the slowest",
        "declare the same `prepare: {gpu: {clocks_mhz: [MIN, MAX]}}` for all members",
    ),
}
"""By row: what it means that members differ. A row that is not here is shown, and may differ: Docker, for
example."""
MAY_BE_MISSING = frozenset({FIRMWARE_ROW})
"""Rows that a member may lack: without a cable there is no ConnectX-7, and the fabric's plan reports it."""


def member_differences(cluster: str, values: Mapping[str, Values]) -> Iterator[Diagnostic]:
    """Yield what members of a cluster should have in common, and do not. ``values``: theirs, by row."""
    for name, difference in DIFFERENCES.items():
        found = row(name, values.get(name, {}))
        is_missing = name in MAY_BE_MISSING and any(value == NONE for value, _ in found.values)
        if found.differs and not is_missing:
            message = f"{name}: {found.text}: {difference.message}"
            yield replace(difference, location=f"cluster {cluster}", message=message)


@dataclass(frozen=True)
class SharedIdentity:
    """Something that identifies one host, and that several have."""

    name: str
    hosts: tuple[str, ...]
    diagnostic: Diagnostic


def shared_identities(observed: Mapping[str, ObservedMachine]) -> tuple[SharedIdentity, ...]:
    """Return machine-ids and SSH host keys that several hosts have.

    Some Sparks left the factory with the identity of others (CVE-2026-24218).
    """
    ids = _shared({host: (one.machine_id,) for host, one in observed.items()})
    keys = _shared({host: tuple(key for _, key in one.host_keys) for host, one in observed.items()})
    return (
        *(SharedIdentity("machine-id", hosts, _machine_id(hosts, observed)) for hosts in ids),
        *(
            SharedIdentity("SSH host key", hosts, _host_key(hosts))
            for hosts in keys
            if not _is_one_spark(hosts, observed)
        ),
    )


def _shared(values: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the hosts of each value that several hosts have, each group once."""
    found: dict[str, list[str]] = {}
    for host, own in values.items():
        for value in own:
            if value:
                found.setdefault(value, []).append(host)
    return list(dict.fromkeys(tuple(hosts) for hosts in found.values() if len(hosts) > 1))


def _is_one_spark(hosts: Sequence[str], observed: Mapping[str, ObservedMachine]) -> bool:
    """Return whether these are names of one Spark: its boot and its own name are the same, too."""
    ids = {(observed[host].machine_id, observed[host].boot_id, observed[host].name) for host in hosts}
    return len(ids) == 1 and all(next(iter(ids)))


def _machine_id(hosts: Sequence[str], machines: Mapping[str, ObservedMachine]) -> Diagnostic:
    if _is_one_spark(hosts, machines):
        return Diagnostic(
            names(hosts),
            "these are one Spark: machine-id, boot and host name are the same",
            "one host file per Spark",
            "correct `ssh:` in the host files, or remove all but one",
            code="host-address-duplicate",
        )
    return Diagnostic(
        names(hosts),
        "the same /etc/machine-id (CVE-2026-24218)",
        "an id of its own for each host: networks, logs and licences tell hosts apart by it",
        "on each of them, when nothing serves: sudo rm -f /etc/machine-id /var/lib/dbus/machine-id && "
        "sudo systemd-machine-id-setup && sudo reboot",
        code="machine-id-shared",
    )


def _host_key(hosts: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        names(hosts),
        "the same SSH host key (CVE-2026-24218)",
        "keys of its own for each host: whoever has one of them can pose as the others",
        "on each of them: sudo rm /etc/ssh/ssh_host_*_key* && sudo ssh-keygen -A && sudo systemctl restart "
        "ssh; then here, for each: ssh-keygen -R ADDRESS, and log in once",
        code="ssh-host-key-shared",
    )


def _comparable(
    observed: Mapping[str, ObservedMachine],
) -> tuple[dict[str, ObservedMachine], list[Diagnostic]]:
    """Return the hosts that can be compared; a warning for each of the others, which must not stop these."""
    found, odd = {}, []
    for host, machine in observed.items():
        try:
            with_another = {host: machine, "": ObservedMachine()}
            list(member_differences("", machine_values(with_another)))
            shared_identities(with_another)
            found[host] = machine
        except Exception as error:  # noqa: BLE001  (of this host alone)
            message = f"not compared with other hosts: {type(error).__name__}: {error}"
            hint = "run again with SPARKFLEET_DEBUG=1 and report it"
            odd.append(
                Diagnostic(host, message, hint=hint, severity=Severity.WARNING, code="host-state-unreadable")
            )
    return found, odd


def warnings(plans: Sequence[HostPlan], members: Mapping[str, Member]) -> tuple[Diagnostic, ...]:
    """Return what differs in a cluster and should not, and what identifies several hosts."""
    observed, found = _comparable({one.host: one.machine for one in plans if one.machine})
    clusters = {member.cluster: member.hosts for member in members.values()}
    found += [
        one
        for cluster, hosts in clusters.items()
        for one in member_differences(
            cluster, machine_values({h: observed[h] for h in hosts if h in observed})
        )
    ]
    found += [replace(one.diagnostic, severity=Severity.WARNING) for one in shared_identities(observed)]
    return tuple(found)
