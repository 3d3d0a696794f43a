"""An image by its digest, from its registry to this Spark's dockerd, with progress."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine

TELL_EVERY_S = 5.0
"""Seconds between two lines of progress."""


class StageError(Exception):
    """A job cannot go on; carries cause, remedy and the line itself."""

    def __init__(
        self, cause: str, remedy: str, line: str = "", *, elsewhere: bool = False, refused: bool = False
    ) -> None:
        """Keep the parts. ``elsewhere``: the same thing may be had from another Spark, or from outside.

        ``refused``: by the hub, which would refuse it to every Spark.
        """
        super().__init__(cause)
        self.result: dict[str, Any] = {"outcome": "failed", "cause": cause, "remedy": remedy, "line": line}
        if elsewhere:
            self.result["elsewhere"] = True
        if refused:
            self.result["refused"] = True


def pull(reference: str, home: Path, journal: Journal) -> int:
    """Pull ``repository@digest`` unless it is here; return the bytes of the layers that came.

    Raise StageError when it is not here then.
    """
    if DockerEngine().has_image(reference):
        return 0
    name = reference.partition("@")[0]
    return pull_as(reference, reference, credentials(name, home), journal)


def pull_as(reference: str, asked: str, auth: str, journal: Journal) -> int:
    """Pull an image under the name ``asked``, which has the same digest. ``auth``: X-Registry-Auth."""
    engine = DockerEngine()
    name = reference.partition("@")[0]
    journal.log("phase", f"{name} begins", phase="pull")
    layers: dict[str, tuple[int, int]] = {}
    diagnostic, last = "", time.monotonic()
    try:
        for event in engine.pull(asked, auth):
            diagnostic = str(event.get("error") or diagnostic)
            detail = event.get("progressDetail") or {}
            if event.get("status") == "Downloading" and detail.get("total"):
                layers[str(event["id"])] = (detail["current"], detail["total"])
            if layers and time.monotonic() - last > TELL_EVERY_S:
                last = time.monotonic()
                have, total = (sum(pair[i] for pair in layers.values()) for i in (0, 1))
                text = f"{name} {have >> 20} of {total >> 20} MiB"
                journal.log("phase", text, phase="pull", have=have, total=total)
    except (RuntimeRefusedError, RuntimeUnavailableError) as error:
        diagnostic = diagnostic or str(error)
    if diagnostic or not engine.has_image(reference):
        cause = f"image {name} could not be pulled: {diagnostic or 'no reason given'}"
        raise StageError(cause, remedy_for(diagnostic, name))
    journal.log("phase", f"{name} is here", phase="pull")
    return sum(total for _, total in layers.values())


def remedy_for(diagnostic: str, name: str) -> str:
    """Return the next command for what dockerd said of a failed pull."""
    if re.search(r"unauthorized|denied|authentication required", diagnostic):
        return f"on the Spark: docker login {name.split('/', maxsplit=1)[0]}; then run again"
    if re.search(r"manifest unknown|not found", diagnostic):
        return "the digest is gone from the registry: sparkfleet lock --update, then run again"
    if "no space left" in diagnostic:
        return "docker image prune; then run again: whole layers are kept"
    return "check the registry's reach from the Spark, then run again: whole layers are kept"


def credentials(name: str, home: Path) -> str:
    """Return the X-Registry-Auth header from the login user's or root's docker config, "" for none."""
    registry = name.split("/", maxsplit=1)[0]
    keys = {registry, f"https://{registry}"} | (
        {"https://index.docker.io/v1/"} if registry == "docker.io" else set()
    )
    for folder in (home, Path("/root")):
        config = files.read_json(folder / ".docker" / "config.json") or {}
        known, helpers = config.get("auths") or {}, config.get("credHelpers") or {}
        for key in keys & (known.keys() | helpers.keys()):
            if key in helpers:
                user, password = _kept_by_helper(str(helpers[key]), key)
            else:
                user, _, password = base64.b64decode(known[key].get("auth", "")).decode().partition(":")
            if not password:
                continue
            words = {"username": user, "password": password, "serveraddress": key}
            return base64.urlsafe_b64encode(json.dumps(words).encode()).decode()
    return ""


def _kept_by_helper(name: str, server: str) -> tuple[str, str]:
    """Return user and password that a credential helper keeps; empty ones when it has none."""
    try:
        said = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=server,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found = json.loads(said.stdout)
        return str(found["Username"]), str(found["Secret"])
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return "", ""
