"""Reads and validates a cluster file: Sparks, executor, links and service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from sparkfleet.config.host_file import ServiceSource, service_source
from sparkfleet.config.models import ClusterFile, FabricSpec
from sparkfleet.config.named_file import read_named
from sparkfleet.config.validate import describe, validate
from sparkfleet.config.yaml_file import Document
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import Fabric

SMALLEST_NETWORK, SMALLEST_OF_RING = 23, 21
"""Prefix lengths: two rails, or six in a ring, with a /24 each."""
RING = 3
"""Sparks in a ring."""


@dataclass(frozen=True)
class ClusterSource:
    """Content of a cluster file."""

    name: str
    settings: ClusterFile
    service: ServiceSource | None
    """The cluster's service; None: the Sparks are linked and have no common service."""
    fabric: Fabric
    document: Document

    def where(self, *path: str | int) -> str:
        """Return ``file:line`` of one of its values."""
        return self.document.where(path)


def load(path: Path) -> tuple[ClusterSource | None, list[Diagnostic]]:
    """Return the valid content of the file and all of its errors; None if the cluster itself is invalid.

    Raise ``SparkfleetError`` for a file that is no YAML mapping.
    """
    document, data, diagnostics = read_named(path, "cluster", "start the file with `hosts: [...]`")
    serve = data.pop("serve", None)
    service = _service(serve, document, diagnostics)
    try:
        settings = validate(ClusterFile, data, document.where)
    except SparkfleetError as error:
        return None, [*diagnostics, *error.diagnostics]
    wrong = [*_network_diagnostics(settings.fabric, document), *_ring_diagnostics(settings, document)]
    if wrong or (service is None and serve is not None):
        return None, [*diagnostics, *wrong]
    fabric = Fabric(**settings.fabric.model_dump(exclude_none=True))
    return ClusterSource(path.stem, settings, service, fabric, document), diagnostics


def _service(serve: object, document: Document, diagnostics: list[Diagnostic]) -> ServiceSource | None:
    if serve is None:
        return None
    if not isinstance(serve, str | dict):
        diagnostics.append(
            Diagnostic(
                document.where(("serve",)),
                f"'serve' is {describe(serve)}",
                "a recipe name or one service: a cluster serves one model",
                "change the value; put other services of a host into its host file",
                code="yaml-invalid-value",
            )
        )
        return None
    item = {"recipe": serve} if isinstance(serve, str) else serve
    return service_source(item, document, ("serve",), diagnostics)


def _network_diagnostics(settings: FabricSpec, document: Document) -> list[Diagnostic]:
    if settings.network is None:
        return []
    try:
        network = ipaddress.IPv4Network(settings.network)
    except ValueError:
        network = None
    smallest = SMALLEST_OF_RING if settings.ring else SMALLEST_NETWORK
    if network is not None and network.prefixlen <= smallest:
        return []
    return [
        Diagnostic(
            document.where(("fabric", "network")),
            f"'fabric.network' is {describe(settings.network)}",
            f"an IPv4 network of at least a /{smallest}, for example {Fabric().network}: one /24 per rail",
            "change the value",
            code="yaml-invalid-value",
        )
    ]


def _ring_diagnostics(settings: ClusterFile, document: Document) -> list[Diagnostic]:
    count = len(settings.hosts)
    if not settings.fabric.ring or count == RING:
        return []
    few = "remove 'ring': two Sparks are connected by one cable"
    many = "connect them to a switch and remove 'ring': NCCL needs a link between every two Sparks"
    return [
        Diagnostic(
            document.where(("fabric", "ring")),
            f"a ring of {count} Sparks",
            f"{RING} Sparks, each cabled with the two others",
            few if count < RING else many,
            code="cluster-hosts-invalid",
        )
    ]
