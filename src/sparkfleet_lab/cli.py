"""``sparkfleet lab``: Sparks made of containers, for trials and tests."""

from __future__ import annotations

import dataclasses
import json
import os
import sys

import click

from sparkfleet_lab.names import Lab, find_lab


@click.group()
def lab() -> None:
    """Sparks made of containers: each runs systemd, sshd and its own Docker daemon; the rest are stand-ins.

    The state is in .lab/ of the working directory. SPARKFLEET_LAB=NAME selects another lab.
    """


@lab.command()
@click.option("--sparks", default=2, show_default=True, metavar="N", help="How many machines.")
@click.option("--warm", is_flag=True, help="Load the engine images into the machines.")
@click.option("--ring", is_flag=True, help="Three machines, each linked to the other two.")
@click.option("--containerd", is_flag=True, help="New machines use Docker's containerd image store.")
def up(sparks: int, warm: bool, ring: bool, containerd: bool) -> None:
    """Start machines, registry and hub. The first start takes minutes, later ones seconds."""
    from sparkfleet_lab.docker import Docker  # noqa: PLC0415  (keeps the import of the command line fast)
    from sparkfleet_lab.lifecycle import up as lab_up  # noqa: PLC0415

    current_lab = find_lab()
    state = lab_up(Docker(), current_lab, sparks, _report, warm=warm, ring=ring, containerd=containerd)
    click.echo(f"connect:     ssh -F {_short(current_lab)}/ssh_config {state.machines[0].name}")
    click.echo(f"remove:      {_env(current_lab)}sparkfleet lab down")


@lab.command()
@click.option("--images", is_flag=True, help="Remove the cached images, too.")
def down(images: bool) -> None:
    """Remove every container, network, volume and file of the lab."""
    from sparkfleet_lab.docker import Docker  # noqa: PLC0415
    from sparkfleet_lab.lifecycle import down as lab_down  # noqa: PLC0415

    lab_down(Docker(), find_lab(), images, _report)


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def status(as_json: bool) -> None:
    """Show the parts of the lab and how to connect."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from sparkfleet_lab.docker import Docker  # noqa: PLC0415
    from sparkfleet_lab.state import require_state  # noqa: PLC0415
    from sparkfleet_lab.status import status as rows_of  # noqa: PLC0415

    current_lab = find_lab()
    state = require_state(current_lab)
    rows = rows_of(Docker(), current_lab, state)
    if as_json:
        images = dict(state.images)
        click.echo(
            json.dumps(
                {"lab": current_lab.prefix, "parts": [dataclasses.asdict(r) for r in rows], "images": images}
            )
        )
        return
    table = Table(box=SIMPLE_HEAD, title=f"lab {current_lab.name}", title_justify="left")
    for heading in ("name", "state", "address", "lan", "fabric", "broken"):
        table.add_column(heading, no_wrap=heading != "broken")
    for row in rows:
        table.add_row(row.name, row.state, row.address, row.lan, row.fabric, ", ".join(row.faults))
    Console().print(table)
    click.echo(f"log in: ssh -F {_short(current_lab)}/ssh_config {state.machines[0].name}")


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def exec_(host: str, arguments: tuple[str, ...]) -> None:
    """Run a command as root on a machine, without SSH. One argument with spaces runs in a shell."""
    from sparkfleet_lab.state import require_state  # noqa: PLC0415

    current_lab = find_lab()
    if host not in ("registry", "hub"):
        require_state(current_lab).machine(host)
    terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    command = ["sh", "-c", arguments[0]] if len(arguments) == 1 else list(arguments)
    sys.stdout.flush()
    os.execvp("docker", ["docker", "exec", "-i", *terminal, current_lab.container(host), *command])  # noqa: S606


@lab.command("break")
@click.argument("host", required=False)
@click.argument("fault", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the faults.")
def break_(host: str | None, fault: str | None, as_list: bool) -> None:
    """Apply a fault to a machine, the registry or the hub."""
    from sparkfleet_lab.docker import Docker  # noqa: PLC0415
    from sparkfleet_lab.fault_table import FAULTS  # noqa: PLC0415
    from sparkfleet_lab.faults import break_host  # noqa: PLC0415
    from sparkfleet_lab.state import require_state  # noqa: PLC0415

    if as_list:
        for entry in FAULTS:
            click.echo(f"{'HOST' if entry.role == 'spark' else entry.role:9} {entry.name:16} {entry.text}")
        return
    if not host or not fault:
        raise click.UsageError("missing arguments: sparkfleet lab break HOST FAULT (--list shows the faults)")
    current_lab = find_lab()
    done = break_host(Docker(), current_lab, require_state(current_lab), host, fault)
    click.echo(f"{host}: {done.text}")
    if done.repair or done.repair_lab:
        click.echo(f"repair it: {_env(current_lab)}sparkfleet lab repair {host}")


@lab.command()
@click.argument("host")
def repair(host: str) -> None:
    """Repair every fault of a machine, the registry or the hub."""
    from sparkfleet_lab.docker import Docker  # noqa: PLC0415
    from sparkfleet_lab.faults import repair_host  # noqa: PLC0415
    from sparkfleet_lab.state import require_state  # noqa: PLC0415

    current_lab = find_lab()
    names = repair_host(Docker(), current_lab, require_state(current_lab), host)
    click.echo(f"{host}: {', '.join(names) if names else 'no faults'}")


def _report(text: str) -> None:
    click.echo(text, err=True)


def _short(current_lab: Lab) -> str:
    return os.path.relpath(current_lab.directory)


def _env(current_lab: Lab) -> str:
    return "" if current_lab.name == "default" else f"SPARKFLEET_LAB={current_lab.name} "
