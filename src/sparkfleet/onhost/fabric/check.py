"""Do the links of this Spark have what was declared, and do the others answer over each of them?"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sparkfleet.contract.fabric import FabricRequest, Peer
from sparkfleet.onhost.fabric import links
from sparkfleet.onhost.machine.system import System

HEADERS = 28
"""Bytes of the IPv4 and ICMP headers: a packet of MTU size carries so much less."""
AT_ONCE = 16
SMALL = 56
"""Bytes of an ordinary ping."""


def wrong(system: System, request: FabricRequest) -> list[str]:
    """Return what the links themselves do not have as declared, in words."""
    seen = links.snapshot(system, [link for link, _ in request.addresses])
    found = []
    for link, address in request.addresses:
        has = seen.get(link)
        if has is None:
            found.append(f"{link} is not there")
        elif address not in has["addresses"]:
            found.append(f"{link} has no {address}")
        elif has["mtu"] != request.mtu:
            found.append(f"{link} has MTU {has['mtu']}, not {request.mtu}")
    for link, device in request.rdma:
        state = rdma_state(system, device)
        if state not in {"ACTIVE", ""}:
            found.append(f"{device}, the RDMA device of {link}, is {state}")
    return found


def rdma_state(system: System, device: str) -> str:
    """Return the state of an RDMA device (``ACTIVE``, ``DOWN``); "" where the kernel does not tell."""
    try:
        return (system.paths.rdma / device / "ports/1/state").read_text().strip().rpartition(" ")[2]
    except OSError:
        return ""


def dark(system: System, request: FabricRequest) -> list[str]:
    """Return the links that have no carrier: the cable is out, or the other end is off; in words."""
    seen = links.snapshot(system, [link for link, _ in request.addresses])
    return [f"{link} has no carrier: is its cable in, at both ends?" for link in seen if seen[link]["dark"]]


def silent(system: System, peers: Sequence[Peer], mtu: int) -> list[dict[str, Any]]:
    """Return the answers of the peers that do not answer as they should."""
    return [answer for answer in answers(system, peers, mtu) if answer["problem"]]


def answers(system: System, peers: Sequence[Peer], mtu: int) -> list[dict[str, Any]]:
    """Return what each peer answers on each link; all are asked at once, since silence takes its time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda peer: peer_answer(system, peer, mtu), peers))


def peer_answer(system: System, peer: Peer, mtu: int) -> dict[str, Any]:
    """Ask one peer with a packet of full size that nobody may cut, then with a small one."""
    whole = ping(system, peer, mtu - HEADERS)
    answer = {"peer": peer.name, "link": peer.link, "address": peer.address, "mtu": mtu, "problem": ""}
    if not whole:
        answer["small"] = ping(system, peer, SMALL)
        if answer["small"]:
            answer["problem"] = (
                f"{peer.name} ({peer.address}) answers over {peer.link}, but not to packets of {mtu} bytes: "
                "the MTU is smaller there or on the way"
            )
        else:
            answer["problem"] = f"{peer.name} ({peer.address}) does not answer over {peer.link}"
    return answer


def ping(system: System, peer: Peer, payload: int) -> bool:
    """Tell whether one unfragmented packet with so many bytes comes back within a second."""
    argv = ("ping", "-n", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", str(payload), "-I", peer.link)
    return system.run((*argv, peer.address), timeout_s=10).code == 0


def as_evidence(system: System, request: FabricRequest) -> dict[str, Any]:
    """Return what was checked and what came of it, to be kept."""
    return {
        "cluster": request.cluster,
        "at": round(system.now()),
        "links": links.snapshot(system, [link for link, _ in request.addresses]),
        "rdma": {link: {"device": one, "state": rdma_state(system, one)} for link, one in request.rdma},
        "peers": answers(system, request.peers, request.mtu),
    }
