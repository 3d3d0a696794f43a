"""Why an image, a model or a package could not be resolved or downloaded."""

from __future__ import annotations

from typing import ClassVar

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError


class LockError(SparkfleetError):
    """What was found and what to do, for one entry; the caller knows where the entry was declared."""

    CODE: ClassVar[str]

    def __init__(self, found: str, remedy: str) -> None:
        """Build the diagnostic; its location is left to the caller."""
        super().__init__(Diagnostic("", found, hint=remedy, code=self.CODE))


class RegistryError(LockError):
    """An image could not be read from its registry."""

    CODE = "lock-image-unresolved"


class HubError(LockError):
    """A model could not be read from the hub."""

    CODE = "lock-model-unresolved"


class PackagesError(LockError):
    """Python packages could not be resolved or downloaded."""

    CODE = "lock-packages-unresolved"
