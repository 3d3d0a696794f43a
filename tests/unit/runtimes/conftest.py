from __future__ import annotations

from tests.unit.onhost.conftest import world
from tests.unit.runtimes.process_runtime import process_runtime

__all__ = ["process_runtime", "world"]
