"""``sparkfleet init``: write a fleet directory that belongs to its owner."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet import terminal
from sparkfleet.cli import output
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

if TYPE_CHECKING:
    from sparkfleet.catalog.load import Catalog
    from sparkfleet.config.models import Recipe
    from sparkfleet.fleet.first_contact import Contact
    from sparkfleet.fleet_directory import NewHost

FIRST = "nemotron-3-nano-30b-a3b-nvfp4"
"""Proposed where it fits: the model that the project's own documents begin with."""
SHARE = 0.5
"""Of a Spark's memory that the weights of a proposed recipe may take: the rest is for KV cache and system."""
DISCOVERY_S = 5
"""Limit of the search for hosts on the network."""
_FROM_LOGIN = re.compile(r"^(?:# .* of memory.*|serve: \S+)\n", re.MULTILINE)
"""Lines of a host file that depend on what the login finds."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_HOST = re.compile(
    r"(?:(?P<name>[^=@\s]+)=)?(?:(?P<user>[^@=\s]+)@)?(?P<address>[^@=:\s]+)(?::(?P<port>\d+))?"
)


@click.command()
@click.argument(
    "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="[DIR]"
)
@click.option("--fleet", default="home", show_default=True, help="Name of the fleet.")
@click.option(
    "--host", "hosts", multiple=True, metavar="[NAME=][USER@]ADDRESS[:PORT]", help="A Spark; may be repeated."
)
@click.option(
    "--recipe", metavar="NAME", help="Serve this recipe on every Spark. Default: one that fits its memory."
)
@click.option("--no-login", is_flag=True, help="Do not test the logins.")
def init(directory: Path, fleet: str, hosts: tuple[str, ...], recipe: str | None, no_login: bool) -> None:
    """Write a fleet directory: inventory, host files, deploys, settings, README, CI workflow.

    Existing files are never changed. Without --host the command asks for names and addresses on a
    terminal, and shows the hosts of ~/.ssh/config and, if avahi-browse is installed, those that announce SSH
    on the network.
    """
    from importlib.metadata import version  # noqa: PLC0415

    from sparkfleet import fleet_directory  # noqa: PLC0415
    from sparkfleet.catalog.load import Catalog  # noqa: PLC0415

    catalog = Catalog.of()
    if recipe is not None:
        catalog.recipe(recipe)  # raises for an unknown name, with the nearest one
    if not _NAME.fullmatch(fleet):
        raise SparkfleetError(_name_diagnostic("--fleet", fleet))
    if not hosts and sys.stdin.isatty():
        hosts = _ask_hosts()
    new = parse_hosts(hosts)
    schemas = schema_files()

    def files(hosts: Sequence[NewHost]) -> dict[str, str]:
        every = fleet_directory.files(fleet, hosts, version("sparkfleet"), schemas)
        if (directory / fleet_directory.RECORD).exists():  # `upgrade` keeps it
            del every[fleet_directory.RECORD]
        return every

    refuse_conflicts(directory, files(new), ignored=_FROM_LOGIN)
    contacts = {} if no_login or not new else {one.name: one for one in _log_in(new)}
    new = [_with_recipe(host, contacts.get(host.name), recipe, catalog) for host in new]
    write(directory, files(new))
    _report(directory, fleet, new, contacts)


def schema_files() -> dict[str, str]:
    """Return the JSON Schemas of a fleet directory: kind -> text."""
    from sparkfleet.config.json_schema import schema  # noqa: PLC0415

    return {kind: json.dumps(schema(kind), indent=1) + "\n" for kind in ("host", "cluster", "recipe")}


def parse_hosts(texts: Sequence[str], option: str = "--host ") -> list[NewHost]:
    """Return the Sparks of ``[NAME=][USER@]ADDRESS[:PORT]``; a Spark without a name gets its address's.

    Raise SparkfleetError for what cannot be read, and for a name that appears twice.
    """
    from sparkfleet.fleet_directory import NewHost  # noqa: PLC0415

    diagnostics, hosts = [], []
    for text in texts:
        match = _HOST.fullmatch(text)
        if match is None:
            diagnostics.append(
                Diagnostic(
                    f"{option}{text}",
                    "invalid format",
                    "[NAME=][USER@]ADDRESS[:PORT]",
                    f"for example {option}spark-01=nvidia@192.168.1.21",
                    code="host-option",
                )
            )
            continue
        name = match["name"] or _name_of(match["address"])
        if not _NAME.fullmatch(name):
            diagnostics.append(_name_diagnostic(f"{option}{text}", name))
        hosts.append(NewHost(name, match["address"], match["user"] or "", int(match["port"] or 0)))
    names = [host.name for host in hosts]
    diagnostics += [
        Diagnostic(
            f"--host {name}", "the name appears twice", "a name for each Spark", "name them: NAME=ADDRESS",
            code="host-option",
        )
        for name in dict.fromkeys(names) if names.count(name) > 1
    ]  # fmt: skip
    if diagnostics:
        raise SparkfleetError(*diagnostics)
    return hosts


def _name_of(address: str) -> str:
    """Return a host's name: ``spark-9c2f.local`` -> ``spark-9c2f``, ``192.168.1.21`` -> ``spark-21``."""
    if re.fullmatch(r"[\d.]+", address):
        return f"spark-{address.rpartition('.')[2]}"
    return address.partition(".")[0].lower()


def _name_diagnostic(location: str, name: str) -> Diagnostic:
    example = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "spark-01"
    expected = "lower-case letters, digits and hyphens"
    return Diagnostic(
        location, f"invalid name {name!r}", expected, f"for example {example}", code="host-option"
    )


def recommend(recipes: Iterable[Recipe], memory_gib: float | None) -> str:
    """Return the recipe to begin with on a Spark with this much memory ("" = none fits).

    FIRST where it fits; else the one with the largest weights that was documented on a Spark, needs
    neither a token nor added packages, and serves from one Spark.
    """
    fits = {}
    for recipe in recipes:
        weights, needs = recipe.model_info.weights_gib, recipe.requires
        if weights is None or (memory_gib is not None and weights > SHARE * memory_gib):
            continue
        if recipe.status == "documented" and not needs.gated and not needs.packages and needs.sparks == 1:
            fits[recipe.recipe] = weights
    if FIRST in fits or not fits:
        return FIRST if fits else ""
    return max(fits, key=lambda name: (fits[name], name))


def _with_recipe(host: NewHost, contact: Contact | None, recipe: str | None, catalog: Catalog) -> NewHost:
    from dataclasses import replace  # noqa: PLC0415

    memory = contact.memory_gib if contact else None
    chosen = recipe or recommend(catalog.values(), memory)
    comment = f"{memory:.0f} GiB of memory" if memory else ""
    if not chosen:
        comment += ": no recipe of the catalog fits (sparkfleet catalog list --max-gib N)"
    return replace(host, recipe=chosen, comment=comment)


def _log_in(hosts: Sequence[NewHost]) -> list[Contact]:
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.fleet.first_contact import contacts  # noqa: PLC0415

    return contacts({host.name: _ssh_data(host) for host in hosts})


def _ssh_data(host: NewHost) -> Mapping[str, str | int]:
    data: dict[str, str | int] = {"ssh_hostname": host.address}
    return {
        **data,
        **({"ssh_user": host.user} if host.user else {}),
        **({"ssh_port": host.port} if host.port else {}),
    }


def _ssh_command(host: NewHost) -> str:
    from sparkfleet.fleet.connection.unreachable import address_of  # noqa: PLC0415

    return f"{address_of(host.name, _ssh_data(host)).ssh()} true"


def _ask_hosts() -> tuple[str, ...]:
    """Ask for the Sparks, with what SSH and the network know as a reminder."""
    known = configured_hosts(Path("~/.ssh/config").expanduser())
    if known:
        click.echo(f"Hosts of ~/.ssh/config: {', '.join(known)}")
    announced = announced_hosts()
    if announced:
        click.echo("Hosts that announce SSH on the network (mDNS):")
        for name, address in announced.items():
            click.echo(f"  {name}  {address}")
    text = click.prompt(
        "Sparks ([NAME=][USER@]ADDRESS, separated by spaces; empty: none yet)", default="", show_default=False
    )
    return tuple(str(text).split())


def announced_hosts() -> dict[str, str]:
    """Return the hosts that announce SSH by mDNS, as avahi-browse finds them: name -> address.

    None where the program is missing, fails, or takes longer than DISCOVERY_S.
    """
    import subprocess  # noqa: PLC0415  (on a terminal, without --host)

    from sparkfleet.fleet.connection.printable import printable  # noqa: PLC0415

    argv = ["avahi-browse", "--parsable", "--terminate", "--resolve", "_ssh._tcp"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=DISCOVERY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    hosts: dict[str, str] = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        # =;interface;protocol;service;type;domain;host name;address;port;text
        state, _, protocol, _, _, _, name, address, *_ = [*line.split(";"), *[""] * 8]
        if state == "=" and protocol == "IPv4" and name:
            hosts.setdefault(printable(name), printable(address))
    return dict(sorted(hosts.items()))


def configured_hosts(path: Path) -> list[str]:
    """Return the hosts that an SSH configuration names, without patterns."""
    from paramiko import SSHConfig  # noqa: PLC0415
    from paramiko.ssh_exception import ConfigParseError  # noqa: PLC0415

    try:
        names = SSHConfig.from_path(str(path)).get_hostnames()
    except (OSError, ConfigParseError):
        return []
    return sorted(name for name in names if not set(name) & set("*?!"))


def refuse_conflicts(
    directory: Path, files: Mapping[str, str], *, ignored: re.Pattern[str] | None = None
) -> None:
    """Raise SparkfleetError where an existing file has another content; ``ignored`` text does not count."""

    def compared(text: str) -> str:
        return ignored.sub("", text) if ignored else text

    differing = [
        name
        for name, text in files.items()
        if (directory / name).exists()
        and compared((directory / name).read_text(encoding="utf-8", errors="replace")) != compared(text)
    ]
    if differing:
        raise SparkfleetError(
            *(
                Diagnostic(
                    str(directory / name), "the file exists with another content", "a new directory",
                    f"of another version: sparkfleet upgrade {directory}; else edit the file, choose another "
                    "directory, or move the file away", code="file-exists",
                )
                for name in differing
            )
        )  # fmt: skip


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Write the files; existing ones with the same content stay.

    Raise SparkfleetError, before anything is written, where one has another content.
    """
    refuse_conflicts(directory, files)
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text, encoding="utf-8")


def _report(directory: Path, fleet: str, hosts: Sequence[NewHost], contacts: Mapping[str, Contact]) -> None:
    click.echo(f"wrote {directory / 'inventories' / fleet}.py and {output.count(len(hosts), 'host file')}")
    for host in hosts:
        contact = contacts.get(host.name)
        if contact is not None and contact.diagnostic is not None:
            terminal.echo_diagnostic(contact.diagnostic)
        serves = f"serve {host.recipe}" if host.recipe else "no recipe fits"
        memory = f"{contact.memory_gib:.0f} GiB, " if contact and contact.memory_gib else "memory unknown, "
        click.echo(f"  {host.name}  {memory}{serves}")
    where = f"cd {directory} && " if directory != Path() else ""
    click.echo("\nnext:")
    for host in hosts:
        contact = contacts.get(host.name)
        if contact is not None and contact.diagnostic is not None:
            click.echo(f"  {_ssh_command(host)}     # must log in without a password")
    if not hosts:
        file = directory / "inventories" / fleet / "HOST.yaml"
        click.echo(f"  write {file} for each Spark, or run this command again with --host")
    click.echo(f"  {where}sparkfleet lock inventories/{fleet}.py     # pins images and models")
    click.echo(
        f"  sparkfleet plan inventories/{fleet}.py     # shows the changes; sparkfleet apply makes them"
    )
