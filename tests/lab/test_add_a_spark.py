"""docs/how-to/add-a-spark.md, typed for a Spark out of its box: every command, and all that is shown."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

from tests.lab.fleet import BIN, REPO, FleetDirectory
from tests.lab.machine import Machine

PAGE = REPO / "docs" / "how-to" / "add-a-spark.md"


def test_each_command_of_the_page_gives_what_the_page_shows(fleet: FleetDirectory, spark: Machine) -> None:
    spark.reset(cold=True)
    lay_out(fleet)
    typed = 0
    for where, command, shown in steps(PAGE.read_text()):
        if where == "file":
            path = fleet.root / command
            path.write_text(shown)
            continue
        said = spark.ssh(command).out if where == "spark" else by_operator(fleet, command)
        assert_shown(command, shown, said)
        typed += 1
    assert typed == 16


def lay_out(fleet: FleetDirectory) -> None:
    """Make the directory a checkout after ``make setup``, with an ssh that knows the lab's machines."""
    (fleet.root / ".venv").mkdir()
    (fleet.root / ".venv" / "bin").symlink_to(BIN)
    (fleet.root / "inventories" / "example.py").symlink_to(REPO / "inventories" / "example.py")
    (fleet.root / "group_data" / "home.py").symlink_to(fleet.root / "group_data" / "lab.py")
    ssh = fleet.root / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {fleet.lab.ssh_config} "$@"\n')
    ssh.chmod(0o755)


def steps(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield where something is typed (file, operator, spark), what, and the text that is shown below it."""
    for language, block in re.findall(r"```(yaml|console)\n(.*?)```", page, re.DOTALL):
        if language == "yaml":
            name, _, text = block.partition("\n")
            yield "file", name.removeprefix("# "), text
            continue
        for prompt, command, shown in re.findall(
            r"^(spark)?\$ (.*)\n((?:(?!(?:spark)?\$ ).*\n)*)", block, re.MULTILINE
        ):
            yield prompt or "operator", command, shown


def by_operator(fleet: FleetDirectory, command: str) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", f"PATH={fleet.root}/bin:$PATH; {command}"],
        cwd=fleet.root,
        env=fleet.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{command}\n{said}"
    return said


def assert_shown(command: str, shown: str, said: str) -> None:
    """Every shown line is among those that were said, in that order; ``...`` is any text, blanks are one."""
    lines = iter(" ".join(line.split()) for line in said.splitlines())
    for line in shown.splitlines():
        wanted = ".*".join(map(re.escape, " ".join(line.split()).split("...")))
        assert any(re.fullmatch(wanted, one) for one in lines), f"{command}\nnot said: {line}\n{said}"
