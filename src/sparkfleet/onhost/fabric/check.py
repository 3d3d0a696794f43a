"""Checks of the links of this Spark: are they as declared, and do the peers answer on each of them?"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.fabric import (
    MTU_TOO_LARGE,
    PEER_SILENT,
    FabricEvidence,
    FabricRequest,
    Peer,
    PeerReply,
    RdmaDevice,
)
from sparkfleet.onhost.fabric import links
from sparkfleet.onhost.machine.system import System

HEADERS = 28
"""Bytes of the IPv4 and ICMP headers."""
AT_ONCE = 16
SMALL = 56
"""Bytes of an ordinary ping."""


def mismatches(system: System, request: FabricRequest) -> list[str]:
    """Return the differences between the links and their declaration, as text."""
    states = links.snapshot(system, [link for link, _ in request.addresses])
    texts = []
    for link, address in request.addresses:
        has = states.get(link)
        if has is None:
            texts.append(f"{link} does not exist")
        elif address not in has.addresses:
            texts.append(f"{link} has no {address}")
        elif has.mtu != request.mtu:
            texts.append(f"{link} has MTU {has.mtu}, not {request.mtu}")
    for link, device in request.rdma:
        state = rdma_state(system, device)
        if state not in {"ACTIVE", ""}:
            texts.append(f"{device}, the RDMA device of {link}, is {state}")
    return texts


def rdma_state(system: System, device: str) -> str:
    """Return the state of an RDMA device (``ACTIVE``, ``DOWN``); "": unknown."""
    try:
        return (system.paths.rdma / device / "ports/1/state").read_text().strip().rpartition(" ")[2]
    except OSError:
        return ""


def links_without_carrier(system: System, request: FabricRequest) -> list[str]:
    """Return the links without carrier (no cable, or the other end is off), as text."""
    seen = links.snapshot(system, [link for link, _ in request.addresses])
    return [
        f"{link} has no carrier: is its cable connected at both ends?" for link in seen if seen[link].dark
    ]


def failed_replies(system: System, peers: Sequence[Peer], mtu: int) -> list[PeerReply]:
    """Return the replies that are none of full size."""
    return [reply for reply in replies(system, peers, mtu) if reply.diagnostic]


def replies(system: System, peers: Sequence[Peer], mtu: int) -> list[PeerReply]:
    """Return the reply of each peer on each link, in parallel: each timeout takes a second."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda peer: peer_reply(system, peer, mtu), peers))


def peer_reply(system: System, peer: Peer, mtu: int) -> PeerReply:
    """Ping one peer with an unfragmented packet of full size, then with a small one."""
    if ping(system, peer, mtu - HEADERS):
        return PeerReply(peer.name, peer.link, peer.address, mtu)
    small = ping(system, peer, SMALL)
    message = (
        f"{peer.name} ({peer.address}) answers over {peer.link}, but not to packets of {mtu} bytes: "
        "the MTU is smaller there or on the way"
        if small
        else f"{peer.name} ({peer.address}) does not answer over {peer.link}"
    )
    found = failed(message, code=MTU_TOO_LARGE if small else PEER_SILENT)
    return PeerReply(peer.name, peer.link, peer.address, mtu, found, small)


def failed(found: str, *, code: str) -> Diagnostic:
    """Return why a change of links does not succeed."""
    hint = "check cables, switch and the other Spark; then run again"
    return Diagnostic("fabric", found, hint=hint, code=code)


def ping(system: System, peer: Peer, payload: int) -> bool:
    """Return whether one unfragmented packet with ``payload`` bytes is answered within a second."""
    argv = ("ping", "-n", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", str(payload), "-I", peer.link)
    return system.run((*argv, peer.address), timeout_s=10).code == 0


def evidence(system: System, request: FabricRequest) -> FabricEvidence:
    """Return the checks with their results."""
    return FabricEvidence(
        request.cluster,
        round(system.now()),
        links.snapshot(system, [link for link, _ in request.addresses]),
        {link: RdmaDevice(device, rdma_state(system, device)) for link, device in request.rdma},
        tuple(replies(system, request.peers, request.mtu)),
    )
