"""The kernel's links as ``ip`` shows them: their state, and its restore."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparkfleet.contract.fabric import LinkState
from sparkfleet.onhost.machine.system import System

Snapshot = Mapping[str, LinkState]
"""By netdev."""


def snapshot(system: System, names: Iterable[str]) -> Snapshot:
    """Return the present state of the netdevs that exist."""
    states: dict[str, LinkState] = {}
    for name in names:
        shown = _json(system, "address", "show", "dev", name)
        if shown:
            states[name] = LinkState(
                addresses=tuple(
                    f"{one['local']}/{one['prefixlen']}"
                    for one in shown[0].get("addr_info", ())
                    if one.get("family") == "inet"
                ),
                routes=tuple(_route(one) for one in _json(system, "-4", "route", "show", "dev", name)),
                mtu=shown[0].get("mtu", 0),
                up="UP" in shown[0].get("flags", ()),
                dark="NO-CARRIER" in shown[0].get("flags", ()),
            )
    return states


def of_default_routes(system: System) -> set[str]:
    """Return the netdevs of default routes."""
    return {str(one["dev"]) for one in _json(system, "-4", "route", "show", "default") if one.get("dev")}


def missing(system: System, before: Snapshot) -> list[str]:
    """Return the addresses and default routes that the netdevs have lost, as text."""
    now = snapshot(system, before)
    lost = []
    for name, had in before.items():
        has = now.get(name, LinkState())
        lost += [f"{name} lost {one}" for one in had.addresses if one not in has.addresses]
        if not lost:
            lost += [
                f"{name} lost its default route"
                for one in had.routes
                if one[0] == "default" and one not in has.routes
            ]
    return lost


def restore(system: System, before: Snapshot) -> list[str]:
    """Restore what the netdevs had, without removing anything else. Return what failed."""
    diagnostics = []
    now = snapshot(system, before)
    for name, had in before.items():
        has = now.get(name, LinkState())
        steps: list[Sequence[str]] = []
        if had.up and not has.up:
            steps.append(("link", "set", "dev", name, "up"))
        if had.mtu != has.mtu:
            steps.append(("link", "set", "dev", name, "mtu", str(had.mtu)))
        gone = [one for one in had.addresses if one not in has.addresses]
        steps += [("address", "add", one, "dev", name) for one in gone]
        # The kernel adds the route of an address itself; routes by a gateway need it.
        routes = sorted(had.routes, key=lambda argv: "via" in argv)
        steps += [("route", "replace", *one, "dev", name) for one in routes if one not in has.routes]
        for argv in steps:
            result = system.run(("ip", *argv))
            if result.code:
                diagnostics.append(f"ip {' '.join(argv)}: {result.text}")
    return diagnostics


def _route(shown: dict[str, Any]) -> tuple[str, ...]:
    argv = [str(shown["dst"])]
    for key, option in (("gateway", "via"), ("protocol", "proto"), ("scope", "scope"), ("prefsrc", "src"),
                      ("metric", "metric")):  # fmt: skip
        if shown.get(key) is not None:
            argv += [option, str(shown[key])]
    return tuple(argv)


def _json(system: System, *argv: str) -> list[dict[str, Any]]:
    result = system.run(("ip", "-j", *argv))
    try:
        found = json.loads(result.out or "[]")
    except ValueError:
        return []
    return [one for one in found if one]
