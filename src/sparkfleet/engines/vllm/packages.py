"""Python packages in an image by its vLLM version: images have what the release requires."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sparkfleet.engines.vllm import schema

NO_RAY = Version("0.18")
"""First vLLM whose images have no Ray: NVIDIA's from 26.04 on, vllm-openai's from 0.18."""
RAY = "ray"
_LEAST = re.compile(r"(?:>=|==|~=)\s*([0-9][\w.!+]*)")


def included(version: str) -> Mapping[str, str]:
    """Return what images of a vLLM surely have: names and version ranges; nothing for one not known."""
    try:
        release = Version(version)
    except InvalidVersion:
        return {}
    known = schema.nearest(version)[0].packages
    found: dict[str, str] = {canonicalize_name(name): ranges for name, ranges in known.items()}
    if release >= NO_RAY:
        found.pop(canonicalize_name(RAY), None)
    return found


def lacking(required: Sequence[tuple[str, str]], version: str) -> tuple[tuple[str, str], ...]:
    """Return the packages (name, version range) that images of a vLLM do not surely have."""
    has = included(version)
    found = ((name, version_range, has.get(canonicalize_name(name))) for name, version_range in required)
    return tuple(
        (name, version_range) for name, version_range, ranges in found if not _fits(ranges, version_range)
    )


def _fits(ranges: str | None, version_range: str) -> bool:
    """Return whether the lowest version of a range satisfies the requirement."""
    if ranges is None or not version_range:
        return ranges is not None
    least = _LEAST.findall(ranges)
    try:
        return bool(least) and all(Version(one) in SpecifierSet(version_range) for one in least)
    except (InvalidVersion, InvalidSpecifier):
        return False
