"""Units of services: what they wait for depends on the runtime."""

from __future__ import annotations

from sparkfleet.onhost.state import units

DAEMONS = ("docker.service",)


def test_a_unit_wants_the_runtimes_daemon_and_starts_after_it() -> None:
    text = units.service_unit("nano", "nano", 2048, 60, DAEMONS)
    assert f"\nAfter=docker.service {units.RECOVER}\nWants=docker.service\nStartLimitIntervalSec=" in text
    assert "\nAfter=docker.service\nWants=docker.service\n\n[Service]\n" in units.recover_unit(DAEMONS)


def test_a_runtime_without_a_daemon_has_a_unit_that_waits_for_none() -> None:
    text = units.service_unit("nano", "nano", 2048, 60, daemons=())
    assert "docker" not in text
    assert f"\nAfter={units.RECOVER}\nStartLimitIntervalSec=" in text
