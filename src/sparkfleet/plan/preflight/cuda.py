"""The CUDA version of a driver, and whether it is sufficient for an image.

Sources: CUDA release notes (table of driver versions), CUDA compatibility guide (minor version compatibility
within a major release since CUDA 11), NVIDIA container toolkit (``NVIDIA_REQUIRE_CUDA``: alternatives
separated by spaces, their conditions by commas).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sparkfleet.plan.preflight.model import Check, failed, incomplete, warned

BRANCHES = {
    525: "12.0",
    530: "12.1",
    535: "12.2",
    545: "12.3",
    550: "12.4",
    555: "12.5",
    560: "12.6",
    565: "12.7",
    570: "12.8",
    575: "12.9",
    580: "13.0",
    590: "13.1",
    615: "13.4",
}
"""First driver branch of each CUDA release; that of 13.4 from NVIDIA/cutlass v4.8.0dev."""

Version = tuple[int, ...]
MISMATCH = "driver-mismatch"


def version(text: str) -> Version:
    """Return the numbers of a version; empty for a text that begins with none."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def of_driver(driver: str, reported: str = "") -> str:
    """Return the newest CUDA of a driver: as reported, else by its branch; "" if it is too old."""
    if reported:
        return reported
    branch = next(iter(version(driver)), 0)
    known = [number for number in BRANCHES if number <= branch]
    return BRANCHES[max(known)] if known else ""


def of_image(env: Mapping[str, str], tag: str) -> str:
    """Return the CUDA of an image by its variables, else by its tag (cu129, cu130); "" when not known."""
    if env.get("CUDA_VERSION"):
        return env["CUDA_VERSION"]
    match = re.search(r"\bcu(\d\d)(\d)\b", tag)
    return f"{match[1]}.{match[2]}" if match else ""


def is_older(driver: str, needed: str) -> bool:
    """Tell whether a driver is older than the one that an image was built for; False if one is unknown."""
    return bool(version(driver) and version(needed)) and version(driver) < version(needed)


def fit(
    name: str, driver: str, reported: str, image_cuda: str, env: Mapping[str, str], *, needed: str = ""
) -> Check:
    """Return the check of a driver against an image with this CUDA and these variables.

    ``needed``: the driver that the image was built for; "" if unknown.
    """
    runs = of_driver(driver, reported)
    text = f"driver {driver} runs CUDA {runs or 'of an unknown version'}, the image has {image_cuda or '?'}"
    if is_older(driver, needed):
        text += f" and was built for driver {needed}"
    refused = unsatisfied(env, driver, runs)
    if refused:
        return failed(
            name,
            f"{text} and requires {refused}: the container would not start",
            refused,
            "a newer driver (sudo apt-get update && sudo apt-get dist-upgrade, reboot), or an older image",
            code=MISMATCH,
        )
    if not image_cuda or not runs:
        hint = "" if image_cuda else "try it: sparkfleet status INVENTORY --preflight --run"
        return incomplete(name, text, hint)
    have, need = version(runs)[:2], version(image_cuda)[:2]
    if have >= need:
        return Check(name, text)
    newer = (
        "leave the image's entrypoint as it is: NVIDIA's sets up forward compatibility; or use an older "
        "image; or: sudo apt-get update && sudo apt-get dist-upgrade, reboot"
    )
    if have[0] == need[0]:
        return warned(
            name,
            f"{text}: runs by minor version compatibility, without new features of {image_cuda}",
            f"a driver for CUDA {'.'.join(map(str, need))}",
            newer,
            code=MISMATCH,
        )
    return warned(
        name,
        f"{text}: another major release, it needs the image's own compatibility package to work",
        f"a driver for CUDA {need[0]}",
        newer,
        code=MISMATCH,
    )


def unsatisfied(env: Mapping[str, str], driver: str, runs: str) -> str:
    """Return the requirement of an image that a driver does not meet; "" if it is met or disabled."""
    demand = env.get("NVIDIA_REQUIRE_CUDA", "").split()
    if not demand or env.get("NVIDIA_DISABLE_REQUIRE", "").lower() in {"1", "true"}:
        return ""
    # Brand and architecture are unknown here: only versions are compared, other conditions count as met.
    facts = {"cuda": version(runs), "driver": version(driver)}
    if any(_met(conditions, facts) for conditions in demand):
        return ""
    return demand[0]


def _met(conditions: str, facts: Mapping[str, Version]) -> bool:
    for condition in conditions.split(","):
        match = re.fullmatch(r"(cuda|driver)(>=|<=|!=|=|<|>)([\d.]+)", condition)
        if match is None or not facts[match[1]]:
            continue
        required = version(match[3])
        have = facts[match[1]][: len(required)]
        met = {
            ">=": have >= required,
            "<=": have <= required,
            "=": have == required,
            "!=": have != required,
            "<": have < required,
            ">": have > required,
        }
        if not met[match[2]]:
            return False
    return True
