"""Downloads the wheels of an offline mirror from the URLs in the lock file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx

from sparkfleet.desired_state.derived_packages import Wheel
from sparkfleet.lock.errors import PackagesError
from sparkfleet.offline.wheels import has, wheel_path

TIMEOUT = httpx.Timeout(60, connect=10)


def download(path: Path, wheel: Wheel, log: Callable[[str], None]) -> None:
    """Download a missing wheel. Raise ``PackagesError`` if it does not match its locked hash."""
    if has(path, wheel):
        return
    log(f"{wheel.name}: downloading {wheel.size >> 10} KiB")
    try:
        response = httpx.get(wheel.url, follow_redirects=True, timeout=TIMEOUT).raise_for_status()
    except httpx.HTTPError as error:
        message = f"{wheel.name} could not be downloaded: {str(error).splitlines()[0]}"
        raise PackagesError(
            message, "run again, or resolve the packages again: sparkfleet lock --update '*'"
        ) from error
    if hashlib.sha256(response.content).hexdigest() != wheel.sha256:
        message = f"{wheel.name} does not match its locked hash and was discarded"
        raise PackagesError(message, "run again; the index or a proxy in between may be faulty")
    final = wheel_path(path, wheel)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f"{final.name}.part")
    part.write_bytes(response.content)
    part.replace(final)
