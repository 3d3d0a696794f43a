"""What all tests share."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Lab machines work meanwhile: how long an example takes says how busy this computer is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

ON_MACHINES = ("tests/lab/", "tests/real_vllm/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests on lab machines to one process, whatever ``--dist`` says: there is one lab."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # noqa: PLC0415  (where the plugin is in use)

    class OneLab(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "lab" if nodeid.startswith(ON_MACHINES) else super()._split_scope(nodeid)

    return OneLab(config, log)
