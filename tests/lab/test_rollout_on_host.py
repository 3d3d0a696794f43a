"""The safety promise with real systemd and dockerd: in the end one generation serves, whatever fails.

The rollout is started by the program's own commands, without operator and plan.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from typing import Any

import pytest

from sparkfleet import zipapp
from sparkfleet.contract.generation import Gate
from sparkfleet.contract.rollout import RepairRequest
from sparkfleet.onhost.machine.memory_max import ROLLOUT_MIB, SUPERVISOR_MIB
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet.onhost.state import units
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.machine import Machine
from tests.lab.on_host import DAEMONS, RUN, HostPrograms

UNIT = "sparkfleet-nano.service"


@pytest.fixture
def host(spark: Machine) -> HostPrograms:
    """A fresh machine with programs and weights."""
    return HostPrograms.install(spark)


@pytest.fixture
def serving(lab: Lab, lab_state: State) -> HostPrograms:
    """A machine where ``nano`` serves: that of the last test if it is clean, else a fresh one."""
    machine = Machine("spark-01", lab, lab_state)
    if not is_clean(HostPrograms(machine)):
        machine.reset()
        host = HostPrograms.install(machine)
        assert host.roll_out(host.generation())["outcome"] == "promoted"
    return HostPrograms(machine)


def is_clean(host: HostPrograms) -> bool:
    """Return whether ``nano`` serves as a rollout left it, by the current programs."""
    text = host.generation().unit
    return host.machine.ok(
        f"echo '{zipapp.sha256()}  {PROGRAM}' | sha256sum -c --quiet && cd /etc/systemd/system &&"
        f"test \"$(docker ps -a --format '{{{{.Names}}}}')\" = nano && systemctl is-active {UNIT} &&"
        f"systemctl is-enabled {UNIT} && test ! -e {UNIT}.d && curl -sf http://127.0.0.1:8000/health &&"
        f'test ! -e /home/nvidia/vllm/lab-engine.env && {RUN} status | grep \'"rollout": ""\' &&'
        f'test "$(cat {UNIT})" = {shlex.quote(text.strip())}'
    )


def unit(host: HostPrograms, key: str, name: str = UNIT) -> str:
    return host.machine.sh(f"systemctl show -p {key} --value {name}")


def assert_serves(host: HostPrograms, container_id: str = "") -> None:
    """Fail unless exactly one container exists, supervised and enabled, and it answers."""
    assert host.containers() == ["nano"]
    assert not container_id or host.inspect()["Id"] == container_id
    assert (unit(host, "ActiveState"), unit(host, "UnitFileState")) == ("active", "enabled")
    host.wait("curl -sf http://127.0.0.1:8000/health")
    assert host.serves()


def test_a_rollout_ends_with_the_new_generation_adopted_by_its_unit(serving: HostPrograms) -> None:
    old = serving.inspect()["Id"]
    result = serving.roll_out(serving.generation(image="26.05"), "nano", expect=(("nano", old),))
    assert result["outcome"] == "promoted"
    assert_serves(serving)
    new = serving.inspect()
    assert new["Id"] != old
    assert new["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert new["RestartCount"] == 0
    record = json.loads(serving.machine.sh("cat /var/lib/sparkfleet/services/nano/current.json"))
    assert record["container"]["id"] == new["Id"]
    assert record["gate_result"]["answer"] == "204"
    assert unit(serving, "NRestarts") == "0"


def test_every_unit_has_a_memory_limit_that_its_engine_does_not_count_for(serving: HostPrograms) -> None:
    limits = f"systemctl show -p MemoryMax --value {UNIT} {units.RECOVER}"
    assert serving.machine.sh(limits).split() == [str(SUPERVISOR_MIB << 20), str(ROLLOUT_MIB << 20)]
    engine = serving.inspect()["State"]["Pid"]
    assert UNIT not in serving.machine.sh(f"cat /proc/{engine}/cgroup")
    rollout = serving.request_rollout(serving.generation(image="26.05", env=("LAB_ENGINE_SLOW=8",)), "nano")
    name = f"sparkfleet-rollout-{rollout}.service"
    host_limit = serving.machine.sh(f"systemctl show -p MemoryMax --value {name}")
    assert host_limit == str(ROLLOUT_MIB << 20)
    serving.wait(f"pgrep -P $(systemctl show -p MainPID --value {name}) -f MemAvailable")
    assert serving.follow(rollout)[-1]["outcome"] == "promoted"
    serving.wait(f"pgrep -P {unit(serving, 'MainPID')} -f MemAvailable")


def test_downtime_is_measured_from_the_stop_to_the_first_answer(serving: HostPrograms) -> None:
    events = serving.follow(
        serving.request_rollout(serving.generation(image="26.05", env=("LAB_ENGINE_SLOW=3",)), "nano")
    )
    result = events[-1]
    stop = next(event["at"] for event in events if event.get("step") == "stop")
    assert result["downtime_s"] == pytest.approx(result["gate_result"]["serving_at"] - stop, abs=0.01)
    assert result["downtime_s"] > result["gate_result"]["ready_s"] >= 3


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "crash-after-load": ({"engine": "crash-after-load"}, "exit code 1"),
    "wedged": ({"engine": "wedged", "gate": Gate(timeout_s=30, second_timeout_s=1)}, "wedged"),
    "wrong-name": ({"engine": "wrong-name"}, "wrong name"),
    "unknown-flag": ({"flags": ("--nonsense",)}, "--nonsense"),
    "no-tokens": ({"engine": "no-tokens"}, "counter did not move"),
    "below-the-floor": ({"engine": "hangs-loading", "floor_mib": 10_000_000}, "below the floor"),
}


ALSO_TESTED_WITH_OPERATOR = {"wedged", "wrong-name", "no-tokens"}
"""Cases that test_bad_engines.py covers in every run, from the plan to the closing lines."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.full] * (name in ALSO_TESTED_WITH_OPERATOR)) for name in BAD],
)
def test_a_bad_candidate_leaves_the_old_generation_serving(serving: HostPrograms, name: str) -> None:
    changes, cause = BAD[name]
    old = serving.inspect()["Id"]
    unit_text = serving.machine.sh(f"cat /etc/systemd/system/{UNIT}")
    result = serving.roll_out(serving.generation(image="26.05", **changes), "nano")
    assert result["outcome"] == "restored", result
    assert cause in result["diagnostic"]["message"]
    assert_serves(serving, old)
    assert serving.machine.sh(f"cat /etc/systemd/system/{UNIT}") == unit_text
    assert serving.machine.ok(f"test -s {result['evidence']}/inspect.json")


@pytest.mark.parametrize("step", ["create", "stop", "gate"])
def test_a_killed_rollout_is_resumed_and_ends(serving: HostPrograms, step: str) -> None:
    old = serving.inspect()["Id"]
    rollout_id = serving.request_rollout(
        serving.generation(image="26.05", env=("LAB_ENGINE_SLOW=20",)), "nano"
    )
    serving.wait_for_step(rollout_id, step)
    serving.machine.sh(f"systemctl kill --signal=SIGKILL sparkfleet-rollout-{rollout_id}")
    result = serving.follow(rollout_id)[-1]
    assert result["outcome"] == ("restored" if step != "create" else result["outcome"])
    assert result["outcome"] in {"restored", "interrupted"}
    assert_serves(serving, old)


def test_a_reboot_in_the_middle_of_a_rollout_restores_the_old_generation(serving: HostPrograms) -> None:
    old = serving.inspect()["Id"]
    rollout_id = serving.request_rollout(
        serving.generation(image="26.05", env=("LAB_ENGINE_SLOW=60",)), "nano"
    )
    serving.wait_for_step(rollout_id, "gate")
    serving.machine.reboot()
    assert serving.follow(rollout_id)[-1]["outcome"] == "restored"
    assert_serves(serving, old)


@pytest.mark.full  # test_reboot.py covers it in every run
def test_a_service_serves_again_after_a_reboot(serving: HostPrograms) -> None:
    old = serving.inspect()["Id"]
    serving.machine.reboot()
    serving.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(serving, old)


def test_the_rollout_needs_no_operator_and_a_second_one_is_refused_with_its_id(serving: HostPrograms) -> None:
    first = serving.request_rollout(serving.generation(image="26.05", env=("LAB_ENGINE_SLOW=5",)), "nano")
    request = {"id": "second", "candidate": serving.generation().to_json(), "replaces": ["nano"]}
    result = serving.machine.sh(f"{RUN} rollout; echo code $?", stdin=json.dumps(request))
    assert json.loads(result.splitlines()[0])["rollout"] == first
    assert result.endswith("code 75")
    assert serving.follow(first)[-1]["outcome"] == "promoted"


@pytest.mark.full  # test_reboot.py covers it in every run
def test_a_restart_of_dockerd_does_not_count_as_a_failure_of_the_engine(serving: HostPrograms) -> None:
    serving.machine.sh("systemctl restart docker")
    serving.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(serving)
    assert unit(serving, "NRestarts") == "0"


def test_the_supervisor_waits_for_a_stopped_dockerd_and_does_not_start_it(serving: HostPrograms) -> None:
    serving.machine.sh("systemctl stop docker.service docker.socket")
    serving.machine.sh("systemctl start docker.socket; sleep 5")
    assert unit(serving, "ActiveState", "docker.service") == "inactive"
    assert unit(serving, "ActiveState") == "active"
    serving.machine.sh("systemctl start docker.service")
    serving.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(serving)


@pytest.mark.full  # test_reboot.py covers it in every run
def test_a_killed_dockerd_does_not_count_as_a_failure_of_the_engine(serving: HostPrograms) -> None:
    serving.machine.sh("systemctl kill --signal=SIGKILL docker.service")
    serving.wait("docker info")
    serving.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(serving)
    assert unit(serving, "NRestarts") == "0"


@pytest.mark.full  # test_reboot.py covers it in every run
def test_an_engine_that_ends_by_itself_is_started_again(serving: HostPrograms) -> None:
    serving.machine.sh("docker kill nano")
    serving.wait("[ $(systemctl show -p NRestarts --value sparkfleet-nano) = 1 ]")
    serving.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(serving)


@pytest.mark.full  # test_reboot.py covers it in every run, over reboots
def test_an_engine_that_fails_at_every_start_is_started_three_times_and_no_more(host: HostPrograms) -> None:
    assert host.roll_out(host.generation(engine="crash-later:2"))["outcome"] == "promoted"
    host.machine.sh("echo LAB_ENGINE=crash-at-start > /home/nvidia/vllm/lab-engine.env")
    host.wait(f"[ $(systemctl show -p ActiveState --value {UNIT}) = failed ]", 90)
    started = host.inspect()["State"]["StartedAt"]
    host.machine.sh("sleep 15")
    assert host.inspect()["State"]["StartedAt"] == started
    assert host.machine.ok(f"journalctl -u {UNIT} | grep 'Start request repeated too quickly'")
    assert host.machine.sh(f"journalctl -u {UNIT} | grep -cE '(starting|adopting) container nano'") == "3"


def test_a_requested_stop_is_not_undone(serving: HostPrograms) -> None:
    serving.machine.sh(f"systemctl stop {UNIT}")
    assert serving.inspect()["State"]["Running"] is False
    assert (unit(serving, "ActiveState"), unit(serving, "Result")) == ("inactive", "success")


def test_a_manually_changed_unit_is_repaired_without_a_restart(serving: HostPrograms) -> None:
    before = serving.inspect()
    serving.machine.sh(
        f"sed -i 's/RestartSec=10/RestartSec=1/' /etc/systemd/system/{UNIT};"
        f"cd /etc/systemd/system; mkdir {UNIT}.d; printf '[Service]\\nNice=3\\n' > {UNIT}.d/x.conf;"
        f"systemctl daemon-reload; systemctl disable {UNIT}"
    )
    generation = serving.generation()
    serving.machine.sh(f"{RUN} repair nano", stdin=json.dumps(RepairRequest(generation).to_json()))
    assert serving.machine.sh(f"cat /etc/systemd/system/{UNIT}") == generation.unit.strip()
    assert not serving.machine.ok(f"test -e /etc/systemd/system/{UNIT}.d")
    assert serving.inspect()["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert_serves(serving, before["Id"])


def test_a_new_memory_minimum_reaches_the_supervisor_without_a_restart_of_the_engine(
    serving: HostPrograms,
) -> None:
    before = serving.inspect()["State"]["StartedAt"]
    generation = serving.generation()
    text = units.service_unit("nano", "nano", 345, 10, DAEMONS)
    serving.machine.sh(
        f"{RUN} repair nano",
        stdin=json.dumps(RepairRequest(replace(generation, unit=text, floor_mib=345)).to_json()),
    )
    command = serving.machine.sh(f"tr '\\0' ' ' < /proc/{unit(serving, 'MainPID')}/cmdline")
    assert "--floor-mib 345" in command
    assert serving.inspect()["State"]["StartedAt"] == before
    assert_serves(serving)


def test_memory_below_the_minimum_kills_the_engine_and_not_the_spark(serving: HostPrograms) -> None:
    generation = serving.generation()
    text = units.service_unit("nano", "nano", 10_000_000, 10, DAEMONS).replace(
        "RestartSec=10", "RestartSec=1"
    )
    serving.machine.sh(
        f"{RUN} repair nano",
        stdin=json.dumps(RepairRequest(replace(generation, unit=text)).to_json()),
        check=False,
    )
    serving.wait(f"journalctl -u {UNIT} | grep 'below the floor of 10000000 MiB'")
    serving.wait(f"[ $(systemctl show -p ActiveState --value {UNIT}) = failed ]", 90)
    assert serving.inspect()["State"]["Running"] is False


def test_an_unmanaged_container_is_named_and_not_changed(host: HostPrograms) -> None:
    image = host.machine.image("nvcr.io/nvidia/vllm:26.04-py3")
    host.machine.sh(f"docker run -d --name nano --entrypoint sleep {image} 1000")
    result = host.roll_out(host.generation(), "nano")
    assert result["outcome"] == "refused"
    assert (result["diagnostic"]["location"], result["diagnostic"]["code"]) == (
        "container nano",
        "container-name-taken",
    )
    assert "not managed by sparkfleet" in result["diagnostic"]["message"]
    assert host.inspect()["State"]["Running"] is True


def test_the_foreign_owner_of_a_port_is_named(host: HostPrograms) -> None:
    host.machine.sh("systemd-run --unit squatter python3 -m http.server 8000")
    host.wait("curl -sf http://127.0.0.1:8000/")
    result = host.roll_out(host.generation())
    assert result["outcome"] == "refused"
    assert result["diagnostic"]["location"] == "port 8000"
    assert re.search(r"held by .*http.server.*\(pid \d+\)", result["diagnostic"]["message"])
    assert host.containers() == []


def test_a_rollback_is_a_rollout_of_the_previous_generation(serving: HostPrograms) -> None:
    first = serving.generation()
    serving.roll_out(serving.generation(image="26.05"), "nano")
    request: dict[str, Any] = json.loads(serving.machine.sh(f"{RUN} rollback nano"))
    serving.machine.sh(f"{RUN} rollout", stdin=json.dumps(request))
    assert serving.follow(request["id"])[-1]["outcome"] == "promoted"
    assert serving.inspect()["Config"]["Labels"]["io.sparkfleet.generation"] == first.id
    assert_serves(serving)


def test_a_removal_leaves_nothing_of_the_service(serving: HostPrograms) -> None:
    assert serving.roll_out(None, "nano")["outcome"] == "removed"
    assert serving.containers() == []
    assert not serving.machine.ok(f"systemctl cat {UNIT}")
    assert json.loads(serving.machine.sh(f"{RUN} status"))["services"] == {}


def test_no_token_of_the_container_remains_on_the_spark(host: HostPrograms) -> None:
    token = "hf_" + "c4n4ry" * 6
    host.roll_out(host.generation(engine="crash-after-load", flags=("--api-key", token)))
    assert host.machine.sh(f"grep -rl {token} /var/lib/sparkfleet --include=evidence", check=False) == ""
    assert host.machine.sh(f"grep -l {token} /var/lib/sparkfleet/rollouts/*/evidence/*", check=False) == ""
    assert host.machine.sh(f"grep -l {token} /var/lib/sparkfleet/rollouts/*/events.jsonl", check=False) == ""
    assert host.machine.sh(f"journalctl --no-pager -u 'sparkfleet-*' | grep {token}", check=False) == ""
