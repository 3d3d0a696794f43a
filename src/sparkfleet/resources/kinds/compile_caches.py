"""Compile caches of former images: removed by age, then by size, oldest first. Never those in use."""

from __future__ import annotations

import os
import time

NAME_LENGTH = 12
HEX = set("0123456789abcdef")


def observe(host: ObservedHost, path: str, _: str = "") -> dict[str, Any]:
    """Return the compile caches in a directory: bytes, last change, and whether a service here needs it."""
    found, used, top = {}, used_caches(host), host.path(path)
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        cache = os.path.join(top, name)
        if is_cache(cache):
            size, newest = 0, os.lstat(cache).st_mtime
            for folder, _folders, entries in os.walk(cache):
                for entry in entries:
                    info = os.lstat(os.path.join(folder, entry))
                    size, newest = size + info.st_blocks * 512, max(newest, info.st_mtime)
            found[name] = [size, int(newest), os.path.join(path, name) in used]
    return {"caches": found, "now": int(time.time())}


def is_cache(path: str) -> bool:
    """Return whether a path is a directory with the name of a compile cache."""
    name = os.path.basename(path)
    named = len(name) == NAME_LENGTH and set(name) <= HEX
    return named and os.path.isdir(path) and not os.path.islink(path)


def used_caches(host: ObservedHost) -> str:
    """Return all that the Spark keeps of its services, as one text: it names the caches in use."""
    texts = []
    for folder, _, names in os.walk(host.path("/var/lib/sparkfleet/services")):
        for name in names:
            if name.endswith(".json"):
                with open(os.path.join(folder, name), errors="replace") as file:
                    texts.append(file.read())
    return "\n".join(texts)


# --- Only what is above this line is sent with the probe. ---

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sparkfleet.resources.base import (
    Declaration,
    Difference,
    Fields,
    Host,
    ObservedHost,
    PlanContext,
    Resource,
    ResourceError,
    ResourceKind,
    Setting,
    Target,
    described,
)
from sparkfleet.units import size

DAY_S = 86400
GIB = 1 << 30
STALE = "host-changed-since-plan"


@dataclass(frozen=True)
class RetentionSpec:
    """Which compile caches of former images are removed; those of services here are always kept."""

    max_age_days: int | None = described("Remove those not written to for this many days.", None, ge=1)
    max_gib: float | None = described("Remove the oldest until all take no more than this.", None, gt=0)


class CompileCaches(ResourceKind):
    """The compile caches in the cache directory."""

    name = "compile_caches"
    order = 130
    recorded = False
    settings = (
        Setting(
            "compile_cache_retention",
            RetentionSpec,
            "Which compile caches of former images are removed.",
            merged=True,
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return the cache directory with its limits."""
        spec = declaration.values.get("compile_cache_retention")
        names = () if spec is None else tuple(field.name for field in fields(spec))
        limits = tuple((n, f"{getattr(spec, n):g}") for n in names if getattr(spec, n) is not None)
        if limits:
            where = declaration.where("compile_cache_retention")
            yield Resource("compile_caches", declaration.cache_dir, limits, where=where)

    def differences(self, resource: Resource, live: Fields, context: PlanContext) -> list[Difference]:
        """Return the caches that a run removes.

        In use is what a declared service will have, and what the Spark keeps of any service: the generation
        that serves and those that a rollback goes back to.
        """
        limits = dict(resource.fields)
        caches = {
            name: (count, last, used or name in context.cache_names)
            for name, (count, last, used) in live["caches"].items()
        }
        oldest_first = sorted((last, name) for name, (_, last, used) in caches.items() if not used)
        total, now, removals = sum(count for count, _, _ in caches.values()), int(live["now"]), []
        for last, name in oldest_first:
            days = (now - last) // DAY_S
            too_old = "max_age_days" in limits and days >= int(limits["max_age_days"])
            too_large = "max_gib" in limits and total > float(limits["max_gib"]) * GIB
            if too_old or too_large:
                count = caches[name][0]
                total -= count
                note = f"{size(count)}, not written to for {days} days"
                removals.append(Difference("-", f"{resource.key}/{name}", note=note))
        return removals

    def planned(self, resource: Resource, differences: Sequence[Difference]) -> Resource:
        """Return the resource with the paths that are removed."""
        paths = "\n".join(difference.key for difference in differences)
        return Resource(resource.kind, resource.key, resource.fields, content=paths, where=resource.where)

    def apply(self, host: Host, target: Target) -> None:
        """Remove the caches. Raise ResourceError for what is none, or is used by now."""
        for path in target.content.splitlines():
            if not is_cache(host.path(path)):
                raise ResourceError(f"{path} is no compile cache", hint="run again", code=STALE)
            if path in used_caches(host):
                raise ResourceError(f"{path} is in use", hint="run again", code=STALE)
            shutil.rmtree(host.path(path))


KIND = CompileCaches()
