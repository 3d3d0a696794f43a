"""``sparkfleet render``: a Spark's services as docker commands, compose file or systemd units."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sparkfleet import runtimes, terminal
from sparkfleet.cli import arguments, completers
from sparkfleet.cli.render_formats import FORMATS
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.exit_codes import Code
from sparkfleet.suggest import did_you_mean

_OF_RUNTIMES = [form for name in runtimes.names() for form in runtimes.get(name).formats]


@click.command()
@arguments.FLEET
@click.argument("host", shell_complete=completers.hosts)
@click.option(
    "--format",
    "form",
    type=click.Choice(dict.fromkeys((*_OF_RUNTIMES, *FORMATS))),
    help=f"Output format.  [default: {runtimes.get(runtimes.DEFAULT).formats[0]}]",
)
@click.option(
    "--home", metavar="PATH", help="Home directory of the login user on the Spark.  [default: /home/USER]"
)
def render(inventory: Path, host: str, form: str | None, home: str | None) -> None:
    """Render the services of a Spark for docker, compose or systemd. Contacts no host.

    Services that are not pinned are left out, since their command depends on the image and the commit.

    Exit code: 0 success, 1 the fleet's files have errors or a service is not pinned.
    """
    from sparkfleet.cli import render_formats  # noqa: PLC0415
    from sparkfleet.inventory import Pins, load_fleet  # noqa: PLC0415
    from sparkfleet.probe.observation import User  # noqa: PLC0415

    fleet = load_fleet(inventory, pins=Pins.OPTIONAL)
    hosts = {spec.name: spec for spec in fleet.hosts}
    if host not in hosts:
        remedy = did_you_mean(host, hosts, f"sparkfleet render {inventory} {next(iter(hosts), 'HOST')}")
        raise SparkfleetError(
            Diagnostic(
                str(inventory),
                f"unknown host '{host}'",
                f"one of: {', '.join(hosts)}",
                remedy,
                code="host-unknown",
            )
        )
    spec = hosts[host]
    name = str(dict(spec.ssh).get("ssh_user") or "nvidia")
    user = User(name, home or f"/home/{name}", 1000, 1000, name)
    for warning in fleet.warnings:
        click.echo(f"warning: {warning}", err=True)
    generations = []
    unknown: list[Diagnostic] = []
    for service in spec.services:
        try:
            generations.append(render_formats.generation(spec, service, user))
        except SparkfleetError as error:
            unknown += error.diagnostics
    if spec.member is not None:
        click.echo(
            "note: cluster variables that name network interfaces are set on the Spark and are not shown",
            err=True,
        )
    if form == "json":
        click.echo(render_formats.as_json([one for _, one in generations]))
    elif form == "systemd":
        click.echo("\n".join(render_formats.systemd(one) for _, one in generations), nl=False)
    else:
        click.echo(render_formats.in_format(form or "", spec, generations, user), nl=False)
    for diagnostic in unknown:
        terminal.echo_diagnostic(diagnostic)
    sys.exit(Code.ERROR if unknown else Code.OK)
