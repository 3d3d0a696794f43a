"""A Spark that an older version prepared is taken over while its engine keeps serving.

``tests/fixtures/host_state/<commit>`` has that commit's own programs and the requests that its runs wrote.
They prepare, stage and roll out on a lab Spark; only digests, endpoint and container ids are the lab's.
"""

from __future__ import annotations

import json
import lzma
import threading
from pathlib import Path
from typing import Any

import pytest

from sparkfleet import zipapp
from sparkfleet.contract.generation import CurrentGeneration, Generation
from sparkfleet.contract.resources import AppliedResources
from sparkfleet.onhost.machine.system import PROGRAM
from tests.lab.caller import Caller
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.on_host import IMAGES, RUN, HostPrograms

STATES = Path(__file__).parents[1] / "fixtures" / "host_state"
COMMITS = sorted(path.name for path in STATES.iterdir())
STATE = "var/lib/sparkfleet"
RECORD = f"/{STATE}/services/nano/current.json"
UNIT = "sparkfleet-nano.service"
ENGINE = "docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.RestartCount}}' nano"
SYSCTLS = {"net.core.somaxconn": 1234}
SYSCTL = "sysctl -n net.core.somaxconn"
BY_OLDER_RUN = {
    "put": [
        {"kind": "sysctl", "key": "net.core.somaxconn", "want": {"now": "1234", "at boot": "1234"}},
        {
            "kind": "directory",
            "key": "/srv/fixture",
            "arg": "nvidia 1000",
            "want": {"mode": "0755", "owner": "nvidia"},
        },
    ],
    "take_back": [],
    "caches": [],
    "stays": ["sysctl net.core.somaxconn", "directory /srv/fixture"],
}
"""The request of a run whose host file declares a sysctl and a directory."""


def host_file(length: int, **sysctls: int) -> dict[str, Any]:
    """Return a host file with these sysctls and without the older run's directory."""
    flags = {"max-model-len": length}
    service = {"recipe": "nemotron-3-nano-30b-a3b-nvfp4", "name": "nano", "flags": flags}
    return {"serve": [service], "prepare": {"sysctls": sysctls}}


class OlderVersion:
    """A fixture's programs on a fresh Spark, started with the fixture's requests."""

    def __init__(self, folder: Path, spark: Machine) -> None:
        self.folder, self.spark, self.host = folder, spark, HostPrograms(spark)
        requests = [json.loads(path.read_text()) for path in folder.glob(f"root/{STATE}/jobs/*/request.json")]
        (self.stage_id,) = (request["id"] for request in requests if request["weights"])
        image = requests[0]["images"][0].partition("@sha256:")[2]
        own = spark.image(IMAGES["26.04"]).partition("@sha256:")[2]
        self.replacements = {
            image: own,
            image[:12]: own[:12],
            requests[0]["ask"][0]["endpoint"]: spark.state.hub_url,
        }
        rollout_requests = [
            json.loads(path.read_text()) for path in folder.glob(f"root/{STATE}/swaps/*/request.json")
        ]
        self.rollouts = [
            request["id"]
            for request in sorted(rollout_requests, key=lambda request: len(request["replaces"]))
        ]

    def run(self) -> None:
        """Prepare, stage and roll out."""
        self.install()
        self.prepare()
        self.stage()
        self.roll_out()

    def text(self, path: str) -> str:
        """Return a text file of the fixture, with this lab's digests and endpoint."""
        found = (self.folder / "root" / path).read_text()
        for old, new in self.replacements.items():
            found = found.replace(old, new)
        return found

    def install(self) -> None:
        """Write programs, ``drop_caches`` valve, recovery unit and directories as its runs wrote them."""
        self.spark.sh(f"install -d /{STATE} {PROGRAM.rpartition('/')[0]}")
        self.spark.sh("install -d -o nvidia -g nvidia /home/nvidia/vllm /home/nvidia/vllm-compile-cache")
        self.write(PROGRAM, "0755", lzma.decompress((self.folder / "sparkfleet.pyz.xz").read_bytes()))
        for path, mode in (
            ("usr/local/bin/spark-valve", "0755"),
            ("etc/systemd/system/sparkfleet-recover.service", "0644"),
        ):
            self.write(f"/{path}", mode, self.text(path).encode())
        self.spark.sh("systemctl daemon-reload; systemctl enable --quiet sparkfleet-recover")

    def write(self, path: str, mode: str, content: bytes) -> None:
        command = f"cat > {path}; chmod {mode} {path}"
        self.spark.docker.run("exec", "-i", self.spark.container, "sh", "-c", command, stdin=content)

    def prepare(self) -> None:
        result = json.loads(self.spark.sh(f"{RUN} prepare", stdin=json.dumps(BY_OLDER_RUN)))
        assert result["refused"] == [], result

    def stage(self) -> None:
        """Download the weights."""
        request = json.loads(self.text(f"{STATE}/jobs/{self.stage_id}/request.json"))
        self.spark.sh(f"{RUN} stage", stdin=json.dumps({**request, "images": []}))
        result = f"/{STATE}/jobs/{self.stage_id}/result.json"
        self.host.wait(f"test -s {result}", 60)
        assert json.loads(self.spark.sh(f"cat {result}"))["outcome"] == "staged"

    def roll_out(self) -> None:
        """Roll out both generations of the fixture, one after the other."""
        for rollout in self.rollouts:
            self.start(rollout)
            result = self.host.follow(rollout)[-1]
            assert result["outcome"] == "promoted", result

    def start(self, rollout: str) -> None:
        """Start a rollout of the fixture."""
        text = self.text(f"{STATE}/swaps/{rollout}/request.json")
        candidate = json.loads(text)["candidate"]  # its id is a hash, also of the image's digest
        made = Generation.from_json(candidate)
        request = json.loads(text.replace(candidate["id"], made.id))
        if request["replaces"]:
            request["expect"] = {"nano": self.host.inspect()["Id"]}
        sources = [word for word in made.definition if word.startswith("type=bind")]
        for source in (word.split("source=")[1].split(",")[0] for word in sources):
            self.spark.sh(f"install -d -o nvidia -g nvidia {source}")
        self.spark.sh(f"{RUN} swap", stdin=json.dumps(request))


@pytest.mark.parametrize("commit", COMMITS)
def test_an_older_versions_host_is_taken_over_while_its_engine_keeps_serving(
    commit: str, fleet: FleetDirectory, spark: Machine
) -> None:
    before = spark.sh(SYSCTL)
    older = OlderVersion(STATES / commit, spark)
    older.run()
    host, engine = HostPrograms(spark), spark.sh(ENGINE)
    program = spark.sh(f"sha256sum {PROGRAM}").split()[0]
    assert program[:12] in spark.sh(f"systemctl show -p StatusText --value {UNIT}")
    assert json.loads(spark.sh(f"cat {RECORD}"))["schema"] == 1

    fleet.host("spark-01", host_file(65536, **SYSCTLS))
    fleet.lock()
    planned = fleet.plan_data()["hosts"][0]["change_sets"]
    assert {entry["kind"] for entry in planned} == {"prepare", "update in place"}
    assert all(entry["downtime_s"] is None and entry["blocked"] is None for entry in planned)
    names = {(row[0], row[1]) for row in fleet.changes("spark-01")}
    assert names == {
        ("programs", PROGRAM),
        ("directory", "/srv/fixture"),
        ("unit", "/etc/systemd/system/sparkfleet-recover.service"),
        *(("unit", f"{UNIT} {setting}") for setting in ("ExecStart", "MemoryMax", "OOMPolicy")),
        ("supervisor", ""),
    }
    assert spark.sh(ENGINE) == engine

    caller = Caller(spark)
    caller.start()
    try:
        fleet.run().expect(0)
    finally:
        caller.stop()
    assert spark.sh(ENGINE) == engine
    assert {call.model for call in caller.calls} == {"nano"}
    assert host.serves()
    assert zipapp.sha256()[:12] in spark.sh(f"systemctl show -p StatusText --value {UNIT}")
    assert json.loads(spark.sh(f"cat {RECORD}"))["version"] == CurrentGeneration.VERSION
    assert json.loads(spark.sh(f"cat /{STATE}/prepared.json"))["version"] == AppliedResources.VERSION
    assert sorted(spark.sh(f"ls /{STATE}/rollouts").split()) == sorted(older.rollouts)
    assert not spark.ok(f"test -e /{STATE}/swaps")
    assert spark.sh(SYSCTL) == "1234" != before
    assert not spark.ok("test -e /srv/fixture")
    assert fleet.plan().expect(0).out == "spark-01   no changes\n0 to change, 1 unchanged\n"

    fleet.host("spark-01", host_file(32768, **SYSCTLS))
    assert fleet.plan().expect(2)
    fleet.run().expect(0)
    assert spark.sh(ENGINE) != engine
    assert "32768" in host.inspect()["Args"]
    request = json.loads(spark.sh(f"{RUN} rollback nano"))
    spark.sh(f"{RUN} rollout", stdin=json.dumps(request))
    assert host.follow(request["id"])[-1]["outcome"] == "promoted"
    assert host.inspect()["Config"]["Labels"]["io.sparkfleet.generation"] == request["candidate"]["id"]
    assert "65536" in host.inspect()["Args"]
    assert host.serves()
    fleet.host("spark-01", host_file(65536, **SYSCTLS))
    assert fleet.plan().expect(0)

    fleet.host("spark-01", host_file(65536))
    fleet.run(deploy="prepare").expect(0)
    assert spark.sh(SYSCTL) == before  # as the older version recorded it


@pytest.mark.parametrize("commit", COMMITS)
def test_a_rollout_that_an_older_versions_program_runs_is_followed_to_its_end(
    commit: str, fleet: FleetDirectory, spark: Machine
) -> None:
    older = OlderVersion(STATES / commit, spark)
    older.install()
    older.prepare()
    older.stage()
    (rollout,) = older.rollouts[:1]
    older.start(rollout)
    program = f"sparkfleet-swap-{rollout}.service"
    spark.sh(f"systemctl kill --signal=STOP {program}")
    fleet.host("spark-01", host_file(65536, **SYSCTLS))
    fleet.lock()
    resumed = threading.Timer(15, spark.sh, (f"systemctl kill --signal=CONT {program}",))
    resumed.start()
    try:
        fleet.run().expect(0)
    finally:
        resumed.join()
    assert HostPrograms(spark).serves()
    result = json.loads(spark.sh(f"cat /{STATE}/rollouts/{rollout}/result.json"))
    assert result["outcome"] == "promoted"
    assert fleet.plan().expect(0)
