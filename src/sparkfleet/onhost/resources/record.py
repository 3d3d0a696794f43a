"""The record of what runs applied on this Spark: on disk before anything is changed."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from pathlib import Path

from sparkfleet.onhost.collectors import resources as collected
from sparkfleet.onhost.machine import files
from sparkfleet.resources.base import Applied

FILE = "prepared.json"


class Record:
    """Resources that runs applied on this Spark, each with what was there before."""

    def __init__(self, state: Path) -> None:
        """Read it, of an earlier version, too. Raise ValueError for a damaged or a later one."""
        self.path = state / FILE
        document = files.read_json(self.path)
        if document is None and self.path.exists():
            raise ValueError(
                f"{self.path} is not the record of this host's resources: restore it, or move it away"
            )
        data = collected.migrate(document or {})
        self.salt: str = data.get("salt") or secrets.token_hex(16)
        entries = data["resources"]
        self.entries: dict[str, Applied] = {name: Applied(**entry) for name, entry in entries.items()}

    def write(self) -> None:
        """Write it, readable by root alone."""
        entries = {name: asdict(entry) for name, entry in self.entries.items()}
        document = {"version": collected.RECORD_VERSION, "salt": self.salt, "resources": entries}
        files.write_json(self.path, document, 0o600)
