"""A Spark that is converged once and shared by the tests of a module, which leave it converged."""

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
from tests.lab.served import fresh

Row = tuple[str, str, str, str]
"""Field, key, old and new of a change."""

NANO: Mapping[str, Any] = {"recipe": "nemotron-3-nano-30b-a3b-nvfp4", "name": "nano"}


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with the patch over it, mappings key by key."""
    out = copy.deepcopy(dict(base))
    for key, value in patch.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else copy.deepcopy(value)
    return out


@dataclass
class Converged:
    """spark-01 of a fleet of its own, serving ``base`` at the start of each test."""

    fleet: FleetDirectory
    spark: Machine
    base: Mapping[str, Any] = field(default_factory=lambda: {"serve": [dict(NANO)]})
    clean: bool = False
    """Whether it is known to be as ``base`` says."""

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
        """Bring it back to the base, unless it is known to be there."""
        if not self.clean:
            self.declare()
            self.fleet.extra.clear()
            self.fleet.set_group_data()
            self.fleet.lock()
            if self.fleet.run().code != 0:  # a test that failed left it beyond repair
                self.spark.reset()
                self.fleet.run().expect(0)
            self.expect_nothing_to_do()

    def changes(self) -> list[Row]:
        """Return what the plan lists."""
        return self.fleet.changes("spark-01")

    def expect_nothing_to_do(self) -> None:
        """Fail unless the plan is empty, and says so for the host."""
        seen = self.fleet.plan().expect(0)
        assert seen.out == "spark-01   no changes\n0 to change, 1 unchanged\n", seen.text
        self.clean = True

    def started_at(self, name: str = "nano") -> str:
        """Return when dockerd started the container."""
        return self.spark.sh(f"docker inspect -f '{{{{.State.StartedAt}}}}' {name}")

    def container_id(self, name: str = "nano") -> str:
        """Return the container's id."""
        return self.spark.sh(f"docker inspect -f '{{{{.Id}}}}' {name}")

    def served_names(self, port: int = 8000) -> str:
        """Return what the engine itself says that it serves."""
        return self.spark.sh(f"curl -sS --fail --max-time 10 http://127.0.0.1:{port}/v1/models")


def converged(lab: Lab, state: State, root: Path, base: Mapping[str, Any] | None = None) -> Converged:
    """Return a fresh spark-01 that serves ``base``."""
    made = Converged(FleetDirectory(root / "checkout", lab), fresh(lab, state, "spark-01")[0])
    if base is not None:
        made.base = base
    made.restore()
    return made
