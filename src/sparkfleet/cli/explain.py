"""``sparkfleet explain``: what a key, a flag, a rule, a code or a term means."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from sparkfleet.cli import arguments, completers, output
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparkfleet.explanations import Explanation


@click.command(context_settings={"ignore_unknown_options": True})  # TERM may be `--flag`
@click.argument("term", shell_complete=completers.terms)
@arguments.JSON
def explain(term: str, as_json: bool) -> None:
    """Explain a term that a file, a plan, a log or an error has.

    TERM is a key of the YAML files (`gate.timeout`), a flag or variable of an engine (`--max-model-len`),
    a lint rule (`MEM-03`), the code of an error (`ssh-unreachable`) or of a failed start
    (`memory-at-start`), an exit code, or a word of the glossary (`generation`).
    """
    from sparkfleet import explanations  # noqa: PLC0415
    from sparkfleet.suggest import did_you_mean  # noqa: PLC0415

    meanings = explanations.of(term)
    if not meanings:
        if term.startswith("-"):
            close = did_you_mean(term, explanations.names(), "")
            raise click.UsageError(f"No such option, and no flag of an engine: {term} {close}".rstrip())
        remedy = did_you_mean(term, explanations.names(), "see docs/reference for all of them")
        expected = "a key, a flag, a rule, a code or a term"
        raise SparkfleetError(Diagnostic(term, "unknown term", expected, remedy, code="term-unknown"))
    if as_json:
        output.as_json(
            [{"kind": m.kind, "name": m.name, "text": m.text, "facts": dict(m.facts)} for m in meanings]
        )
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
    click.echo("\n\n".join("\n".join(_lines(one, columns)) for one in meanings))


def _lines(meaning: Explanation, columns: int) -> Iterator[str]:
    yield click.style(meaning.name, bold=True) + f" ({meaning.kind})"
    yield from textwrap.wrap(meaning.text, columns, initial_indent="  ", subsequent_indent="  ")
    label_width = max(map(len, meaning.facts), default=0)
    for label, value in meaning.facts.items():
        head = f"  {label:<{label_width}}  "
        yield from textwrap.wrap(
            value,
            columns,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
