"""Lab Sparks in one cluster, with what tests need of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.serving_fleet import RECIPE, reset_machines

NAMES = ("spark-01", "spark-02")
UNIT = "sparkfleet-wide.service"
LIMIT_S = 240
"""Seconds to wait for something that must happen without help; a limit, not a measurement."""
LAB = {"ulimits": {"memlock": 64 << 10}}
"""A machine of the lab may not raise its limits as RDMA needs it."""


@dataclass
class Pair:
    """Two Sparks of a fleet (or more) in one cluster that serves ``wide`` on port 8000."""

    fleet: FleetDirectory
    machines: tuple[Machine, ...]
    cluster: str = "pair"
    network: str = ""
    """Network of the fabric; "": the default one."""

    @property
    def head(self) -> Machine:
        return self.machines[0]

    @property
    def file(self) -> Path:
        return self.fleet.root / "inventories" / "lab" / "clusters" / f"{self.cluster}.yaml"

    def declare(self, executor: str = "mp", *, image: str = "", **flags: Any) -> None:
        """Write the cluster file; flags with ``_`` for ``-``."""
        path = self.file
        path.parent.mkdir(exist_ok=True)
        service: dict[str, Any] = {"recipe": RECIPE, "name": "wide", "container": LAB}
        service |= {"image": image} if image else {}
        service["flags"] = {name.replace("_", "-"): value for name, value in flags.items()}
        fields = {
            "hosts": [machine.name for machine in self.machines],
            "executor": executor,
            "serve": service,
        }
        if self.network:
            fields["fabric"] = {"network": self.network}
        path.write_text(yaml.safe_dump(fields, sort_keys=False))

    def containers(self) -> list[str]:
        """Return id and start of each rank's container."""
        return [m.sh("docker inspect -f '{{.Id}} {{.State.StartedAt}}' wide") for m in self.machines]

    def lengths(self) -> list[str]:
        """Return the --max-model-len of each rank's container, read from ``docker inspect``."""
        lengths = []
        for machine in self.machines:
            (outcome,) = json.loads(machine.sh("docker inspect wide"))
            lengths.append(outcome["Args"][outcome["Args"].index("--max-model-len") + 1])
        return lengths

    def change(self) -> tuple[str, str]:
        """Declare another --max-model-len than the ranks have; return the current and the declared one."""
        (current,) = set(self.lengths())
        new = 4096 if current != "4096" else 8192
        self.declare(max_model_len=new)
        return current, str(new)

    def serves(self) -> bool:
        """Return whether the head answers."""
        return self.head.ok("curl -sf --max-time 5 http://127.0.0.1:8000/v1/models")

    def wait(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds."""
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end, "\n".join(machine.evidence() for machine in self.machines)
            time.sleep(0.5)

    def run_with_fault(
        self, machine: Machine, fault: str, on_line: Callable[[str], object] = len
    ) -> tuple[int, str]:
        """Run while the engine of one machine has a fault; the rollback removes it.

        ``on_line`` is called with each line that the run prints.
        """
        file = "~nvidia/vllm/lab-engine.env"
        machine.sh(f"echo LAB_ENGINE={fault} > {file}")

        def see(line: str) -> None:
            on_line(line)
            if "wide restore" in line:
                machine.sh(f"rm -f {file}")

        found = self.run(see)
        machine.sh(f"rm -f {file}")
        return found

    def run(self, on_line: Callable[[str], object]) -> tuple[int, str]:
        """Run, and call ``on_line`` with each line that the run prints; return its exit code and output."""
        lines = []
        with self.fleet.start("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y") as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                on_line(line)
        return process.returncode, "".join(lines)

    def wait_until_idle(self) -> None:
        """Return when no rollout is in progress, and the service answers."""
        idle = 'for d in /var/lib/sparkfleet/rollouts/*/; do test -e "$d/result.json" || exit 1; done'
        self.wait(lambda: all(machine.ok(idle) for machine in self.machines))
        self.wait(self.serves)

    def expect_empty_plan(self) -> None:
        """Fail unless the plan is empty."""
        outcome = self.fleet.plan().expect(0)
        assert outcome.out.splitlines()[-1].startswith("0 to change, "), outcome.text


def empty_pair(lab: Lab, state: State, root: Path) -> Pair:
    """Return two fresh machines that do not serve yet."""
    pair = Pair(FleetDirectory(root / "checkout", lab), reset_machines(lab, state, *NAMES))
    for name in NAMES:
        pair.fleet.host(name, {"serve": None})
    return pair
