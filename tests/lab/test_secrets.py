"""The hub's token is in its own file only: during a download, afterwards, and after failures."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparkfleet_lab import faults
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.standins.hub_models import GEMMA
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine
from tests.lab.scanner import Scanner
from tests.lab.serving_fleet import reset_machines

RECIPE = f"""\
recipe: gemma-of-the-lab
title: Gemma 4 31B, NVFP4
source: the lab
model: {GEMMA}
image: docker.io/vllm/vllm-openai:v0.25.1
flags: {{max-model-len: 32768, gpu-memory-utilization: 0.85}}
requires: {{gated: true}}
"""
RUN = ("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y")
_SET_TOKENS = """\
import json, sys
path = "{path}"
tokens = json.load(open(path))
change = json.load(sys.stdin)
tokens = {{name: user for name, user in (tokens | change).items() if user}}
json.dump(tokens, open(path, "w"))
"""


@dataclass
class TokenFleet:
    """A fleet whose one model needs a token, the Spark, and the search for that token."""

    fleet: FleetDirectory
    spark: Machine
    token: Path
    """The operator's own token file."""
    scanner: Scanner

    def operator(self) -> list[str]:
        """Return the operator's files that have the token, without the token file itself."""
        return [path for path in self.scanner.directory(self.fleet.root.parent) if path != str(self.token)]

    def clean(self, outcome: Outcome) -> Outcome:
        """Return the outcome; fail if its output has the token."""
        assert not self.scanner.text(outcome.text), outcome.text
        return outcome


def set_known_tokens(lab: Lab, tokens: Mapping[str, object]) -> None:
    """Add tokens to the lab's hub; None removes one."""
    docker, hub = Docker(), lab.container("hub")
    path = docker.run(
        "exec", hub, "sh", "-c", "find / -name tokens.json -not -path '/proc/*' | head -1"
    ).strip()
    command_line = ("exec", "-i", hub, "python3", "-c", _SET_TOKENS.format(path=path))
    docker.run(*command_line, stdin=json.dumps(tokens).encode())


@pytest.fixture(scope="module")
def token_fleet(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenFleet]:
    # Not in the format of a token: masking by format would hide a leak.
    canary = f"canary.{secrets.token_hex(16)}"
    root = tmp_path_factory.mktemp("secrets")
    (spark,) = reset_machines(lab, lab_state, "spark-01")
    set_known_tokens(lab, {canary: {"name": "canary", "accepted": [GEMMA]}})
    token = root / "token"
    token.write_text(canary)
    home = root / "home"
    home.mkdir()
    places = {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    fleet = FleetDirectory(root / "checkout", lab, extra={"hf_token": f"file:{token}"}, env=places)
    recipes = fleet.root / "inventories" / "lab" / "recipes"
    recipes.mkdir()
    (recipes / "gemma-of-the-lab.yaml").write_text(RECIPE)
    fleet.host("spark-01", {"serve": [{"recipe": "gemma-of-the-lab", "name": "gemma"}]})
    yield TokenFleet(fleet, spark, token, Scanner(canary))
    faults.repair_services(Docker(), lab, lab_state)
    set_known_tokens(lab, {canary: None})


def test_check_plan_and_lock_leave_the_token_nowhere(token_fleet: TokenFleet) -> None:
    with token_fleet.scanner.watching() as watch:
        token_fleet.clean(token_fleet.fleet.lock())
        token_fleet.clean(token_fleet.fleet.command("sparkfleet", "check", "inventories/lab.py").expect(0))
        token_fleet.clean(token_fleet.fleet.plan().expect(2))
        token_fleet.clean(token_fleet.fleet.plan("--json").expect(2))
        token_fleet.clean(token_fleet.fleet.dry("-vvv", "--debug").expect(0))
    assert watch.scans > 10
    assert watch.found == []
    assert token_fleet.operator() == []
    assert token_fleet.scanner.spark(token_fleet.spark) == []


def test_a_download_has_the_token_in_one_file_that_only_its_reader_can_read_and_removes_it(
    token_fleet: TokenFleet, lab_state: State
) -> None:
    faults._set_hub_fault(lab_state, json.dumps({"slow_bytes_per_s": 300_000, "path": "/resolve/"}))
    with token_fleet.scanner.watching() as watch:
        run = token_fleet.fleet.start(
            "pyinfra", "inventories/lab.py", "deploys/serve.py", "-y", "-vvv", "--debug"
        )
        try:
            own = wait_for_token(token_fleet.spark)
            during = token_fleet.scanner.spark(token_fleet.spark)
            faults._set_hub_fault(lab_state, "{}")
            output = run.communicate(timeout=240)[0]
        finally:
            run.kill()
    token_fleet.clean(Outcome(run.returncode, output, "")).expect(0)
    assert during == [f"file {own.path}"]
    assert (own.mode, own.owner) == ("600", "nvidia")
    assert watch.found == []
    assert token_fleet.scanner.spark(token_fleet.spark) == []
    assert token_fleet.operator() == []
    assert "gemma" in token_fleet.spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
    token_fleet.clean(token_fleet.fleet.plan().expect(0))


def test_a_killed_download_leaves_no_token_behind(token_fleet: TokenFleet, lab_state: State) -> None:
    lose_weights(token_fleet.spark)
    faults._set_hub_fault(lab_state, json.dumps({"slow_bytes_per_s": 100_000, "path": "/resolve/"}))
    run = token_fleet.fleet.start(*RUN)
    try:
        wait_for_token(token_fleet.spark)
        token_fleet.spark.sh("systemctl kill -s KILL 'sparkfleet-stage-*'")
        output = run.communicate(timeout=240)[0]
    finally:
        run.kill()
        faults._set_hub_fault(lab_state, "{}")
    assert run.returncode != 0
    token_fleet.clean(Outcome(run.returncode, output, ""))
    token_exists = "ls /run/sparkfleet/*.token >/dev/null 2>&1"
    assert token_fleet.spark.ok(f"for i in $(seq 100); do {token_exists} || exit 0; sleep 0.1; done; exit 1")
    assert token_fleet.scanner.spark(token_fleet.spark) == []


def test_a_token_that_the_hub_refuses_is_not_printed(token_fleet: TokenFleet) -> None:
    lose_weights(token_fleet.spark)
    good, wrong = token_fleet.token.read_text(), f"wrong.{secrets.token_hex(16)}"
    token_fleet.token.write_text(wrong)
    try:
        outcome = token_fleet.fleet.run("-vvv", "--debug")
    finally:
        token_fleet.token.write_text(good)
    refused = Scanner(wrong)
    assert outcome.code != 0
    assert "token" in outcome.text
    assert not refused.text(outcome.text), outcome.text
    assert refused.spark(token_fleet.spark) == []
    assert refused.directory(token_fleet.fleet.root.parent) == []


UNIT = "/etc/systemd/system/plant.service"
CREATE = "docker create --name plant"
IMAGE = "$(docker images -q | head -1)"

PLANTS: Mapping[str, tuple[str, str]] = {
    "a file in a home": ("cat > /home/nvidia/plant", "file /home/nvidia/plant"),
    "a unit": (
        f"{{ printf '[Service]\nExecStart=/bin/true\nEnvironment=TOKEN='; cat; }} > {UNIT}",
        f"file {UNIT}",
    ),
    "the environment of a unit": (
        "systemd-run -q --unit plant --setenv TOKEN=$(cat) sleep 60",
        "systemd's units",
    ),
    "a file in base64": ("base64 -w0 > /var/lib/plant", "file /var/lib/plant"),
    "base64 of a text around it": (
        "{ printf '{\"t\": \"'; cat; printf '\"}'; } | base64 -w0 > /tmp/plant",
        "file /tmp/plant",
    ),
    "a log": ("cat > /var/log/plant", "file /var/log/plant"),
    "the journal": ("systemd-cat -t plant; journalctl --sync", "journal"),
    "a container's variable": (f"{CREATE} -e TOKEN=$(cat) {IMAGE}", "docker's containers"),
    "a container's label": (f"{CREATE} --label token=$(cat) {IMAGE}", "docker's containers"),
    "a container's file": (
        f"{CREATE} {IMAGE}; cat > /tmp/x; docker cp /tmp/x plant:/tmp/inside; rm /tmp/x",
        "/tmp/inside",
    ),
    "a process's arguments": (
        "t=$(cat); sh -c 'sleep 60; true' $t >/dev/null 2>&1 & sleep 0.2",
        "cmdline of the process sh",
    ),
    "a process's environment": (
        "t=$(cat); TOKEN=$t sleep 60 >/dev/null 2>&1 & sleep 0.2",
        "environ of the process sleep",
    ),
}
REMOVE = (
    f"docker rm -f plant; systemctl stop plant; pkill -x sleep; rm -f {UNIT} /home/nvidia/plant "
    "/var/lib/plant /var/log/plant /tmp/plant"
)


@pytest.mark.parametrize("command, place", PLANTS.values(), ids=PLANTS)
def test_the_search_finds_a_planted_copy(token_fleet: TokenFleet, command: str, place: str) -> None:
    planted = Scanner(f"plant.{secrets.token_hex(12)}")
    token_fleet.spark.sh(command, stdin=planted.secret)
    try:
        found = planted.spark(token_fleet.spark)
        assert any(place in one for one in found), found
    finally:
        token_fleet.spark.sh(
            "docker rm -f plant; pkill -x sleep; rm -f /etc/systemd/system/plant.service", check=False
        )


def test_the_search_finds_a_copy_among_the_operators_files_and_processes(
    token_fleet: TokenFleet, tmp_path: Path
) -> None:
    planted = Scanner(f"plant.{secrets.token_hex(12)}")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "plan.json").write_text(json.dumps({"token": planted.secret}))
    assert planted.directory(tmp_path) == [str(tmp_path / "deep" / "plan.json")]
    assert not token_fleet.scanner.text("nothing of that kind")
    with planted.watching() as watch:
        token_fleet.spark.sh(f"sh -c 'sleep 0.5; true' {shlex.quote(planted.secret)}")
    assert "cmdline of the process sh" in watch.found


@dataclass(frozen=True)
class TokenFile:
    path: str
    mode: str
    owner: str


def wait_for_token(spark: Machine) -> TokenFile:
    """Return the token file on the Spark as soon as the download's container runs."""
    end = time.monotonic() + 60
    running = '[ -n "$(docker ps -q --filter label=io.sparkfleet.fetch)" ]'
    while time.monotonic() < end:
        result = spark.sh(f"{running} && stat -c '%n %a %U' /run/sparkfleet/*.token", check=False)
        if result:
            return TokenFile(*result.split())
        time.sleep(0.1)
    raise AssertionError(f"no download began\n{spark.evidence()}")


def lose_weights(spark: Machine) -> None:
    """Remove the weights, so that a download is necessary."""
    spark.sh("rm -rf /home/nvidia/vllm/hub")
