"""``sparkfleet completion``: the script that makes a shell complete commands and their arguments."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import get_completion_class

VARIABLE = "_SPARKFLEET_COMPLETE"
"""Set by the script when the shell asks for completions."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options, inventories, hosts, clusters, recipes and the terms of `explain`.

    bash, in ~/.bashrc: `eval "$(sparkfleet completion bash)"`

    zsh, in ~/.zshrc after compinit: `eval "$(sparkfleet completion zsh)"`

    fish, in ~/.config/fish/config.fish: `sparkfleet completion fish | source`
    """
    complete: Any = get_completion_class(shell)
    click.echo(complete(context.find_root().command, {}, "sparkfleet", VARIABLE).source())
