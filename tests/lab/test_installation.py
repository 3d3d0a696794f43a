"""The main job from installed wheels, in a directory that `sparkfleet init` wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparkfleet_lab import settings
from sparkfleet_lab.names import Lab
from tests.lab.fleet import Outcome
from tests.lab.machine import Machine

ROOT = Path(__file__).parents[2]
RECIPE = "nemotron-3-nano-30b-a3b-nvfp4"
INVENTORY = "inventories/home.py"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a new environment with `sparkfleet[lab]` from the wheels; the rest is what they require."""
    base = tmp_path_factory.mktemp("installation")
    wheels = base / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    for project in (ROOT, ROOT / "lab"):
        subprocess.run([*pip, *build, str(project)], check=True, cwd=base)
    (product,) = wheels.glob("sparkfleet-*.whl")
    (lab,) = wheels.glob("sparkfleet_lab-*.whl")
    # The versions that this repository pins: the test does not depend on what was published today.
    pins = re.findall(r"^\S+==\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    (base / "pins.txt").write_text("\n".join(pins))
    venv.create(base / "venv", with_pip=False)
    target = ["--python", str(base / "venv" / "bin" / "python"), "install", "--constraint", "pins.txt"]
    subprocess.run([*pip, *target, f"{product}[lab]", str(lab)], check=True, cwd=base)
    return base / "venv" / "bin"


@dataclass
class Owner:
    """A login account with a home of its own, an installed sparkfleet, and no checkout."""

    home: Path
    fleet: Path
    bin: Path

    def run(self, *argv: str) -> Outcome:
        """Run a command of the environment in the fleet directory."""
        done = subprocess.run(
            [str(self.bin / argv[0]), *argv[1:]],
            cwd=self.fleet if self.fleet.exists() else self.home,
            env={"HOME": str(self.home), "PATH": f"{self.bin}:{os.defpath}"},
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def init(self, *options: str) -> Outcome:
        return self.run("sparkfleet", "init", str(self.fleet), *options).expect(0)

    @property
    def host_file(self) -> Path:
        return self.fleet / "inventories" / "home" / "spark-01.yaml"


@pytest.fixture
def owner(tmp_path: Path, programs: Path, lab: Lab) -> Owner:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (home / ".ssh" / "config").write_text(lab.ssh_config.read_text())
    return Owner(home, tmp_path / "fleet", programs)


def test_an_installed_sparkfleet_goes_from_an_empty_directory_to_a_served_model(
    owner: Owner, spark: Machine, lab: Lab
) -> None:
    """From init to an answer: nothing but the environment is importable."""
    code = "import sys, sparkfleet as a, sparkfleet_lab as b; print(a.__file__, b.__file__, *sys.path)"
    paths = [Path(path) for path in owner.run("python", "-c", code).expect(0).out.split()]
    assert all(path.is_relative_to(owner.bin.parent) for path in paths[:2])
    assert not [path for path in paths if path.is_relative_to(ROOT)]
    assert "Start machines, registry and hub." in owner.run("sparkfleet", "lab", "--help").expect(0).out

    memory = int(spark.sh("grep MemTotal /proc/meminfo").split()[1]) / (1 << 20)
    written = owner.init("--host", "spark-01", "--recipe", RECIPE).out
    assert f"  spark-01  {memory:.0f} GiB, serve {RECIPE}\n" in written
    for_lab = settings.settings(lab).sparkfleet
    (owner.fleet / "group_data" / "home.py").write_text(f"sparkfleet = {for_lab!r}\n")
    services = f"serve:\n  - name: nano\n    recipe: {RECIPE}"
    owner.host_file.write_text(owner.host_file.read_text().replace(f"serve: {RECIPE}", services))

    owner.run("sparkfleet", "lock", INVENTORY).expect(0)
    owner.run("sparkfleet", "check", INVENTORY).expect(0)
    assert "1 to change" in owner.run("sparkfleet", "plan", INVENTORY).expect(2).out
    assert spark.sh("docker ps -aq") == ""

    owner.run("pyinfra", INVENTORY, "deploys/serve.py", "-y").expect(0)
    names = json.loads(spark.sh("curl -s localhost:8000/v1/models"))
    assert [one["id"] for one in names["data"]] == ["nano"]
    assert "0 to change" in owner.run("pyinfra", INVENTORY, "deploys/serve.py", "--dry").expect(0).out
    owner.run("sparkfleet", "status", INVENTORY).expect(0)

    with owner.host_file.open("a") as file:
        file.write("    flags: {max-num-seqs: 3}\n")
    owner.run("sparkfleet", "apply", "-y", INVENTORY).expect(0)
    assert "--max-num-seqs 3" in " ".join(json.loads(spark.sh("docker inspect -f '{{json .Args}}' nano")))
    owner.run("sparkfleet", "plan", INVENTORY).expect(0)


def test_apply_without_a_terminal_or_a_yes_changes_nothing(owner: Owner, spark: Machine) -> None:
    owner.init("--no-login", "--host", "spark-01")
    refused = owner.run("sparkfleet", "apply", INVENTORY).expect(1)
    assert "-y or a terminal" in refused.text
    assert spark.sh("docker ps -aq") == ""
