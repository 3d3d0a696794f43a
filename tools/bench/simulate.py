"""``sparkfleet plan`` of recorded Sparks: ``python -m tools.bench.simulate INVENTORY ANSWER``.

Everything on the controller is real except the SSH client: its connections succeed, and each remote command
returns the output in the file. So a fleet of any size can be planned, and the cost of a host without SSH is
measured.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sparkfleet.fleet.connection import pyinfra_patches


def main() -> None:
    """Plan, print the report, end with the plan's exit code."""
    inventory, recorded = Path(sys.argv[1]), Path(sys.argv[2])
    pyinfra_patches.before_connections()
    from pyinfra.connectors.ssh import SSHConnector  # noqa: PLC0415  (after the patches, as in the real command)
    from pyinfra.connectors.util import CommandOutput, OutputLine  # noqa: PLC0415

    from sparkfleet.fleet.run.fleet_plan import fleet_plan  # noqa: PLC0415
    from sparkfleet.plan.report import plan_text  # noqa: PLC0415
    from sparkfleet.terminal import echo_report  # noqa: PLC0415

    response = recorded.read_text().strip()

    def connect(_: SSHConnector) -> None:
        """Do nothing."""

    def run(_: SSHConnector, command: Any, **__: Any) -> tuple[bool, CommandOutput]:
        nonce = re.findall(r"sparkfleet-[0-9a-f]{16}", command.get_raw_value())[0]
        lines = (f"<<{nonce}>>", response, f"<</{nonce} 0>>")
        return True, CommandOutput([OutputLine("stdout", line) for line in lines])

    for name, function in (("connect", connect), ("run_shell_command", run)):
        setattr(SSHConnector, name, function)
    plan = fleet_plan(inventory)
    echo_report(plan_text(plan))
    sys.exit(plan.exit_code)


if __name__ == "__main__":
    main()
