"""Python packages that a service requires, and those that its image lacks."""

from __future__ import annotations

from collections.abc import Mapping

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name

from sparkfleet.config.merge import Layer
from sparkfleet.config.models import ServiceSpec
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import ImageRef
from sparkfleet.engines.base import Engine

Packages = tuple[tuple[str, str], ...]
"""Names and version ranges."""


def packages(needs: Mapping[str, str], spec: ServiceSpec, layer: Layer) -> tuple[Packages, list[Diagnostic]]:
    """Return the packages of a service, declared ones over ``needs``; and the errors of the declaration."""
    ranges: dict[str, str | None] = dict(needs)
    diagnostics = []
    for name, version_range in spec.packages.items():
        try:
            canonicalize_name(name, validate=True)
            SpecifierSet(version_range or "")
        except (InvalidName, InvalidSpecifier):
            text = f"'{name}: {version_range}' is not a Python package with a version range"
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
            ranges[name] = version_range
    return tuple(
        sorted((name, version_range) for name, version_range in ranges.items() if version_range is not None)
    ), diagnostics


def missing(image: ImageRef, required: Packages, engine: Engine) -> Packages:
    """Return the packages that the image may lack, by the version of its engine."""
    return engine.lacking_packages(required, engine.image_version(image)) if required else ()
