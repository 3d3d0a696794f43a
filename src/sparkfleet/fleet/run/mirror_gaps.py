"""What Sparks are to get from the bundle on this machine, and is not in it: said before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sparkfleet.config.resolved import Host, ImageRef
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.offline import models, oci, wheels
from sparkfleet.plan.fleet_staging import Sources
from sparkfleet.plan.model import Source
from sparkfleet.plan.staging import weights_key


def lacks(hosts: Mapping[str, Host], sources: Sources) -> dict[tuple[str, str], Diagnostic]:
    """Return, by host and key, what the bundle lacks of what shall come from it."""
    found: dict[tuple[str, str], Diagnostic] = {}
    for (name, key), source in sources.items():
        diagnostic = _lack(hosts[name], key, source) if source is not None else None
        found |= {(name, key): diagnostic} if diagnostic else {}
    return found


def _lack(host: Host, key: str, source: Source) -> Diagnostic | None:
    bundle = Path(host.stage.bundle).expanduser()
    for service in host.services:
        if service.image.pull_ref == key and service.image.extras:
            return derived(host.name, bundle, service.image) if source.bundle else None
        if service.image.pull_ref == key and (source.bundle or host.prepare.offline):
            # Of a copy from another Spark, the bundle gives what names it.
            return oci.lack(host.name, bundle, service.image, manifests_alone=not source.bundle)
        for weights in service.repositories:
            if weights_key(weights) == key and source.bundle:
                return models.lack(host.name, bundle, weights)
    return None


def derived(where: str, bundle: Path, image: ImageRef) -> Diagnostic | None:
    """Return what a bundle lacks of what a derived image is built from: its base, and the wheels."""
    packages = image.extras.wheels if image.extras else ()
    return combine(oci.lack(where, bundle, image.base), wheels.lack(where, bundle, packages))
