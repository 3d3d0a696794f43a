"""Checks of pyinfra's command line, called from ``config.py``: errors come at once."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pyinfra.context import ctx_state

from sparkfleet import gc_control, interrupts, terminal
from sparkfleet.config import load
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.errors import name_inventory, paragraph
from sparkfleet.exit_codes import Code
from sparkfleet.fleet.connection import known_hosts, pyinfra_patches
from sparkfleet.fleet.run import fleet_run, pyinfra_output
from sparkfleet.inventory import LOCAL, host_names, inventory_missing, unknown_hosts

_WITHOUT_PROMPT = {"-y", "--yes", "--dry", "--json", "debug-inventory"}


def diagnostic_of(arguments: Sequence[str], interactive: bool) -> Diagnostic | None:
    """Return an error in the arguments that pyinfra would accept, or exit with 0 for; else None.

    pyinfra 3.10 takes an inventory path that does not exist for a host name, shows nothing for ``--dry -y``,
    and ends with a traceback when it cannot prompt.
    """
    inventory = next((one for one in arguments if one.endswith(".py")), None)
    if inventory is not None and not Path(inventory).exists():
        return _missing(Path(inventory))
    if inventory is not None and (diagnostic := _unknown_limit(Path(inventory), arguments)):
        return diagnostic
    if "--dry" in arguments and {"-y", "--yes"} & set(arguments):
        return Diagnostic(
            "pyinfra",
            "--dry together with -y",
            "one of them",
            "remove -y to see the plan",
            code="confirmation-required",
        )
    if not interactive and not _WITHOUT_PROMPT & set(arguments):
        return Diagnostic(
            "pyinfra",
            "no terminal for the confirmation prompt",
            "-y, --dry or a terminal",
            "add -y to apply, --dry to see the plan",
            code="confirmation-required",
        )
    return None


def _missing(inventory: Path) -> Diagnostic:
    try:
        return inventory_missing(load.fleet_paths(inventory).inventory)
    except SparkfleetError as error:
        return error.diagnostics[0]


def _unknown_limit(inventory: Path, arguments: Sequence[str]) -> Diagnostic | None:
    """Return an error for a ``--limit`` or ``--exclude`` that matches no host.

    pyinfra would do nothing and exit with 0, or change the host that was to be left out.
    """
    names = host_names(inventory)
    groups = {"all", inventory.stem, *_assigned(inventory)}
    named = {}
    for option in ("--limit", "--exclude"):
        values = [after for before, after in pairwise(arguments) if before == option]
        values += [one.removeprefix(f"{option}=") for one in arguments if one.startswith(f"{option}=")]
        named[option] = [name for name in values if name not in groups]
    return next(iter(unknown_hosts(named, [*names, LOCAL] if names else [])), None)


def _assigned(inventory: Path) -> set[str]:
    """Return the variables of an inventory file, which pyinfra takes for groups."""
    tree = ast.parse(inventory.read_text(encoding="utf-8"))
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def configure() -> None:
    """Check the arguments (exit 1 if wrong), patch pyinfra, and record connection errors for the report."""
    name_inventory(next((one for one in sys.argv[1:] if one.endswith(".py")), ""))
    diagnostic = diagnostic_of(sys.argv[1:], sys.stdin is not None and sys.stdin.isatty())
    if diagnostic is not None:
        sys.stderr.write(f"{paragraph(diagnostic)}\n")
        raise SystemExit(Code.ERROR)
    terminal.tolerate_output_errors()
    interrupts.end_on_interrupt()
    interrupts.wake_event_loop()
    pyinfra_output.install()
    gc_control.pause()
    os.environ.setdefault("PYINFRA_PROGRESS", "off")  # sparkfleet shows its own
    known_hosts.use()
    pyinfra_patches.remember_connectors()
    pyinfra_patches.decode_any_bytes()
    pyinfra_patches.compare_macs_at_once()
    pyinfra_patches.order_operations_by_frames()
    if ctx_state.isset():
        fleet_run.watch_connections(ctx_state.get())
