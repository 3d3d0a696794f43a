"""``sparkfleet ask``: one question to a service, the streamed answer, and its speed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet.cli import arguments
from sparkfleet.cli.arguments import Target
from sparkfleet.exit_codes import Code
from sparkfleet.terminal import colour_setting

if TYPE_CHECKING:
    from sparkfleet.contract.ask import AnswerPart


@click.command()
@arguments.INVENTORY
@arguments.TARGET
@click.argument("question")
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="Length of the answer, at most.",
)
@click.option(
    "--timeout", type=click.IntRange(1), default=300, show_default=True, metavar="SECONDS",
    help="Time for the whole answer.",
)  # fmt: skip
def ask(inventory: Path, target: Target, question: str, max_tokens: int, timeout: int) -> None:
    """Ask a service one question: print the answer as it is generated, then time to first token and tokens/s.

    The Spark asks its own service, so no port has to be open, and times are without the network. Reasoning
    goes to stderr, the answer to stdout.

    Exit code: 0 answered, 1 the host is unreachable or there is no answer.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.contract.ask import AskRequest  # noqa: PLC0415
    from sparkfleet.fleet import queries  # noqa: PLC0415
    from sparkfleet.fleet import question as answers  # noqa: PLC0415

    request = AskRequest(target.service, question, max_tokens, float(timeout))
    printer = Printer()
    end = queries.on_one(inventory, target.host, lambda host: answers.ask(host, request, printer.show))
    printer.end()
    click.echo(measured(end), err=True)
    sys.exit(Code.OK)


class Printer:
    """Prints the parts of an answer: reasoning on stderr, the answer on stdout."""

    def __init__(self) -> None:
        """Begin without reasoning."""
        self._reasons = False

    def show(self, part: AnswerPart) -> None:
        """Print a part of the answer."""
        if self._reasons and not part.reasoning:
            click.echo(err=True)
        self._reasons = part.reasoning
        text = click.style(part.text, dim=True) if part.reasoning else part.text
        click.echo(text, nl=False, err=part.reasoning, color=colour_setting())
        (sys.stderr if part.reasoning else sys.stdout).flush()

    def end(self) -> None:
        """End the line."""
        click.echo(err=self._reasons)


def measured(end: AnswerPart) -> str:
    """Return the measurements as text."""
    if end.first_s is None:
        return f"{end.model}: no text in {end.total_s:.2f} s"
    tokens = (
        f", {end.tokens} tokens in {end.total_s:.2f} s" if end.tokens else f", {end.total_s:.2f} s in all"
    )
    rate = f", {end.rate:.1f} tokens/s" if end.rate is not None else ""
    return f"{end.model}: first token after {end.first_s:.2f} s{rate}{tokens}"
