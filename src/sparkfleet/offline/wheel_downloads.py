"""The wheels of an offline mirror, downloaded from where the lock file has them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx

from sparkfleet.config.resolved import Wheel
from sparkfleet.lock.packages import PackagesError
from sparkfleet.offline.wheels import is_there, place

TIMEOUT = httpx.Timeout(60, connect=10)


def bring(path: Path, wheel: Wheel, tell: Callable[[str], None]) -> None:
    """Download a wheel that is not there. Raise ``PackagesError`` if it does not come as locked."""
    if is_there(path, wheel):
        return
    tell(f"{wheel.name}: {wheel.size >> 10} KiB to download")
    try:
        answer = httpx.get(wheel.url, follow_redirects=True, timeout=TIMEOUT).raise_for_status()
    except httpx.HTTPError as error:
        found = f"{wheel.name} could not be downloaded: {str(error).splitlines()[0]}"
        raise PackagesError(found, "run again; or choose anew: sparkfleet lock --update '*'") from error
    if hashlib.sha256(answer.content).hexdigest() != wheel.sha256:
        found = f"{wheel.name} came with another content than the locked one: it is not kept"
        raise PackagesError(found, "run again; if it stays, the package index or a proxy before it is broken")
    final = place(path, wheel)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f"{final.name}.part")
    part.write_bytes(answer.content)
    part.replace(final)
