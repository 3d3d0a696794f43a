"""Errors of every runtime, without imports: the probe has them, too."""

from __future__ import annotations

DOWN, MISSING, DENIED, HANGS = "down", "missing", "denied", "hangs"
"""Not running; not installed; no permission; no response in time."""


class RuntimeUnavailableError(Exception):
    """The daemon of the runtime does not answer; ``state`` is one of the four above."""

    def __init__(self, message: str = "", state: str = DOWN) -> None:
        """Keep the message and the state."""
        super().__init__(message)
        self.state = state


class RuntimeRefusedError(Exception):
    """The runtime answered with an error. ``str()`` is its own text."""

    def __init__(self, message: str, status: int = 0) -> None:
        """Keep the runtime's text and its status (HTTP status of an API; 0 = none)."""
        super().__init__(message)
        self.status = status
