"""docs/how-to/add-a-spark.md, followed for a Spark as delivered: all its commands and their output."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

from tests.lab.fleet import BIN, REPO, FleetDirectory
from tests.lab.machine import Machine

PAGE = REPO / "docs" / "how-to" / "add-a-spark.md"


def test_each_command_of_the_page_prints_what_the_page_shows(fleet: FleetDirectory, spark: Machine) -> None:
    spark.reset(cold=True)
    create_checkout(fleet)
    typed = 0
    for where, command, shown in steps(PAGE.read_text()):
        if where == "file":
            path = fleet.root / command
            path.write_text(shown)
            continue
        output = spark.ssh(command).out if where == "spark" else run_as_operator(fleet, command)
        assert_shown(command, shown, output)
        typed += 1
    assert typed == 16


def create_checkout(fleet: FleetDirectory) -> None:
    """Turn the directory into a checkout after ``make setup``, with an ssh configured for the lab."""
    (fleet.root / ".venv").mkdir()
    (fleet.root / ".venv" / "bin").symlink_to(BIN)
    (fleet.root / "inventories" / "example.py").symlink_to(REPO / "inventories" / "example.py")
    (fleet.root / "group_data" / "home.py").symlink_to(fleet.root / "group_data" / "lab.py")
    ssh = fleet.root / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {fleet.lab.ssh_config} "$@"\n')
    ssh.chmod(0o755)


def steps(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield the place of each step (file, operator, spark), the command or path, and the text below it."""
    for language, block in re.findall(r"```(yaml|console)\n(.*?)```", page, re.DOTALL):
        if language == "yaml":
            name, _, text = block.partition("\n")
            yield "file", name.removeprefix("# "), text
            continue
        for prompt, command, shown in re.findall(
            r"^(spark)?\$ (.*)\n((?:(?!(?:spark)?\$ ).*\n)*)", block, re.MULTILINE
        ):
            yield prompt or "operator", command, shown


def run_as_operator(fleet: FleetDirectory, command: str) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", f"PATH={fleet.root}/bin:$PATH; {command}"],
        cwd=fleet.root,
        env=fleet.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{command}\n{output}"
    return output


def assert_shown(command: str, shown: str, output: str) -> None:
    """Every shown line is in the output, in that order; ``...`` is any text, repeated blanks count as one."""
    lines = iter(" ".join(line.split()) for line in output.splitlines())
    for line in shown.splitlines():
        expected = ".*".join(map(re.escape, " ".join(line.split()).split("...")))
        assert any(re.fullmatch(expected, one) for one in lines), f"{command}\nmissing: {line}\n{output}"
