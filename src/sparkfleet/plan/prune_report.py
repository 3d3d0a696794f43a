"""What a prune would remove, as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from sparkfleet.errors import with_code
from sparkfleet.plan.prune import FleetPrune, HostPrune, Item
from sparkfleet.plan.report import FIELD_WIDTH, HOST_WIDTH
from sparkfleet.units import size

NAME_WIDTH = 58
LISTED_OTHERS = 5
"""More things of others than this are counted instead of listed."""
KIND_WIDTH = FIELD_WIDTH + 2


def prune_text(plan: FleetPrune, programs: Collection[str] = ()) -> str:
    """Return the list, host by host, then the sum. ``programs``: hosts whose programs are updated first."""
    lines = [line for host in plan.hosts for line in _host_lines(host, host.host in programs)]
    if plan.unknown:
        lines += [
            f"no images or models are removed: {', '.join(plan.unknown)} may need them",
            f"    do: make them reachable, or --exclude-host {plan.unknown[0]} if it is decommissioned",
        ]
    if plan.unpinned:
        lines += [
            f"no images or models are removed: these services are not pinned: {', '.join(plan.unpinned)}",
            "    do: sparkfleet lock INVENTORY",
        ]
    items = sum(len(host.items) for host in plan.hosts)
    total = size(sum(host.bytes for host in plan.hosts))
    return "\n".join([*lines, f"{items} to remove, up to {total}" if items else "nothing to remove"]) + "\n"


def _host_lines(plan: HostPrune, programs: bool) -> list[str]:
    name = plan.host.ljust(HOST_WIDTH)
    if plan.diagnostic:
        lines = [with_code(f"{name} unknown: {plan.diagnostic.message}", plan.diagnostic.code)]
        return [
            *lines,
            *([f"{' ' * HOST_WIDTH}    do: {plan.diagnostic.hint}"] if plan.diagnostic.hint else []),
        ]
    if not plan.items:
        lines = [f"{name} nothing to remove"]
    else:
        lines = [f"{name} {len(plan.items)} to remove, up to {size(plan.bytes)}"]
        lines += [f"  ~ {'programs'.ljust(KIND_WIDTH)} updated first"] if programs else []
        lines += [_line("-", item) for item in plan.items]
    return [*lines, *_unmanaged_lines(plan.unmanaged)]


def _unmanaged_lines(unmanaged: tuple[Item, ...]) -> list[str]:
    if not unmanaged:
        return []
    head = "  = not managed by sparkfleet, and not needed (--include-unmanaged NAME removes it):"
    lines = [_line("=", item) for item in unmanaged[:LISTED_OTHERS]]
    more = unmanaged[LISTED_OTHERS:]
    if more:
        lines.append(f"  = and {len(more)} more, {size(sum(item.bytes for item in more))}")
    return [head, *lines]


def _line(sign: str, item: Item) -> str:
    return f"  {sign} {item.kind.ljust(KIND_WIDTH)} {item.name.ljust(NAME_WIDTH)} {size(item.bytes)}".rstrip()


def prune_data(plan: FleetPrune) -> dict[str, Any]:
    """Return the list for programs."""
    return {
        "unknown": list(plan.unknown),
        "unpinned": list(plan.unpinned),
        "hosts": [
            {
                "host": host.host,
                "diagnostic": dataclasses.asdict(host.diagnostic) if host.diagnostic else None,
                "bytes": host.bytes,
                "items": [_item(item) for item in host.items],
                "others": [_item(item) for item in host.unmanaged],
            }
            for host in plan.hosts
        ],
    }


def _item(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind.value,
        "name": item.name,
        "path": item.key,
        "bytes": item.bytes,
        "used": item.used,
    }
