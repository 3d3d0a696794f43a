"""The main job from the installed wheel, in a directory that `sparkfleet init` wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from sparkfleet_lab import settings
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import Outcome
from tests.lab.machine import Machine

ROOT = Path(__file__).parents[2]


class Owner:
    """A login account with its own home, a virtual environment with the wheel, and no checkout."""

    def __init__(self, base: Path, lab: Lab) -> None:
        self.home, self.fleet, self.bin = base / "home", base / "fleet", base / "venv" / "bin"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        (self.home / ".ssh" / "config").write_text(lab.ssh_config.read_text())
        venv.create(base / "venv", with_pip=False)
        wheels = base / "wheels"
        pip = [sys.executable, "-m", "pip", "--quiet"]
        for project in (ROOT, ROOT / "lab"):
            build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
            subprocess.run(
                [*pip, *build, str(project)],
                check=True, cwd=base,
            )  # fmt: skip
        subprocess.run(
            [*pip, "--python", str(self.bin / "python"), "install", "--no-deps", *map(str, wheels.iterdir())],
            check=True, cwd=base,
        )  # fmt: skip
        # Use the libraries of this environment, without its link to the checkout.
        site = next((base / "venv" / "lib").glob("python*/site-packages"))
        (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def run(self, *argv: str) -> Outcome:
        """Run a command of the environment in the fleet directory."""
        program = (
            [str(self.bin / "python"), "-m", "pyinfra"] if argv[0] == "pyinfra" else [str(self.bin / argv[0])]
        )
        done = subprocess.run(
            [*program, *argv[1:]],
            cwd=self.fleet if self.fleet.exists() else self.home,
            env={"HOME": str(self.home), "PATH": f"{self.bin}:{os.environ['PATH']}"},
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def owner(tmp_path: Path, lab: Lab) -> Owner:
    return Owner(tmp_path, lab)


def test_an_installed_sparkfleet_goes_from_an_empty_directory_to_a_served_model(
    owner: Owner, spark: Machine, lab: Lab, lab_state: State
) -> None:
    """From init to an answer without a checkout: the package is the one in the environment."""
    package = owner.run("python", "-c", "import sparkfleet; print(sparkfleet.__file__)").expect(0).out
    assert package.startswith(str(owner.bin.parent))

    recipe = "nemotron-3-nano-30b-a3b-nvfp4"
    init = ("sparkfleet", "init", str(owner.fleet), "--host", "spark-01", "--recipe", recipe)
    memory = int(spark.sh("grep MemTotal /proc/meminfo").split()[1]) / (1 << 20)
    assert f"  spark-01  {memory:.0f} GiB, serve {recipe}\n" in owner.run(*init).expect(0).out
    for_lab = settings.settings(lab).sparkfleet
    (owner.fleet / "group_data" / "home.py").write_text(f"sparkfleet = {for_lab!r}\n")
    host_file = owner.fleet / "inventories" / "home" / "spark-01.yaml"
    host_file.write_text(
        host_file.read_text().replace(f"serve: {recipe}", f"serve:\n  - name: nano\n    recipe: {recipe}")
    )

    inventory = "inventories/home.py"
    owner.run("sparkfleet", "lock", inventory).expect(0)
    assert owner.run("sparkfleet", "check", inventory).expect(0)
    assert "1 to change" in owner.run("sparkfleet", "plan", inventory).expect(2).out
    assert spark.sh("docker ps -aq") == ""

    owner.run("sparkfleet", "apply", "-y", inventory).expect(0)
    names = json.loads(spark.sh("curl -s localhost:8000/v1/models"))
    assert [one["id"] for one in names["data"]] == ["nano"]
    owner.run("sparkfleet", "plan", inventory).expect(0)
    owner.run("pyinfra", inventory, "deploys/serve.py", "--dry").expect(0)
    owner.run("sparkfleet", "status", inventory).expect(0)


def test_apply_without_a_terminal_or_a_yes_changes_nothing(owner: Owner, spark: Machine) -> None:
    owner.run("sparkfleet", "init", str(owner.fleet), "--no-login", "--host", "spark-01").expect(0)
    refused = owner.run("sparkfleet", "apply", "inventories/home.py").expect(1)
    assert "-y or a terminal" in refused.text
    assert spark.sh("docker ps -aq") == ""
