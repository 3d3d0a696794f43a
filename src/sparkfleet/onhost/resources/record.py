"""The record of what runs applied on this Spark: on disk before anything is changed."""

from __future__ import annotations

import secrets
from pathlib import Path

from sparkfleet.contract.resources import AppliedResources
from sparkfleet.onhost.machine import files

FILE = "prepared.json"


class Record:
    """Resources that runs applied on this Spark, each with what was there before."""

    def __init__(self, state: Path) -> None:
        """Read it, of an older version, too. Raise ContractError for a damaged or a newer one."""
        self.path = state / FILE
        document = files.read_document(AppliedResources, self.path) or AppliedResources({})
        self.salt, self.entries = document.salt or secrets.token_hex(16), document.resources

    def write(self) -> None:
        """Write it, readable by root alone."""
        files.write_document(self.path, AppliedResources(self.entries, self.salt), 0o600)
