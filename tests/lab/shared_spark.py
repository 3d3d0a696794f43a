"""A Spark that is converged once and shared by the tests of a module, which restore it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.serving_fleet import reset_machines

Row = tuple[str, str, str, str]
"""Field, key, old and new of a change."""

NANO: Mapping[str, Any] = {"recipe": "nemotron-3-nano-30b-a3b-nvfp4", "name": "nano"}


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with the patch merged into it, mappings key by key."""
    out = copy.deepcopy(dict(base))
    for key, value in patch.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else copy.deepcopy(value)
    return out


@dataclass
class SharedSpark:
    """spark-01 of a fleet of its own, serving ``base`` at the start of each test."""

    fleet: FleetDirectory
    spark: Machine
    base: Mapping[str, Any] = field(default_factory=lambda: {"serve": [dict(NANO)]})
    clean: bool = False
    """Whether the Spark is known to serve ``base``."""

    def declare(
        self,
        patch: Mapping[str, Any] | None = None,
        *,
        beside: Sequence[Mapping[str, Any]] = (),
        **more: Any,
    ) -> None:
        """Write the host file: the base, a patch over its first service, further services and keys."""
        first, *rest = self.base["serve"]
        self.clean = False
        serve = [merged(first, patch or {}), *rest, *map(dict, beside)]
        self.fleet.host("spark-01", {**self.base, **more, "serve": serve})

    def restore(self) -> None:
        """Converge to the base again, unless the Spark is known to serve it."""
        if not self.clean:
            self.declare()
            self.fleet.extra.clear()
            self.fleet.set_group_data()
            self.fleet.lock()
            if self.fleet.run().code != 0:  # a failed test left a state that a run cannot converge
                self.spark.reset()
                self.fleet.run().expect(0)
            self.expect_empty_plan()

    def changes(self) -> list[Row]:
        """Return what the plan lists."""
        return self.fleet.changes("spark-01")

    def expect_empty_plan(self) -> None:
        """Fail unless the plan is empty and reports the host as unchanged."""
        outcome = self.fleet.plan().expect(0)
        assert outcome.out == "spark-01   no changes\n0 to change, 1 unchanged\n", outcome.text
        self.clean = True

    def started_at(self, name: str = "nano") -> str:
        """Return when dockerd started the container."""
        return self.spark.sh(f"docker inspect -f '{{{{.State.StartedAt}}}}' {name}")

    def container_id(self, name: str = "nano") -> str:
        """Return the container's id."""
        return self.spark.sh(f"docker inspect -f '{{{{.Id}}}}' {name}")

    def served_names(self, port: int = 8000) -> str:
        """Return the response of the engine's ``/v1/models``."""
        return self.spark.sh(f"curl -sS --fail --max-time 10 http://127.0.0.1:{port}/v1/models")


def converge_spark(lab: Lab, state: State, root: Path, base: Mapping[str, Any] | None = None) -> SharedSpark:
    """Return a fresh spark-01 that serves ``base``."""
    shared = SharedSpark(FleetDirectory(root / "checkout", lab), reset_machines(lab, state, "spark-01")[0])
    if base is not None:
        shared.base = base
    shared.restore()
    return shared
