"""Profiles of NetworkManager that ask for an address by DHCP on a QSFP cage, where nobody answers.

NetworkManager creates one for each link without a profile. Of a profile only its name, id and path leave the
Spark: others hold keys of wireless networks.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

from sparkfleet.onhost.collectors import basics, footprints

PROFILES = ("/etc/NetworkManager/system-connections", "/run/NetworkManager/system-connections")
DEVICES = "/run/NetworkManager/devices"
"""A file for each link, by its number: whether it is managed, and the profile that is active on it."""
NETDEVS = "/sys/class/net"


def collect_profiles(root: str = "") -> dict[str, list[dict[str, str]]]:
    """Return the profiles, each with its link, that cannot get an address: the link has a carrier, and no
    profile is active on it.
    """
    waiting = [name for name in sorted(_names(root + NETDEVS)) if _waits(root, name)]
    found = []
    for folder in PROFILES if waiting else ():
        for path in sorted(_names(root + folder)):
            text = basics.read_text(os.path.join(root + folder, path))
            profile = _values(text or "")
            found += [
                {
                    "path": folder + "/" + path,
                    "name": profile.get("connection.id", ""),
                    "uuid": profile.get("connection.uuid", ""),
                    "link": link,
                }
                for link in waiting
                if _asks(profile) and _is_for(profile, link, _word(root, link, "address"))
            ]
    return {"waiting": found}


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _word(root: str, link: str, name: str) -> str:
    try:
        return (basics.read_text(os.path.join(root + NETDEVS, link, name)) or "").strip()
    except OSError:  # the carrier of a link that is off
        return ""


def _waits(root: str, link: str) -> bool:
    """Return whether a link is of a cage, has a carrier, is managed by NetworkManager, and has no profile."""
    driver = os.path.join(root + NETDEVS, link, "device/driver")
    if not footprints.FABRIC.fullmatch(link) and os.path.basename(os.path.realpath(driver)) != "mlx5_core":
        return False
    if _word(root, link, "carrier") != "1":
        return False
    state = basics.read_text(os.path.join(root + DEVICES, _word(root, link, "ifindex") or "none"))
    values = _values(state or "")
    return (
        state is not None
        and values.get("device.managed") != "false"
        and "device.connection-uuid" not in values
    )


def _values(text: str) -> dict[str, str]:
    """Return the values of a key file by ``section.key``."""
    section, found = "", {}
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            found[section + "." + key.strip()] = value.strip()
    return found


def _asks(profile: dict[str, str]) -> bool:
    """Return whether a profile starts by itself and asks for an IPv4 address."""
    return (
        profile.get("connection.type") in ("ethernet", "802-3-ethernet")
        and profile.get("connection.autoconnect") != "false"
        and profile.get("ipv4.method", "auto") == "auto"
    )


def _is_for(profile: dict[str, str], link: str, address: str) -> bool:
    """Return whether a profile names a link: by its name, a pattern, or its MAC address."""
    name = profile.get("connection.interface-name", "")
    patterns = [one for one in profile.get("match.interface-name", "").split(";") if one]
    own = profile.get("ethernet.mac-address", profile.get("802-3-ethernet.mac-address", ""))
    if name or patterns:
        return link == name or any(fnmatchcase(link, one.lstrip("&|")) for one in patterns)
    return bool(own) and own.lower() == address.lower()
