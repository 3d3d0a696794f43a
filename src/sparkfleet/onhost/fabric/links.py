"""The kernel's links as ``ip`` shows them: what they have now, and putting back what they had."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparkfleet.onhost.machine.system import System

Snapshot = Mapping[str, Mapping[str, Any]]
"""Netdev -> ``addresses`` (IPv4 with prefix length), ``routes`` (words of ``ip route``), ``mtu``, ``up``,
``dark`` (it is up and has no carrier)."""


def snapshot(system: System, names: Iterable[str]) -> Snapshot:
    """Return what the netdevs have now; those that are not there are left out."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        shown = _json(system, "address", "show", "dev", name)
        if shown:
            found[name] = {
                "addresses": [
                    f"{one['local']}/{one['prefixlen']}"
                    for one in shown[0].get("addr_info", ())
                    if one.get("family") == "inet"
                ],
                "routes": [_route(one) for one in _json(system, "-4", "route", "show", "dev", name)],
                "mtu": shown[0].get("mtu", 0),
                "up": "UP" in shown[0].get("flags", ()),
                "dark": "NO-CARRIER" in shown[0].get("flags", ()),
            }
    return found


def of_default_routes(system: System) -> set[str]:
    """Return the netdevs by which this Spark reaches the rest of the world."""
    return {str(one["dev"]) for one in _json(system, "-4", "route", "show", "default") if one.get("dev")}


def missing(system: System, before: Snapshot) -> list[str]:
    """Return what the netdevs had and do not have any more, in words."""
    now = snapshot(system, before)
    lost = []
    for name, had in before.items():
        has = now.get(name, {"addresses": [], "routes": [], "up": False})
        lost += [f"{name} lost {one}" for one in had["addresses"] if one not in has["addresses"]]
        if not lost:
            lost += [
                f"{name} lost its default route"
                for one in had["routes"]
                if one[0] == "default" and one not in has["routes"]
            ]
    return lost


def put_back(system: System, before: Snapshot) -> list[str]:
    """Give the netdevs again what they had; what they have beside stays. Return what did not work."""
    diagnostics = []
    now = snapshot(system, before)
    for name, had in before.items():
        has = now.get(name, {"addresses": [], "routes": [], "mtu": 0, "up": False})
        steps: list[Sequence[str]] = []
        if had["up"] and not has["up"]:
            steps.append(("link", "set", "dev", name, "up"))
        if had["mtu"] != has["mtu"]:
            steps.append(("link", "set", "dev", name, "mtu", str(had["mtu"])))
        gone = [one for one in had["addresses"] if one not in has["addresses"]]
        steps += [("address", "add", one, "dev", name) for one in gone]
        # The kernel makes the route of an address itself; what goes by a gateway comes after it.
        routes = sorted(had["routes"], key=lambda argv: "via" in argv)
        steps += [("route", "replace", *one, "dev", name) for one in routes if one not in has["routes"]]
        for argv in steps:
            done = system.run(("ip", *argv))
            if done.code:
                diagnostics.append(f"ip {' '.join(argv)}: {done.text}")
    return diagnostics


def _route(shown: dict[str, Any]) -> list[str]:
    argv = [str(shown["dst"])]
    for key, word in (("gateway", "via"), ("protocol", "proto"), ("scope", "scope"), ("prefsrc", "src"),
                      ("metric", "metric")):  # fmt: skip
        if shown.get(key) is not None:
            argv += [word, str(shown[key])]
    return argv


def _json(system: System, *argv: str) -> list[dict[str, Any]]:
    done = system.run(("ip", "-j", *argv))
    try:
        found = json.loads(done.out or "[]")
    except ValueError:
        return []
    return [one for one in found if one]
