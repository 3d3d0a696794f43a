"""Bytes that a prune could free on one host, for the plan of a host whose disk is full.

An upper bound: only this host's needs are known here, and another host may need a model, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from sparkfleet.desired_state import Host
from sparkfleet.plan.needs import digests_of
from sparkfleet.probe.observation import Observed


def reclaimable(host: Host, observed: Observed) -> dict[str, int]:
    """Return bytes by file system (``models``, ``images``) that sparkfleet fetched and nothing here needs."""
    if observed.unknown_needs:
        return {"models": 0, "images": 0}
    needed = " ".join(_needed(host, observed))
    digests = digests_of([needed])
    revisions = observed.fetched.get("revisions", {})
    images = observed.fetched.get("images", {})
    return {
        "models": sum(count for path, count in revisions.items() if path.rpartition("/")[2] not in needed),
        "images": sum(count for name, count in images.items() if not digests_of([name]) & digests),
    }


def _needed(host: Host, observed: Observed) -> Iterator[str]:
    """Yield texts that name every image and commit that this host needs."""
    for service in host.services:
        yield from service.image_names
        yield from (weights.revision for weights in service.repositories)
    for record in observed.generations.values():
        for generation in (record, *record.replaced):
            yield from (generation.image, generation.revision, *generation.argv)
    for instance in observed.instances:
        yield from (instance.image, instance.artifact, *instance.command, *instance.env)
