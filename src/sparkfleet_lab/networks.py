"""The lab's networks: one for management, registry and hub, and one for each twin of the fabric's cage."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import LABEL, Lab
from sparkfleet_lab.state import Network

_TRIES = 64
FABRIC = (
    "-o", "com.docker.network.driver.mtu=9000",
    "-o", "com.docker.network.bridge.enable_ip_masquerade=false",
)  # fmt: skip
"""A fabric has jumbo frames and no route to other networks."""


def make_networks(docker: Docker, lab: Lab) -> tuple[Network, Network, Network]:
    """Return the three networks, created unless they exist.

    Docker uses the first network by name for the default gateway; it must be the management network.
    """
    candidates = subnets(lab, taken_subnets())
    lan = _make(docker, lab, "lan", candidates, ())
    return (
        lan,
        _make(docker, lab, "link1", candidates, FABRIC),
        _make(docker, lab, "link2", candidates, FABRIC),
    )


def make_ring(docker: Docker, lab: Lab) -> tuple[Network, ...]:
    """Return the networks of three machines' cables, two for each, created unless they exist."""
    candidates = subnets(lab, taken_subnets())
    return tuple(_make(docker, lab, f"ring{number}", candidates, FABRIC) for number in range(1, 7))


def subnets(lab: Lab, taken: list[ipaddress.IPv4Network]) -> Iterator[ipaddress.IPv4Network]:
    """Yield private /24 networks in an order that differs from lab to lab, without those that are in use."""
    start = int(hashlib.sha256(lab.prefix.encode()).hexdigest()[:6], 16)
    for offset in range(_TRIES):
        number = (start + offset) % (64 * 256)
        candidate = ipaddress.IPv4Network(f"10.{128 + number // 256}.{number % 256}.0/24")
        if not any(candidate.overlaps(network) for network in taken):
            yield candidate


def taken_subnets(routes: Path = Path("/proc/net/route")) -> list[ipaddress.IPv4Network]:
    """Return the networks of this machine's routes, without the default route (none if it is not Linux)."""
    if not routes.is_file():
        return []
    found = []
    for line in routes.read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (socket.inet_ntoa(struct.pack("<L", int(fields[i], 16))) for i in (1, 7))
        if mask != "0.0.0.0":  # noqa: S104 - a netmask
            found.append(ipaddress.IPv4Network(f"{address}/{mask}", strict=False))
    return found


def _make(
    docker: Docker, lab: Lab, role: str, candidates: Iterator[ipaddress.IPv4Network], options: tuple[str, ...]
) -> Network:
    name = f"{lab.prefix}-{role}"
    existing = docker.inspect("network", name)
    if existing is not None:
        return Network(name, existing["IPAM"]["Config"][0]["Subnet"])
    output = ""
    for candidate in candidates:
        result = docker.attempt(
            "network",
            "create",
            "--label",
            f"{LABEL}={lab.prefix}",
            "--subnet",
            str(candidate),
            *options,
            name,
        )
        if result.returncode == 0:
            return Network(name, str(candidate))
        output = result.stderr.decode(errors="replace").strip()
        if "overlap" not in output.lower():
            break
    raise SparkfleetError(
        Diagnostic(
            f"docker network {name}",
            output or "no free subnet below 10.128.0.0/10",
            "a free /24",
            "docker network prune",
            code="lab-failed",
        )
    )
