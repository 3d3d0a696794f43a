"""The costs of a plan that a user feels and that need no clock: connections, commands, bytes, modules.

The figures that depend on a clock are in ``make bench`` (docs/explanation/performance.md).
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.plan.compute import probe_request
from sparkfleet.probe import frame
from sparkfleet.probe.command import probe_command
from tests.unit.config.fleet_files import NANO, FleetFiles, write

REPO = Path(__file__).parents[2]

BYTES_SENT = 18_000
"""Of the one remote command. TCP sends ten packets before the first answer, and by then the
login's seven or more answers have each added one: 24 kB go out without a wait.
"""

_SPARKS = """
import collections, json, sys
from pathlib import Path
requests, sent = collections.Counter(), collections.Counter()

def be_recorded():
    # Sparks that are as declared: the connection is none, the answer is what a run would leave behind.
    from pyinfra.connectors import ssh
    from pyinfra.connectors.util import CommandOutput, OutputLine
    from sparkfleet.fleet.connection import probe as look
    from sparkfleet.fleet.run import spark_plan
    from tests.unit import frames
    from tests.unit.plan import fake_spark

    def connect(self):
        requests["connections"] += 1

    def run(self, command, **_):
        requests[self.host.name] += 1
        sent[self.host.name] += len(command.get_raw_value())
        lines = frames.response(command.get_raw_value(), self.host.name)
        return True, CommandOutput([OutputLine("stdout", line) for line in lines])

    def read(name, _):
        return fake_spark.converged(known[name])

    ssh.SSHConnector.connect, ssh.SSHConnector.run_shell_command = connect, run
    declared = spark_plan.declared
    known = {}

    def remember(host):
        known[host.name] = declared(host)
        return known[host.name]

    look.read_response, spark_plan.declared = read, remember
"""

_PLAN = (
    _SPARKS
    + """
from sparkfleet.fleet.connection import pyinfra_patches
be_recorded()
from sparkfleet.fleet.run.fleet_plan import fleet_plan
plan = fleet_plan(Path("inventories/lab.py"))
states = [str(host.state) for host in plan.hosts]
print(json.dumps({"states": states, "requests": requests, "sent": sent}))
"""
)

_DRY = (
    _SPARKS
    + """
be_recorded()
import atexit
atexit.register(lambda: print("\\n" + json.dumps({"requests": requests, "sent": sent})))
sys.argv = ["pyinfra", "inventories/lab.py", "deploys/serve.py", "--dry", "--json"]
from pyinfra_cli.main import cli
cli()
"""
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetFiles:
    """Return a user's directory, with the project's own settings."""
    monkeypatch.chdir(tmp_path)
    same = ("inventories/lab.py", "group_data/all.py")
    return write(tmp_path, {name: (REPO / name).read_text() for name in same})


def fleet_of(files: FleetFiles, count: int) -> None:
    for path in files.directory.glob("*.yaml"):
        path.unlink()
    for number in range(1, count + 1):
        (files.directory / f"spark-{number:03}.yaml").write_text(
            f"ssh: {{hostname: 127.0.0.{number}, port: 1}}\nserve: {NANO}\n"
        )
    files.pin()


def python(program: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env={"PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode in {0, 2}, done.stderr
    return done.stdout


def plan_of(files: FleetFiles, count: int) -> dict[str, Any]:
    fleet_of(files, count)
    found: dict[str, Any] = json.loads(python(_PLAN, files.root).splitlines()[-1])
    assert found["states"] == ["unchanged"] * count
    return found


def test_a_plan_is_one_connection_and_one_command_a_spark(files: FleetFiles) -> None:
    seen = plan_of(files, 3)
    assert seen["requests"] == {"connections": 3, "spark-001": 1, "spark-002": 1, "spark-003": 1}


def test_the_command_is_small_enough_for_one_round_trip(files: FleetFiles) -> None:
    assert max(plan_of(files, 1)["sent"].values()) < BYTES_SENT


def test_the_command_that_inspects_the_spark_itself_too_is_as_small(files: FleetFiles) -> None:
    fleet_of(files, 1)
    declared = ("group", "docker @login", ""), ("directory", "~/vllm", "@login 1000")
    request = probe_request(files.load().hosts[0])
    many = replace(
        request, resources=(*declared, *(("sysctl", f"net.core.setting_{n}", "") for n in range(20)))
    )
    assert len(probe_command(many, frame.new_nonce())) < BYTES_SENT


def test_a_dry_run_is_one_connection_and_one_command_a_spark(files: FleetFiles) -> None:
    fleet_of(files, 3)
    for name in ("deploys", "config.py"):
        (files.root / name).symlink_to(REPO / name)
    out = python(_DRY, files.root)
    counted = json.loads(out.splitlines()[-1])
    assert counted["requests"] == {"connections": 3, "spark-001": 1, "spark-002": 1, "spark-003": 1}


def loaded(command_line: str, cwd: Path) -> set[str]:
    program = f"""
import sys
sys.argv = {command_line.split()!r}
if sys.argv[1:]:
    from sparkfleet.cli import main
    try:
        main()
    except SystemExit:
        pass
else:
    import sparkfleet.cli
print("\\n" + " ".join(sys.modules))
"""
    return set(python(program, cwd).splitlines()[-1].split())


SSH = {"pyinfra", "paramiko", "gevent", "cryptography"}
NETWORK = {"httpx", "huggingface_hub", "requests", "urllib3"}
ON_A_SPARK = {
    "sparkfleet.runtimes.docker.onhost.engine",
    "sparkfleet.onhost.artifacts.copy.receive",
    "sparkfleet.onhost.artifacts.fetch.fetch",
}
NOT_LOADED = {
    "the command line": ("sparkfleet", {*SSH, *NETWORK, "pydantic", "yaml", "rich", "asyncio"}, 150),
    "help": ("sparkfleet --help", {*SSH, *NETWORK, "pydantic", "yaml", "rich", "asyncio"}, 150),
    "check": ("sparkfleet check inventories/lab.py", {*SSH, *NETWORK, "rich", "asyncio"}, 450),
    "plan": ("sparkfleet plan inventories/lab.py", {*NETWORK, *ON_A_SPARK, "rich", "invoke.runners"}, 880),
}


@pytest.mark.parametrize("command_line, unwanted, most", NOT_LOADED.values(), ids=NOT_LOADED)
def test_a_command_loads_what_it_needs_and_no_more(
    files: FleetFiles, command_line: str, unwanted: set[str], most: int
) -> None:
    fleet_of(files, 1)
    modules = loaded(command_line, files.root)
    assert not modules & unwanted
    assert len(modules) < most
