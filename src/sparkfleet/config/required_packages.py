"""Which Python packages a service needs, and which of them its image lacks."""

from __future__ import annotations

from collections.abc import Mapping

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name

from sparkfleet.config.merge import Layer
from sparkfleet.config.models import ServiceSpec
from sparkfleet.config.resolved import ImageRef
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.base import Engine

Packages = tuple[tuple[str, str], ...]
"""Names and version ranges."""


def packages(needs: Mapping[str, str], spec: ServiceSpec, layer: Layer) -> tuple[Packages, list[Diagnostic]]:
    """Return what a service needs: what others ask for it, then what is written; and what is wrong there."""
    found: dict[str, str | None] = dict(needs)
    diagnostics = []
    for name, asked in spec.packages.items():
        try:
            canonicalize_name(name, validate=True)
            SpecifierSet(asked or "")
        except (InvalidName, InvalidSpecifier):
            text = f"'{name}: {asked}' is not a Python package with a version range"
            remedy = 'for example  scipy: ">=1"  or  scipy: ""'
            diagnostics.append(
                Diagnostic(
                    layer.where(("packages", name)),
                    text,
                    "a package name and a version range",
                    remedy,
                    code="package-range-invalid",
                )
            )
        else:
            found[name] = asked
    return tuple(sorted((name, asked) for name, asked in found.items() if asked is not None)), diagnostics


def lacking(image: ImageRef, required: Packages, engine: Engine) -> Packages:
    """Return the packages that the image does not surely have, by the engine's version in it."""
    return engine.lacking_packages(required, engine.image_version(image)) if required else ()
