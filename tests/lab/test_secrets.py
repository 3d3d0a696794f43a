"""A token for the hub is in no place but its own: not in use, not afterwards, not when things go wrong."""

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
from tests.lab.served import fresh

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
_KNOWN = """\
import json, sys
path = "{path}"
tokens = json.load(open(path))
change = json.load(sys.stdin)
tokens = {{name: user for name, user in (tokens | change).items() if user}}
json.dump(tokens, open(path, "w"))
"""


@dataclass
class Guarded:
    """A fleet whose one model needs a token, the Spark, and the search for that token."""

    fleet: FleetDirectory
    spark: Machine
    token: Path
    """The operator's own file with the token."""
    scanner: Scanner

    def operator(self) -> list[str]:
        """Return the operator's files with the token, its own left out."""
        return [path for path in self.scanner.directory(self.fleet.root.parent) if path != str(self.token)]

    def clean(self, said: Outcome) -> Outcome:
        """Return what a command said, which must not be the token."""
        assert not self.scanner.text(said.text), said.text
        return said


def know(lab: Lab, tokens: Mapping[str, object]) -> None:
    """Make tokens known to the lab's hub; None: no longer."""
    docker, hub = Docker(), lab.container("hub")
    path = docker.run(
        "exec", hub, "sh", "-c", "find / -name tokens.json -not -path '/proc/*' | head -1"
    ).strip()
    words = ("exec", "-i", hub, "python3", "-c", _KNOWN.format(path=path))
    docker.run(*words, stdin=json.dumps(tokens).encode())


@pytest.fixture(scope="module")
def guarded(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    # Not the shape of a token: what is masked by its shape alone would hide that it travels.
    canary = f"canary.{secrets.token_hex(16)}"
    root = tmp_path_factory.mktemp("secrets")
    (spark,) = fresh(lab, lab_state, "spark-01")
    know(lab, {canary: {"name": "canary", "accepted": [GEMMA]}})
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
    yield Guarded(fleet, spark, token, Scanner(canary))
    faults.mend_services(Docker(), lab, lab_state)
    know(lab, {canary: None})


def test_looking_and_locking_leave_the_token_nowhere(guarded: Guarded) -> None:
    with guarded.scanner.watching() as watch:
        guarded.clean(guarded.fleet.lock())
        guarded.clean(guarded.fleet.command("sparkfleet", "check", "inventories/lab.py").expect(0))
        guarded.clean(guarded.fleet.plan().expect(2))
        guarded.clean(guarded.fleet.plan("--json").expect(2))
        guarded.clean(guarded.fleet.dry("-vvv", "--debug").expect(0))
    assert watch.scans > 10
    assert watch.found == []
    assert guarded.operator() == []
    assert guarded.scanner.spark(guarded.spark) == []


def test_a_download_has_the_token_in_one_file_of_its_one_reader_and_nothing_has_it_afterwards(
    guarded: Guarded, lab_state: State
) -> None:
    faults._set_hub_fault(lab_state, json.dumps({"slow_bytes_per_s": 300_000, "path": "/resolve/"}))
    with guarded.scanner.watching() as watch:
        run = guarded.fleet.start(
            "pyinfra", "inventories/lab.py", "deploys/serve.py", "-y", "-vvv", "--debug"
        )
        try:
            own = wait_for_token(guarded.spark)
            during = guarded.scanner.spark(guarded.spark)
            faults._set_hub_fault(lab_state, "{}")
            said = run.communicate(timeout=240)[0]
        finally:
            run.kill()
    guarded.clean(Outcome(run.returncode, said, "")).expect(0)
    assert during == [f"file {own.path}"]
    assert (own.mode, own.owner) == ("600", "nvidia")
    assert watch.found == []
    assert guarded.scanner.spark(guarded.spark) == []
    assert guarded.operator() == []
    assert "gemma" in guarded.spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
    guarded.clean(guarded.fleet.plan().expect(0))


def test_a_killed_download_leaves_no_token_behind(guarded: Guarded, lab_state: State) -> None:
    lose_weights(guarded.spark)
    faults._set_hub_fault(lab_state, json.dumps({"slow_bytes_per_s": 100_000, "path": "/resolve/"}))
    run = guarded.fleet.start(*RUN)
    try:
        wait_for_token(guarded.spark)
        guarded.spark.sh("systemctl kill -s KILL 'sparkfleet-stage-*'")
        said = run.communicate(timeout=240)[0]
    finally:
        run.kill()
        faults._set_hub_fault(lab_state, "{}")
    assert run.returncode != 0
    guarded.clean(Outcome(run.returncode, said, ""))
    there = "ls /run/sparkfleet/*.token >/dev/null 2>&1"
    assert guarded.spark.ok(f"for i in $(seq 100); do {there} || exit 0; sleep 0.1; done; exit 1")
    assert guarded.scanner.spark(guarded.spark) == []


def test_a_token_that_the_hub_refuses_is_not_told_either(guarded: Guarded) -> None:
    lose_weights(guarded.spark)
    good, wrong = guarded.token.read_text(), f"wrong.{secrets.token_hex(16)}"
    guarded.token.write_text(wrong)
    try:
        said = guarded.fleet.run("-vvv", "--debug")
    finally:
        guarded.token.write_text(good)
    refused = Scanner(wrong)
    assert said.code != 0
    assert "token" in said.text
    assert not refused.text(said.text), said.text
    assert refused.spark(guarded.spark) == []
    assert refused.directory(guarded.fleet.root.parent) == []


UNIT = "/etc/systemd/system/plant.service"
CREATE = "docker create --name plant"
IMAGE = "$(docker images -q | head -1)"

PLANTS: Mapping[str, tuple[str, str]] = {
    "a file in a home": ("cat > /home/nvidia/plant", "file /home/nvidia/plant"),
    "a unit": (
        f"{{ printf '[Service]\nExecStart=/bin/true\nEnvironment=TOKEN='; cat; }} > {UNIT}",
        f"file {UNIT}",
    ),
    "what systemd keeps of a unit": (
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
    "a process's words": (
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
def test_the_search_finds_a_copy_that_was_planted_in(guarded: Guarded, command: str, place: str) -> None:
    planted = Scanner(f"plant.{secrets.token_hex(12)}")
    guarded.spark.sh(command, stdin=planted.secret)
    try:
        found = planted.spark(guarded.spark)
        assert any(place in one for one in found), found
    finally:
        guarded.spark.sh(
            "docker rm -f plant; pkill -x sleep; rm -f /etc/systemd/system/plant.service", check=False
        )


def test_the_search_finds_a_copy_among_the_operators_files_and_processes(
    guarded: Guarded, tmp_path: Path
) -> None:
    planted = Scanner(f"plant.{secrets.token_hex(12)}")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "plan.json").write_text(json.dumps({"token": planted.secret}))
    assert planted.directory(tmp_path) == [str(tmp_path / "deep" / "plan.json")]
    assert not guarded.scanner.text("nothing of that kind")
    with planted.watching() as watch:
        guarded.spark.sh(f"sh -c 'sleep 0.5; true' {shlex.quote(planted.secret)}")
    assert "cmdline of the process sh" in watch.found


@dataclass(frozen=True)
class TokenFile:
    path: str
    mode: str
    owner: str


def wait_for_token(spark: Machine) -> TokenFile:
    """Return the token's file on the Spark as soon as the container that downloads runs."""
    end = time.monotonic() + 60
    running = '[ -n "$(docker ps -q --filter label=io.sparkfleet.fetch)" ]'
    while time.monotonic() < end:
        seen = spark.sh(f"{running} && stat -c '%n %a %U' /run/sparkfleet/*.token", check=False)
        if seen:
            return TokenFile(*seen.split())
        time.sleep(0.1)
    raise AssertionError(f"no download began\n{spark.evidence()}")


def lose_weights(spark: Machine) -> None:
    """Make a download necessary."""
    spark.sh("rm -rf /home/nvidia/vllm/hub")
