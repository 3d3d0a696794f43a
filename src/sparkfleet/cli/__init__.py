"""``sparkfleet``: the command line. Each command is imported on use."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click

from sparkfleet import data_files, gc_control, interrupts, terminal
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.errors import error_text, name_inventory
from sparkfleet.exit_codes import Code

COMMANDS = {
    "init": ("sparkfleet.cli.init", "Write a fleet directory: inventory, host files, deploys, settings."),
    "upgrade": ("sparkfleet.cli.upgrade", "Bring the templates of this version into a fleet directory."),
    "add-host": ("sparkfleet.cli.add", "Add a Spark to a fleet: write its host file."),
    "add-service": ("sparkfleet.cli.add", "Add a service to a host file; its comments and layout stay."),
    "check": ("sparkfleet.cli.check", "Validate and lint a fleet, offline."),
    "plan": ("sparkfleet.cli.plan", "Show what a run would change, field by field."),
    "apply": ("sparkfleet.cli.apply", "Show the plan, ask, and apply it to every Spark."),
    "stop": ("sparkfleet.cli.services", "Stop services until they are started, also over reboots."),
    "start": ("sparkfleet.cli.services", "Start stopped services through their readiness gate."),
    "restart": ("sparkfleet.cli.services", "Restart services through their readiness gate."),
    "status": ("sparkfleet.cli.status", "Show what every Spark serves; --preflight checks its requirements."),
    "ask": ("sparkfleet.cli.ask", "Ask a service one question; show the answer and its speed."),
    "logs": ("sparkfleet.cli.logs", "Print the log of a service, its supervisor, or the last rollout."),
    "history": ("sparkfleet.cli.history", "Show who changed what on each Spark, and the kept generations."),
    "rollback": ("sparkfleet.cli.rollback", "Go back to a generation that a Spark keeps."),
    "lock": ("sparkfleet.cli.lock", "Pin images and models: write fleet.lock."),
    "mirror": ("sparkfleet.cli.mirror", "Download images and models for a site without Internet access."),
    "prune": ("sparkfleet.cli.prune", "List or delete unused images, models and caches."),
    "catalog": ("sparkfleet.cli.catalog", "List and show recipes."),
    "diagnose": ("sparkfleet.cli.diagnose", "Find the cause of a failed start in its log."),
    "explain": ("sparkfleet.cli.explain", "Explain a key, flag, rule, error code or term."),
    "render": (
        "sparkfleet.cli.render",
        "Print a Spark's services as docker commands, compose file or systemd units.",
    ),
    "fabric": ("sparkfleet.cli.fabric", "Measure the links between the Sparks of a cluster."),
    "rules": ("sparkfleet.cli.rules", "List the lint rules."),
    "knowledge": (
        "sparkfleet.cli.knowledge",
        "Update flags, failure patterns and recipes without a new release.",
    ),
    "completion": ("sparkfleet.cli.completion", "Print the completion script of a shell."),
    "schema": ("sparkfleet.cli.schema", "Print the JSON Schema of the YAML files."),
}
"""Command -> module (which has a click command of that name) and its line in the help."""

RENAMED = {"bundle": "mirror"}
"""Renamed commands: old name -> new name."""

PLUGINS = {
    "lab": ("sparkfleet[lab]", "Try it without a Spark: simulate Sparks with containers."),
}
"""Known commands of other distributions (entry points, group ``sparkfleet.commands``) -> what to install."""

LONG = {"apply", "stop", "start", "restart", "rollback", "lock", "mirror", "prune", "fabric", "lab"}
"""Long-running commands."""

ISSUES = "the project's issue tracker"


class LazyGroup(click.Group):
    """A group whose commands are modules, imported on use: help and errors need none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the commands in the order of the help."""
        return [*COMMANDS, *PLUGINS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command; None when there is none of that name."""
        command: click.Command | None
        if cmd_name in COMMANDS:
            command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_"))
        else:
            command = plugin(cmd_name)
        if cmd_name in LONG:
            gc_control.resume()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in {**COMMANDS, **PLUGINS}.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant; an unknown command gets a suggestion."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from sparkfleet.suggest import did_you_mean  # noqa: PLC0415  (after a mistake alone)

            hint = did_you_mean(RENAMED.get(args[0], args[0]), self.list_commands(ctx))
            if hint:
                raise click.UsageError(f"{error.message} D{hint[1:]}", ctx) from None
            raise


def plugin(name: str) -> click.Command | None:
    """Return the command of this name that another distribution provides (group ``sparkfleet.commands``)."""
    from importlib.metadata import entry_points  # noqa: PLC0415  (only for a command that is not built in)

    for entry in entry_points(group="sparkfleet.commands", name=name):
        command: click.Command = entry.load()
        return command
    if name in PLUGINS:
        requirement = PLUGINS[name][0]
        raise SparkfleetError(
            Diagnostic(
                f"sparkfleet {name}",
                "the command is not installed",
                f"the distribution {requirement}",
                f'pip install "{requirement}"',
                code="command-not-installed",
            )
        )
    return None


def show_version(ctx: click.Context, _: click.Parameter, requested: bool) -> None:
    """Print the version and end."""
    if not requested:
        return
    from importlib.metadata import version  # noqa: PLC0415  (for this option alone)

    from sparkfleet.knowledge import store  # noqa: PLC0415

    used = store.active_update()
    knowledge = f"knowledge {used.version}" if used else f"knowledge {data_files.BUNDLED}, bundled"
    click.echo(f"sparkfleet {version('sparkfleet')} ({knowledge})")
    ctx.exit()


def _updated_knowledge() -> data_files.UpdatedFiles | None:
    from sparkfleet.knowledge import store  # noqa: PLC0415  (only for commands that read data files)

    return store.active_update()


@click.command(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version, and that of the knowledge in use.",
)
def cli() -> None:
    """Preview changes, roll out with automatic rollback, and verify that every model answers.

    INVENTORY is the Python file of a fleet, for example inventories/home.py; `init` writes one. `apply` runs
    deploys/serve.py with pyinfra: `pyinfra INVENTORY deploys/serve.py [--dry]` does the same.

    Exit codes: 0 success, 1 error, 64 invalid command line, 130 interrupted; `plan`: 2 there are changes;
    `apply`, `stop`, `start`, `restart`, `rollback`: 3 declined.
    """
    name_inventory("")


def socks_support_missing() -> Diagnostic:
    """Return the error of a SOCKS proxy without the package that speaks to one."""
    names = ("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
    found = next((name for name in names if os.environ.get(name, "").startswith("socks")), names[0])
    return Diagnostic(
        found,
        "a SOCKS proxy needs the Python package socksio, which is not installed",
        "an HTTP proxy, or the package",
        "pip install socksio, or unset the variable",
        code="socks-support-missing",
    )


def main() -> None:
    """Run the command line: errors for people on stderr, without a traceback."""
    terminal.tolerate_output_errors()
    code = _run()
    lost = terminal.output_error()
    if lost:
        click.echo(lost, err=True)
    sys.exit(code or (Code.ERROR if lost else Code.OK))


def _inventories_here() -> str:
    """Return which inventories are in this directory, for an error about a missing one."""
    paths = sorted(str(path) for path in Path("inventories").glob("*.py"))
    return f"Here: {', '.join(paths)}." if paths else "Run it in the directory that has inventories/."


def _run() -> int:
    gc_control.pause()
    data_files.use(_updated_knowledge)
    try:
        cli.main(prog_name="sparkfleet", standalone_mode=False)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else Code.ERROR if done.code else Code.OK
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        if isinstance(error, click.MissingParameter) and error.param and error.param.name == "inventory":
            error = click.UsageError(f"{error.format_message()} {_inventories_here()}", error.ctx)
        error.show()
        return Code.COMMAND_LINE if isinstance(error, click.UsageError) else error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(interrupts.message(), err=True)
        return Code.INTERRUPTED
    except SparkfleetError as error:
        terminal.echo_paragraph(error_text(error))
        return Code.ERROR
    except Exception as error:
        if isinstance(error, ImportError) and "socksio" in str(error):
            click.echo(str(socks_support_missing()), err=True)
            return Code.ERROR
        if os.environ.get("SPARKFLEET_DEBUG"):
            raise
        click.echo(f"internal error: {type(error).__name__}: {error}", err=True)
        click.echo(
            f"This is a bug. Run it again with SPARKFLEET_DEBUG=1 and report the output to {ISSUES}.",
            err=True,
        )
        return Code.ERROR
    finally:
        gc_control.resume()
    return Code.OK
