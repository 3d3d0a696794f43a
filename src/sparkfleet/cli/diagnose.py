"""``sparkfleet diagnose``: the cause of a failed start, from its log."""

from __future__ import annotations

import dataclasses
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet import terminal
from sparkfleet.cli import output

if TYPE_CHECKING:
    from sparkfleet.onhost.gate.diagnosis import LogReader, Sources
    from sparkfleet.onhost.gate.failure import Failure
    from sparkfleet.onhost.gate.log_lines import Line

MAX_LINES = 50_000
"""Last lines of a log that are read."""
EVIDENCE = ("engine.log", "kernel.log", "inspect.json")
"""Files of an evidence directory that are read."""
_ERROR = re.compile(r"(?:\w+\.)*(?!CancelledError)\w*(?:Error|Exception)(?:: .*)?")
"""The last line of a traceback, but for that of Ctrl-C."""
READABLE = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("log", type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option("--exit-code", type=int, metavar="N", help="Exit code of the engine or of docker.")
@click.option("--kernel-log", type=READABLE, help="Output of `dmesg` or `journalctl -k` of that time.")
@click.option(
    "--rank-log", "rank_logs", multiple=True, type=READABLE, help="Log of another rank (repeatable)."
)
@click.option("--engine", metavar="NAME", help="Engine that wrote the log; by default found by its lines.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: id, cause, remedy, line, source.")
def diagnose(  # noqa: PLR0917  (options)
    log: Path,
    exit_code: int | None,
    kernel_log: Path | None,
    rank_logs: tuple[Path, ...],
    engine: str | None,
    as_json: bool,
) -> None:
    """Name the cause of a failed start and what to do, from its log.

    LOG is a file (`docker logs NAME > FILE`, a journal, or anything copied from a terminal), `-` for stdin,
    or an evidence directory of a failed rollout. Works without a fleet and changes nothing. An
    engine's log that ends in a traceback with an unknown error gets the id `unknown`. A log without a failure
    gets no cause; `--json` then has `"id": null`.

    Exit code: 0, whether or not a cause was found.
    """
    from sparkfleet.onhost.gate.diagnosis import Sources  # noqa: PLC0415

    base = Sources("", exit_code, rank_logs={path.name: _read(path) for path in rank_logs})
    sources = _evidence(log, base) if log.is_dir() else dataclasses.replace(base, log=_read(log))
    if kernel_log:
        sources = dataclasses.replace(sources, kernel_log=_read(kernel_log))
    failure = _diagnose(sources, engine)
    one = failure.diagnostic if failure else None
    if as_json:
        output.as_json(
            {
                "id": one.code if one else None,
                "cause": one.message if one else "",
                "remedy": one.hint if one else "",
                "line": failure.line if failure else "",
                "source": one.location if one else "",
            }
        )
    elif failure and one:
        click.echo(f"{one.code}: {one.message}")
        if failure.line:
            click.echo(f"    {one.location}: {failure.line}")
        click.echo(f"    do: {one.hint}")
    else:
        click.echo(
            f"{'stdin' if str(log) == '-' else log}: no known failure found. If the engine has ended, give "
            "--exit-code and --kernel-log: then an unknown error is shown, too."
        )


def _read(path: Path) -> str:
    if str(path) == "-":
        text = sys.stdin.buffer.read().decode(errors="replace")
    else:
        text = path.read_bytes().decode(errors="replace")
    lines = text.replace("\r\n", "\n").split("\n")[-MAX_LINES:]
    return textwrap.dedent("\n".join(map(_message, lines)))


def _message(line: str) -> str:
    """Return the message of a line of Docker's json-file or `journalctl -o json`; any other line as it is."""
    from sparkfleet.contract import codec  # noqa: PLC0415

    if not line.startswith("{"):
        return line
    try:
        carrier = codec.parse(_Carrier, line, "line")
    except codec.ContractError:
        return line
    message = carrier.log if carrier.log is not None else carrier.MESSAGE
    return line if message is None else message.rstrip("\n")


@dataclass(frozen=True)
class _Carrier:
    """A line of Docker's json-file, or of ``journalctl -o json``."""

    log: str | None = None
    MESSAGE: str | None = None


def _evidence(directory: Path, base: Sources) -> Sources:
    """Return the sources in the evidence directory of a failed rollout."""
    texts = {name: _read(directory / name) for name in EVIDENCE if (directory / name).is_file()}
    if not texts:
        text = f"{directory} is not an evidence directory: expected {', '.join(EVIDENCE)}"
        raise click.BadParameter(text, param_hint="LOG")
    container = _container(texts.get("inspect.json", "{}"), str(directory / "inspect.json"))
    state = container.State or _ContainerState()
    return dataclasses.replace(
        base,
        log="\n".join(filter(None, (texts.get("engine.log", ""), state.Error))),
        kernel_log=texts.get("kernel.log", ""),
        exit_code=state.ExitCode if base.exit_code is None else base.exit_code,
        argv=[*((container.Config and container.Config.Cmd) or ())] or None,
    )


@dataclass(frozen=True)
class _ContainerState:
    ExitCode: int | None = None
    Error: str = ""


@dataclass(frozen=True)
class _ContainerConfig:
    Cmd: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Container:
    """What is read of ``docker inspect``."""

    State: _ContainerState | None = None
    Config: _ContainerConfig | None = None


def _container(text: str, path: str) -> _Container:
    """Return the container of an evidence directory. A file that cannot be read is named; the logs count."""
    from sparkfleet.contract import codec  # noqa: PLC0415

    try:
        return codec.parse(_Container, text, path)
    except codec.ContractError as error:
        terminal.echo_diagnostic(error.diagnostic)
        return _Container()


def _diagnose(sources: Sources, name: str | None) -> Failure | None:
    readers = _readers(name, sources.log)
    found = [reader.diagnose_all(sources) for reader in readers]
    known = [one for one in found if one and one.diagnostic.code != "unknown"]
    first = (known or found)[0]
    if first is None and sources.exit_code is None and _ends_in_traceback(sources.log, name):
        return readers[0].diagnose_all(dataclasses.replace(sources, exit_code=1))  # Python's for a traceback
    return first


def _ends_in_traceback(log: str, name: str | None) -> bool:
    """Return whether the log of an engine ends in a traceback; warnings may follow it.

    ``name``: the engine's, if the user gave it. Else lines with a level or a process, or an engine's name,
    show that it is an engine's log: one of other software has no failure that is known here.
    """
    from sparkfleet import engines  # noqa: PLC0415
    from sparkfleet.onhost.gate import log_lines  # noqa: PLC0415

    names = engines.host_names()
    prefix = engines.on_host(name or engines.DEFAULT).log.prefix
    lines = [line for line in log_lines.lines(log, prefix) if line.text.strip()]
    of_engine = name or any(one in log.lower() for one in names) or any(map(_is_logged, lines))
    while lines and lines[-1].level == "WARNING":
        lines.pop()
    if (
        not of_engine
        or not lines
        or lines[-1].level == "INFO"
        or not _ERROR.fullmatch(lines.pop().text.strip())
    ):
        return False
    while lines and lines[-1].text.startswith(" "):
        lines.pop()
    return bool(lines) and lines[-1].text.startswith("Traceback (most recent call last)")


def _is_logged(line: Line) -> bool:
    return bool(line.level or line.process)


def _readers(name: str | None, log: str) -> list[LogReader]:
    """Return the reader of the engine; of all engines, for a log in which none shows its progress."""
    from sparkfleet import engines  # noqa: PLC0415
    from sparkfleet.onhost.gate.diagnosis import reader  # noqa: PLC0415

    names = sorted(engines.host_names(), key=lambda one: (one != engines.DEFAULT, one))
    if name is not None and name not in names:
        raise click.BadParameter(f"no engine {name!r}: expected {', '.join(names)}", param_hint="--engine")
    if name is not None:
        return [reader(name)]
    counts = {one: reader(one).progress_count(log) for one in names}
    best = max(names, key=lambda one: counts[one])
    return [reader(best)] if counts[best] else [reader(one) for one in names]
