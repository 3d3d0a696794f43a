"""A lab's name and directory of state: derived from its checkout, so that labs can run side by side."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

LABEL = "io.sparkfleet.lab"
"""Label of every container, network and volume of a lab; its value is the lab's prefix."""

IMAGES = "sparkfleet-lab"
"""Repository prefix of the images that are kept between labs."""


@dataclass(frozen=True)
class Lab:
    """One lab: the checkout it belongs to, and a name when there is more than one."""

    checkout: Path
    name: str = "default"

    @property
    def prefix(self) -> str:
        """Return the prefix of every docker name of this lab: a hash of the checkout's path, and the name."""
        digest = hashlib.sha256(str(self.checkout).encode()).hexdigest()[:8]
        return f"sflab-{digest}-{self.name}"

    @property
    def directory(self) -> Path:
        """Return the directory of state, keys and generated configuration."""
        return self.checkout / ".lab" / self.name

    @property
    def ssh_config(self) -> Path:
        """Return the ssh_config that reaches the lab's machines."""
        return self.directory / "ssh_config"

    def container(self, host: str) -> str:
        """Return the docker name of a machine or service of this lab."""
        return f"{self.prefix}-{host}"


def find_lab(start: Path | None = None, name: str | None = None) -> Lab:
    """Return the lab of the checkout around ``start`` (default: the working directory).

    The checkout is the nearest directory upwards with ``inventories/``; without one, ``start`` itself. The
    environment's ``SPARKFLEET_LAB`` names a lab beside the default one, or is the path of a lab's directory.
    """
    chosen = name or os.environ.get("SPARKFLEET_LAB") or "default"
    if "/" in chosen:
        directory = Path(chosen).resolve()
        return Lab(directory.parent.parent, directory.name)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", chosen):
        raise SparkfleetError(
            Diagnostic(
                "SPARKFLEET_LAB",
                f"{chosen!r} is not a valid name of a lab",
                "lower-case letters, digits and -, at most 31; or the path of a lab's directory",
                "export SPARKFLEET_LAB=test",
                code="lab-argument-invalid",
            )
        )
    directory = (start or Path.cwd()).resolve()
    checkout = next((p for p in (directory, *directory.parents) if (p / "inventories").is_dir()), directory)
    return Lab(checkout, chosen)
