"""Which compile caches of former images go: by age, then by size, oldest first. Never those in use."""

from __future__ import annotations

from sparkfleet.config.items import Item
from sparkfleet.config.resolved import Host
from sparkfleet.plan import desired
from sparkfleet.plan.operations import RemoveCompileCache
from sparkfleet.probe.observed import Fields

DAY_S = 86400
GIB = 1 << 30


def removals(host: Host, item: Item, live: Fields) -> list[RemoveCompileCache]:
    """Return the caches that a run removes.

    In use is what a service of the host file will have, and what the Spark keeps of any service: the
    generation that serves and those that a rollback goes back to.
    """
    limits = dict(item.want)
    kept = {desired.cache_directory(host, service).rsplit("/", 1)[-1] for service in host.services}
    seen = {name: (count, last, used or name in kept) for name, (count, last, used) in live["caches"].items()}
    oldest_first = sorted((last, name) for name, (_, last, used) in seen.items() if not used)
    total, now = sum(count for count, _, _ in seen.values()), int(live["now"])
    removed: list[RemoveCompileCache] = []
    for last, name in oldest_first:
        days = (now - last) // DAY_S
        too_old = "max_age_days" in limits and days >= int(limits["max_age_days"])
        too_much = "max_gib" in limits and total > float(limits["max_gib"]) * GIB
        if not too_old and not too_much:
            continue
        count = seen[name][0]
        total -= count
        removed.append(RemoveCompileCache(f"{item.key}/{name}", count, days))
    return removed
