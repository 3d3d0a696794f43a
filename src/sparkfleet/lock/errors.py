"""Why an image, a model or a package could not be resolved or downloaded."""

from __future__ import annotations


class LockError(Exception):
    """What was found and what to do, for one entry; the caller knows where the entry was declared."""

    def __init__(self, found: str, remedy: str) -> None:
        """Keep both sentences."""
        super().__init__(found)
        self.found, self.remedy = found, remedy


class RegistryError(LockError):
    """An image could not be read from its registry."""


class HubError(LockError):
    """A model could not be read from the hub."""


class PackagesError(LockError):
    """Python packages could not be resolved or downloaded."""
