"""What identifies a Spark, and what members of a cluster should have in common, typed. Text in, values out.

A missing file gives an empty value; one that cannot be read is in ``unread``, and its value is unknown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MACHINE_ID, CMDLINE, DRIVER = "/etc/machine-id", "/proc/cmdline", "/proc/driver/nvidia/version"
MEMINFO = "/proc/meminfo"
BOOT_ID, HOST_KEYS, RDMA = "/proc/sys/kernel/random/boot_id", "/etc/ssh", "/sys/class/infiniband"
KERNEL = "/proc/sys/kernel/osrelease"
"""Stands for the kernel, which is read by uname."""

OPEN, PROPRIETARY = "open", "proprietary"
"""Flavours of the kernel modules of the GPU driver."""

OF_ONE_HOST = frozenset(
    (
        "boot_image", "root", "rootuuid", "resume", "resume_offset", "boot", "bootif", "cryptdevice", "ip",
        "initrd", "hostname", "systemd.hostname", "systemd.machine_id", "rd.luks.uuid", "rd.luks.name",
        "rd.lvm.lv", "rd.md.uuid", "nfsroot", "ds", "subroot",
    )
)  # fmt: skip
"""Boot parameters that name a disk, an address or a host (``boot_image``: the kernel, which is compared)."""
_SECRET = re.compile(r"passw|secret|token|credential|(?:^|[._])key(?:[._=]|$)|:[^@:]*@", re.IGNORECASE)
"""In the name of a boot parameter, or in its value: ``systemd.setenv=API_TOKEN=x``, ``iscsi:me:word@x``."""


@dataclass(frozen=True)
class MachineTexts:
    """The part of the probe's response."""

    name: str
    kernel: str
    texts: Mapping[str, str | None] = field(default_factory=dict)
    """Path -> text; None: absent."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Path of a file or directory -> why it could not be read."""
    cma: tuple[int | None, ...] = ()
    """Total and free contiguous memory (CMA) in KiB; None: the kernel does not report it."""


@dataclass(frozen=True)
class ObservedMachine:
    """One Spark. A value of a file in ``unread`` is unknown, not empty."""

    name: str = ""
    """Its own host name."""
    kernel: str = ""
    machine_id: str = field(default="", repr=False)
    """"" before systemd has set it."""
    boot_id: str = field(default="", repr=False)
    parameters: tuple[str, ...] = field(default=(), repr=False)
    """Boot parameters without those that differ between hosts by intent, sorted by name."""
    driver: str = ""
    """Version of the GPU driver's kernel module; "": not loaded."""
    flavour: str = ""
    """OPEN or PROPRIETARY; "": unknown."""
    firmware: tuple[str, ...] = ()
    """Versions of the firmware of all RDMA devices (ConnectX-7)."""
    host_keys: tuple[tuple[str, str], ...] = ()
    """Type and fingerprint of each SSH host key."""
    cma_total_kib: int | None = None
    cma_free_kib: int | None = None
    """Contiguous memory (CMA), which the kernel lends; None: unknown."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Path of a file or directory -> why it could not be read, or understood."""

    def reason(self, path: str) -> str:
        """Return why something at or below a path could not be read; "" if all of it was."""
        found = (why for one, why in self.unread.items() if one == path or one.startswith(f"{path}/"))
        return next(found, "")


def machine_seen(part: MachineTexts) -> ObservedMachine:
    """Return what the texts say."""
    texts = {path: (text or "").strip() for path, text in part.texts.items()}
    driver, unread = texts.get(DRIVER, ""), dict(part.errors)
    if driver and not (driver_version(driver) and driver_flavour(driver)):
        unread[DRIVER] = f"of an unknown form: {driver[:60]!r}"
    if not texts.get(CMDLINE):
        unread.setdefault(CMDLINE, "it is empty, or not there")
    keys = (texts[path] for path in sorted(texts) if path.startswith(f"{HOST_KEYS}/"))
    return ObservedMachine(
        name=part.name,
        kernel=part.kernel,
        machine_id=_machine_id(texts.get(MACHINE_ID, "")),
        boot_id=texts.get(BOOT_ID, ""),
        parameters=boot_parameters(texts.get(CMDLINE, "")),
        driver=driver_version(driver),
        flavour=driver_flavour(driver),
        firmware=tuple(
            sorted({text for path, text in texts.items() if path.startswith(f"{RDMA}/") and text})
        ),
        host_keys=tuple(key for text in keys if (key := _fingerprint(text))),
        cma_total_kib=next(iter(part.cma), None),
        cma_free_kib=next(iter(part.cma[1:]), None),
        unread=unread,
    )


def _machine_id(text: str) -> str:
    return text if re.fullmatch(r"[0-9a-f]{32}", text) and text.strip("0") else ""


def driver_version(text: str) -> str:
    """Return the version in /proc/driver/nvidia/version; "" for a text without one."""
    found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text, re.MULTILINE)
    return found[1] if found else ""


def driver_flavour(text: str) -> str:
    """Return the flavour of the kernel modules by /proc/driver/nvidia/version; "" for an unknown text."""
    line = next((one for one in text.splitlines() if one.startswith("NVRM version:")), "")
    if "Open Kernel Module" in line:
        return OPEN
    return PROPRIETARY if "Kernel Module" in line else ""


def boot_parameters(text: str) -> tuple[str, ...]:
    """Return the parameters of /proc/cmdline that hosts may have in common, sorted by name.

    The kernel reads ``-`` and ``_`` in a name alike; of several with one name the order counts.
    """
    found = []
    for word in re.findall(r'(?:"[^"]*"?|[^\s"])+', text):
        name, equals, value = word.partition("=")
        plain = name.replace("-", "_")
        if plain.lower() in OF_ONE_HOST:
            continue
        found.append((plain, f"{plain}{equals}{value}"))
    return tuple(word for _, word in sorted(found, key=lambda one: one[0]))


def shown(parameter: str) -> str:
    """Return a boot parameter for people: without its value if that may have a secret."""
    name, equals, value = parameter.partition("=")
    return f"{name}=***" if equals and value and _SECRET.search(parameter) else parameter


def unknown_machine(reason: str) -> ObservedMachine:
    """Return a Spark of which nothing is known."""
    paths = (KERNEL, MACHINE_ID, CMDLINE, DRIVER, MEMINFO, BOOT_ID, HOST_KEYS, RDMA)
    return ObservedMachine(unread=dict.fromkeys(paths, reason))


def _fingerprint(text: str) -> tuple[str, str] | None:
    """Return type and fingerprint of a public key as ``ssh-keygen -l`` prints it; None for another text."""
    kind, _, rest = text.partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ", 1)[0], validate=True)
    except (binascii.Error, ValueError):
        return None
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return (kind, f"SHA256:{digest}") if blob else None
