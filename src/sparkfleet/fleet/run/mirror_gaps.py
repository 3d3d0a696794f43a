"""Which files that hosts need are missing in the offline mirror, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import Host, ImageRef
from sparkfleet.offline import models, oci, wheels
from sparkfleet.plan.artifacts import ArtifactSource
from sparkfleet.plan.fleet_staging import Sources
from sparkfleet.plan.staging import weights_key


def gaps(hosts: Mapping[str, Host], sources: Sources) -> dict[tuple[str, str], Diagnostic]:
    """Return, by host and artifact, what is missing in the offline mirror."""
    found: dict[tuple[str, str], Diagnostic] = {}
    for (name, key), source in sources.items():
        diagnostic = _lack(hosts[name], key, source) if source is not None else None
        found |= {(name, key): diagnostic} if diagnostic else {}
    return found


def _lack(host: Host, key: str, source: ArtifactSource) -> Diagnostic | None:
    mirror = Path(host.stage.mirror).expanduser()
    for service in host.services:
        image = service.image if key in service.image_names[:1] else None
        if image and image.derived_packages:
            return derived_image_gap(host.name, mirror, image) if source.mirror else None
        if image and (source.mirror or host.prepare.offline):
            # A copy from another Spark takes its manifests from the offline mirror.
            return oci.lack(host.name, mirror, image, manifests_alone=not source.mirror)
        for weights in service.repositories:
            if weights_key(weights) == key and source.mirror:
                return models.lack(host.name, mirror, weights)
    return None


def derived_image_gap(where: str, mirror: Path, image: ImageRef) -> Diagnostic | None:
    """Return what the offline mirror lacks to build a derived image: its base, or wheels."""
    packages = image.derived_packages.wheels if image.derived_packages else ()
    return combine(oci.lack(where, mirror, image.base), wheels.lack(where, mirror, packages))
