"""What Sparks are to get from the bundle on this machine, and is not in it: said before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sparkfleet.errors import Problem
from sparkfleet.offline import models, oci
from sparkfleet.plan.fleet_staging import Sources
from sparkfleet.plan.model import Source
from sparkfleet.plan.staging import weights_key
from sparkfleet.spec.resolved import Host


def lacks(hosts: Mapping[str, Host], sources: Sources) -> dict[tuple[str, str], Problem]:
    """Return, by host and key, what the bundle lacks of what shall come from it."""
    found: dict[tuple[str, str], Problem] = {}
    for (name, key), source in sources.items():
        problem = _lack(hosts[name], key, source) if source is not None else None
        found |= {(name, key): problem} if problem else {}
    return found


def _lack(host: Host, key: str, source: Source) -> Problem | None:
    bundle = Path(host.stage.bundle).expanduser()
    for service in host.services:
        named_by_bundle = source.bundle or (host.prepare.offline and service.image.extras is None)
        if service.image.pull_ref == key and named_by_bundle:
            # Of a copy from another Spark, the bundle gives what names it; a derived image has its name.
            return oci.lack(host.name, bundle, service.image, manifests_alone=not source.bundle)
        for weights in service.repositories:
            if weights_key(weights) == key and source.bundle:
                return models.lack(host.name, bundle, weights)
    return None
