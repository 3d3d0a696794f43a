"""What other tools leave on a Spark: those for an engine (``engines.other``), and general ones."""

from __future__ import annotations

from sparkfleet.engines.other import footprints

_NETPLAN_FILES = {
    "40-cx7.yaml": "NVIDIA's playbook for two Sparks, or sparkrun",
    "99-nvidia-sync-cluster.yaml": "NVIDIA Sync",
    "40-dgx-spark-fabric.yaml": "dgx-spark-fleet",
    "40-dgx-spark-roce.yaml": "a RoCE guide",
}


def netplan_tool(path: str) -> str:
    """Return the tool that writes a netplan file of this name; "" if none is known."""
    known = dict(_NETPLAN_FILES)
    for one in footprints():
        known |= one.netplan_files
    return known.get(path.rpartition("/")[2], "")


def programs() -> tuple[str, ...]:
    """Return texts in a systemd unit or a sudo rule that start an engine."""
    return tuple(program for one in footprints() for program in one.programs)


def in_containers() -> tuple[str, ...]:
    """Return texts in a container's name, image or command that start an engine."""
    known = (text for one in footprints() for text in one.in_containers)
    return (*programs(), *known, "pulsar", "sparkrun")


def directories() -> tuple[str, ...]:
    """Return directories of other tools."""
    return (*(path for one in footprints() for path in one.directories), "/etc/sparkrun")
