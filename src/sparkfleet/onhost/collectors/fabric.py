"""Links of the QSFP cages, files that configure them, and the netdev of the operator's connection."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
import time

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

DRIVER = "mlx5_core"
OWN = "etc/netplan/60-sparkfleet-fabric.yaml"
NETPLAN = ("etc/netplan", "run/netplan", "usr/lib/netplan", "lib/netplan")
NETWORK_FILES = (*NETPLAN, "etc/systemd/network", "etc/NetworkManager/system-connections", "etc/network")
"""Directories where links are configured: of netplan, networkd, NetworkManager and ifupdown."""
REPLY_S = 0.3
"""Seconds that other hosts have to answer for an address."""
ARP = 0x0806
NONE, HOST_MASK = "0" * 8, "F" * 8


def collect_fabric(desired: Collection[str], root: str = "/") -> dict[str, Any]:
    """Return the links of the fabric and the network around them.

    Without a file of ours, other hosts on the fabric are asked whether they own one of the desired addresses.
    """
    addresses = _addresses()
    names = os.listdir(os.path.join(root, "sys/class/net"))
    rdma_names = _by_driver(root, names) or _by_program(names)
    table = _routes(root)
    links = [
        _link(root, name, rdma_names[name], addresses.get(name, ()), table) for name in sorted(rdma_names)
    ]
    ours = {link["name"] for link in links}
    management, address = _management(root, addresses, table)
    own = os.path.join(root, OWN)
    text = basics.read_text(own)
    cabled = [link["name"] for link in links if link["carrier"]]
    return {
        "links": links,
        "management": management,
        "management_address": address,
        "networks": [[name, one] for name in addresses if name not in ours for one in addresses[name]],
        "renderer": _renderer(root),
        "netplan": basics.which("netplan"),
        "own": text,
        "own_mode": "" if text is None else "%04o" % (os.stat(own).st_mode & 0o7777),
        "foreign": _foreign(root, ours),
        "verbs": _verbs(root),
        "address_owners": address_owners(cabled, desired) if text is None else [],
    }


def _addresses() -> dict[str, list[str]]:
    """Return the IPv4 addresses of each netdev, with prefix length."""
    code, output, error = commands.run("ip", "-j", "-4", "address", "show")
    if code:
        raise OSError(error.strip())
    found = {}
    for netdev in json.loads(output or "[]"):
        if netdev.get("ifname") and netdev["ifname"] != "lo":
            found[netdev["ifname"]] = [
                "%s/%s" % (one["local"], one["prefixlen"]) for one in netdev.get("addr_info", ())
            ]
    return found


def _by_driver(root: str, names: Iterable[str]) -> dict[str, str]:
    """Return the netdevs of the ConnectX-7 driver, each with its RDMA device."""
    found = {}
    for name in names:
        device = os.path.join(root, "sys/class/net", name, "device")
        if os.path.basename(os.path.realpath(os.path.join(device, "driver"))) == DRIVER:
            rdma = os.path.join(device, "infiniband")
            found[name] = next(iter(sorted(os.listdir(rdma))), "") if os.path.isdir(rdma) else ""
    return found


def _by_program(names: Iterable[str]) -> dict[str, str]:
    """Return the same by ``ibdev2netdev``, for kernels whose files lack it."""
    if not basics.which("ibdev2netdev"):
        return {}
    output = commands.run("ibdev2netdev")[1]
    pairs = re.findall(r"^(\S+) port \d+ ==> (\S+)", output, re.MULTILINE)
    return {name: rdma for rdma, name in pairs if name in names}


def _link(
    root: str, name: str, rdma: str, addresses: Iterable[str], table: Iterable[list[str]]
) -> dict[str, Any]:
    folder = os.path.join(root, "sys/class/net", name)
    pci = os.path.basename(os.path.realpath(os.path.join(folder, "device")))
    state = _word(os.path.join(root, "sys/class/infiniband", rdma, "ports/1/state")) if rdma else ""
    carrier = _word(os.path.join(folder, "carrier"))
    return {
        "name": name,
        "port": _word(os.path.join(folder, "phys_port_name")),
        "pci": pci if re.match(r"[0-9a-f]{4}:", pci) else "",
        "carrier": {"1": True, "0": False}.get(carrier),
        "mtu": int(_word(os.path.join(folder, "mtu")) or 0),
        "addresses": list(addresses),
        "rdma": rdma,
        "rdma_state": state.rpartition(" ")[2],  # "4: ACTIVE"
        "speed": max(0, int(_word(os.path.join(folder, "speed")) or 0)),
        "routes": [
            "%s via %s" % (_dotted(to), _dotted(via))
            for dev, to, via, _, _, _, _, mask in table
            if (dev, mask) == (name, HOST_MASK) and via != NONE
        ],
    }


def _word(path: str) -> str:
    """Return a file of the kernel; "" without it, or if it cannot be read (a link that is off)."""
    try:
        return (basics.read_text(path) or "").strip()
    except OSError:
        return ""


def _routes(root: str) -> list[list[str]]:
    """Return the kernel's IPv4 routes: netdev, destination, gateway, flags, two counts, metric, mask."""
    lines = (basics.read_text(os.path.join(root, "proc/net/route")) or "").splitlines()[1:]
    return [line.split()[:8] for line in lines]


def _dotted(word: str) -> str:
    """Return an address that the kernel wrote as a number in this machine's byte order."""
    return socket.inet_ntoa(struct.pack("=I", int(word, 16)))


def _management(
    root: str, addresses: dict[str, list[str]], table: Iterable[list[str]]
) -> tuple[list[str], str]:
    """Return the netdevs of SSH and of default routes, which must not change, and the first address."""
    names = []
    ours = _ssh_address(root, os.getppid())
    port_owners = {one.partition("/")[0]: name for name in addresses for one in addresses[name]}
    if ours in port_owners:
        names.append(port_owners[ours])
    names += [fields[0] for fields in table if fields[1] == NONE and fields[7] == NONE]
    names = list(dict.fromkeys(names))
    first = next((one for name in names for one in addresses.get(name, ())), "")
    return names, ours if ours in port_owners else first.partition("/")[0]


def _ssh_address(root: str, pid: int) -> str:
    """Return this Spark's address of the SSH connection, from the environment of the calling processes."""
    while pid > 1:
        for pair in (_word(os.path.join(root, "proc/%d/environ" % pid))).split("\0"):
            if pair.startswith("SSH_CONNECTION="):
                return pair.split()[2]
        stat = _word(os.path.join(root, "proc/%d/stat" % pid)).rpartition(")")[2].split()
        pid = int(stat[1]) if stat else 0
    return ""


def _files(root: str, folders: Iterable[str]) -> list[tuple[str, str]]:
    """Return path and text of the files that configure links, each once even if paths are links."""
    found = {}
    for folder in folders:
        for at, _, names in os.walk(os.path.realpath(os.path.join(root, folder))):
            for name in sorted(names):
                path = os.path.join(at, name)
                found[path] = basics.read_text(path) or ""
    return sorted(found.items())


def _renderer(root: str) -> str:
    """Return what configures links: by netplan's files, else NetworkManager if it runs, else networkd."""
    for _, text in reversed(_files(root, NETPLAN)):
        block = re.search(r"^network:[^\n]*\n(( +)\S[^\n]*\n)", text + "\n", re.MULTILINE)
        found = block and re.search(r"^%s[\"']?renderer[\"']?: *[\"']?(\w+)" % block[2], text, re.MULTILINE)
        if found:
            return found[1]
    if os.path.exists(os.path.join(root, "run/NetworkManager")):
        return "NetworkManager"
    return "networkd" if basics.which("netplan") else ""


def _foreign(root: str, ours: Iterable[str]) -> list[dict[str, Any]]:
    """Return the files of other tools that configure a link of the fabric."""
    found = []
    for path, text in _files(root, NETWORK_FILES):
        if path == os.path.realpath(os.path.join(root, OWN)):
            continue
        bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", ";")))
        every = DRIVER in bare
        links = sorted(name for name in ours if every or re.search(r"\b%s\b" % re.escape(name), bare))
        if links:
            found.append({"path": "/" + os.path.relpath(path, os.path.realpath(root)), "links": links})
    return found


def _verbs(root: str) -> bool:
    try:
        return any(name.startswith("uverbs") for name in os.listdir(os.path.join(root, "dev/infiniband")))
    except OSError:
        return False


def address_owners(names: Iterable[str], desired: Collection[str]) -> list[dict[str, str]]:
    """Return who answers for one of the desired addresses: ARP probes without a source address (RFC 5227)."""
    found: dict[tuple[str, str], str] = {}
    sockets = []
    for name in names:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
        sockets.append(raw)
        raw.bind((name, ARP))
        own = raw.getsockname()[4]
        for address in desired:
            target = socket.inet_aton(address)
            raw.send(
                struct.pack("!6s6sH", b"\xff" * 6, own, ARP)
                + struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, bytes(4), bytes(6), target)
            )
    end = time.monotonic() + REPLY_S
    while sockets and (left := end - time.monotonic()) > 0:
        for raw in select.select(sockets, (), (), left)[0]:
            packet = raw.recv(64)
            operation, mac, sender = packet[20:22], packet[22:28], packet[28:32]
            address = socket.inet_ntoa(sender) if len(sender) == 4 else ""
            if operation == b"\0\2" and address in desired:
                found[address, raw.getsockname()[0]] = mac.hex(":")
    for raw in sockets:
        raw.close()
    return [{"address": one, "link": name, "mac": mac} for (one, name), mac in sorted(found.items())]
