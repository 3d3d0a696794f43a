"""The probe's request and answer. The program that answers is sent with the request.

Its collectors return plain objects: dataclasses would take more of the probe's bytes and CPU than all that it
does. Each part of the answer is therefore an object here, and the operator's side checks it against its own
type, so that one wrong part is named and does not hide the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparkfleet.contract.codec import Document

Part = Mapping[str, Any]
"""A part, or ``{"error": ...}`` (with ``state`` if its cause is known) if it could not be read."""


@dataclass(frozen=True)
class PreflightRequest:
    """What a preflight reads besides."""

    urls: tuple[str, ...] = ()
    """Requested over the network."""
    programs: tuple[str, ...] = ()
    """Words that start an engine: systemd units and sudo rules are searched for them."""
    directories: tuple[str, ...] = ()
    """Directories of other tools that are reported."""


@dataclass(frozen=True)
class ProbeRequest(Document):
    """What the probe reads besides the host itself. Paths may begin with ``~`` (the login user's home)."""

    NAME = "request of the probe"

    runtimes: tuple[str, ...]
    """Runtimes whose instances and images are read, sorted; one at least."""
    services: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    weights: tuple[tuple[str, str], ...] = ()
    """Repository and commit of each model."""
    paths: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    """Ports whose listeners are needed; (): all."""
    models_dir: str = "~"
    cache_dir: str = "~"
    preflight: PreflightRequest | None = None
    """Run the preflight, too: it takes seconds."""
    stored: bool = False
    """List everything on the disks: for a prune."""
    resources: tuple[tuple[str, str, str], ...] | None = None
    """Kind, key and argument of each declared resource; those that runs applied are observed, too. None:
    neither, for a smaller probe."""
    recorded_kinds: tuple[str, ...] = ()
    """Kinds of resources that runs applied and that are no longer declared."""
    fabric: tuple[str, ...] = ()
    """Addresses that this Spark may get on its fabric links; (): it is in no cluster."""
    install: tuple[str, ...] = ()
    """Of ``docker`` and ``toolkit``, what may be installed: apt is simulated if it is missing."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of the resources that are observed."""
        return tuple(sorted({*(kind for kind, _, _ in self.resources or ()), *self.recorded_kinds}))


@dataclass(frozen=True)
class ProbeResponse(Document):
    """What the probe read; a part is None if it was not requested.

    The modules of ``onhost/collectors`` and ``runtimes/*/collectors`` have the members of each part.
    """

    NAME = "response of the probe"

    host: Part | None = None
    machine: Part | None = None
    """What identifies the host, and what members of a cluster have in common."""
    sudo: Part | None = None
    user: Part | None = None
    """The login user."""
    memory: Part | None = None
    disks: Part | None = None
    """File systems by what they are for."""
    runtimes: Part | None = None
    """By runtime: its instances and images."""
    toolkit: Part | None = None
    """The NVIDIA container toolkit."""
    systemd: Part | None = None
    state: Part | None = None
    """Texts of the files in the state directory."""
    paths: Part | None = None
    weights: Part | None = None
    listeners: Part | None = None
    """By port: who listens."""
    resources: Part | None = None
    fabric: Part | None = None
    packages: Part | None = None
    preflight: Part | None = None
    """Parts of a preflight."""
    stored: Part | None = None
