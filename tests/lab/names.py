"""The names of the labs that tests use."""

from __future__ import annotations

import os


def lab_name(suffix: str = "") -> str:
    """Return a lab's name: each pytest process has its own labs and can run beside others."""
    parts = (os.environ.get("SPARKFLEET_TEST_LAB", "test"), os.environ.get("PYTEST_XDIST_WORKER"), suffix)
    return "-".join(part for part in parts if part)
