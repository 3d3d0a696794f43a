"""The safety promise with real systemd and dockerd: one generation serves in the end, whatever happens.

The rollout is driven through the program's own commands, past operator and plan.
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
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet.onhost.state import units
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.machine import Machine
from tests.lab.on_host import RUN, OnHost

UNIT = "sparkfleet-nano.service"


@pytest.fixture
def host(spark: Machine) -> OnHost:
    """A fresh machine with programs and weights."""
    return OnHost.install(spark)


@pytest.fixture
def served(lab: Lab, lab_state: State) -> OnHost:
    """A machine where ``nano`` serves: the one of the last test, when that left it in order."""
    machine = Machine("spark-01", lab, lab_state)
    if not in_order(OnHost(machine)):
        machine.reset()
        host = OnHost.install(machine)
        assert host.roll_out(host.generation())["outcome"] == "promoted"
    return OnHost(machine)


def in_order(host: OnHost) -> bool:
    """Tell whether ``nano`` serves as a rollout left it, by the programs of today."""
    text = host.generation().unit
    return host.machine.ok(
        f"echo '{zipapp.sha256()}  {PROGRAM}' | sha256sum -c --quiet && cd /etc/systemd/system &&"
        f"test \"$(docker ps -a --format '{{{{.Names}}}}')\" = nano && systemctl is-active {UNIT} &&"
        f"systemctl is-enabled {UNIT} && test ! -e {UNIT}.d && curl -sf http://127.0.0.1:8000/health &&"
        f'test ! -e /home/nvidia/vllm/lab-engine.env && {RUN} status | grep \'"rollout": ""\' &&'
        f'test "$(cat {UNIT})" = {shlex.quote(text.strip())}'
    )


def unit(host: OnHost, key: str, name: str = UNIT) -> str:
    return host.machine.sh(f"systemctl show -p {key} --value {name}")


def assert_serves(host: OnHost, container_id: str = "") -> None:
    """Exactly one container, supervised, enabled, and it answers."""
    assert host.containers() == ["nano"]
    assert not container_id or host.inspect()["Id"] == container_id
    assert (unit(host, "ActiveState"), unit(host, "UnitFileState")) == ("active", "enabled")
    host.wait("curl -sf http://127.0.0.1:8000/health")
    assert host.serves()


def test_a_rollout_ends_with_the_new_generation_adopted_by_its_unit(served: OnHost) -> None:
    old = served.inspect()["Id"]
    result = served.roll_out(served.generation(image="26.05"), "nano", expect=(("nano", old),))
    assert result["outcome"] == "promoted"
    assert_serves(served)
    new = served.inspect()
    assert new["Id"] != old
    assert new["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert new["RestartCount"] == 0
    books = json.loads(served.machine.sh("cat /var/lib/sparkfleet/services/nano/current.json"))
    assert books["container"]["id"] == new["Id"]
    assert books["gate_result"]["answer"] == "204"
    assert unit(served, "NRestarts") == "0"


def test_time_without_service_is_told_from_the_stop_to_the_first_answer(served: OnHost) -> None:
    events = served.follow(served.ask(served.generation(image="26.05", env=("LAB_ENGINE_SLOW=3",)), "nano"))
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


WITH_AN_OPERATOR = {"wedged", "wrong-name", "no-tokens"}
"""What test_bad_engines.py sees in every run of the tests, from plan to closing words."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] * (name in WITH_AN_OPERATOR)) for name in BAD]
)
def test_a_bad_candidate_leaves_the_old_generation_serving(served: OnHost, name: str) -> None:
    changes, cause = BAD[name]
    old = served.inspect()["Id"]
    unit_text = served.machine.sh(f"cat /etc/systemd/system/{UNIT}")
    result = served.roll_out(served.generation(image="26.05", **changes), "nano")
    assert result["outcome"] == "restored", result
    assert cause in result["cause"]
    assert_serves(served, old)
    assert served.machine.sh(f"cat /etc/systemd/system/{UNIT}") == unit_text
    assert served.machine.ok(f"test -s {result['evidence']}/inspect.json")


@pytest.mark.parametrize("step", ["create", "stop", "gate"])
def test_a_killed_rollout_is_ended_by_itself(served: OnHost, step: str) -> None:
    old = served.inspect()["Id"]
    rollout_id = served.ask(served.generation(image="26.05", env=("LAB_ENGINE_SLOW=20",)), "nano")
    served.wait_for_step(rollout_id, step)
    served.machine.sh(f"systemctl kill --signal=SIGKILL sparkfleet-rollout-{rollout_id}")
    result = served.follow(rollout_id)[-1]
    assert result["outcome"] == ("restored" if step != "create" else result["outcome"])
    assert result["outcome"] in {"restored", "interrupted"}
    assert_serves(served, old)


def test_a_reboot_in_the_middle_of_a_rollout_restores_the_old_generation(served: OnHost) -> None:
    old = served.inspect()["Id"]
    rollout_id = served.ask(served.generation(image="26.05", env=("LAB_ENGINE_SLOW=60",)), "nano")
    served.wait_for_step(rollout_id, "gate")
    served.machine.reboot()
    assert served.follow(rollout_id)[-1]["outcome"] == "restored"
    assert_serves(served, old)


@pytest.mark.full  # test_reboot.py has it in every run
def test_a_service_is_back_after_a_reboot(served: OnHost) -> None:
    old = served.inspect()["Id"]
    served.machine.reboot()
    served.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(served, old)


def test_the_rollout_needs_no_operator_and_a_second_one_is_told_of_it(served: OnHost) -> None:
    first = served.ask(served.generation(image="26.05", env=("LAB_ENGINE_SLOW=5",)), "nano")
    request = {"id": "second", "candidate": served.generation().to_json(), "replaces": ["nano"]}
    answer = served.machine.sh(f"{RUN} rollout; echo code $?", stdin=json.dumps(request))
    assert json.loads(answer.splitlines()[0])["rollout"] == first
    assert answer.endswith("code 75")
    assert served.follow(first)[-1]["outcome"] == "promoted"


@pytest.mark.full  # test_reboot.py has it in every run
def test_dockerd_restarted_is_no_failure_of_the_engine(served: OnHost) -> None:
    served.machine.sh("systemctl restart docker")
    served.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(served)
    assert unit(served, "NRestarts") == "0"


def test_dockerd_stopped_for_a_while_is_waited_for_and_not_woken_up(served: OnHost) -> None:
    served.machine.sh("systemctl stop docker.service docker.socket")
    served.machine.sh("systemctl start docker.socket; sleep 5")
    assert unit(served, "ActiveState", "docker.service") == "inactive"
    assert unit(served, "ActiveState") == "active"
    served.machine.sh("systemctl start docker.service")
    served.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(served)


@pytest.mark.full  # test_reboot.py has it in every run
def test_dockerd_killed_is_no_failure_of_the_engine(served: OnHost) -> None:
    served.machine.sh("systemctl kill --signal=SIGKILL docker.service")
    served.wait("docker info")
    served.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(served)
    assert unit(served, "NRestarts") == "0"


@pytest.mark.full  # test_reboot.py has it in every run
def test_an_engine_that_ends_by_itself_is_started_again(served: OnHost) -> None:
    served.machine.sh("docker kill nano")
    served.wait("[ $(systemctl show -p NRestarts --value sparkfleet-nano) = 1 ]")
    served.wait("curl -sf http://127.0.0.1:8000/health")
    assert_serves(served)


@pytest.mark.full  # test_reboot.py has it in every run, over reboots
def test_an_engine_that_fails_at_every_start_is_tried_three_times_and_no_more(host: OnHost) -> None:
    assert host.roll_out(host.generation(engine="crash-later:2"))["outcome"] == "promoted"
    host.machine.sh("echo LAB_ENGINE=crash-at-start > /home/nvidia/vllm/lab-engine.env")
    host.wait(f"[ $(systemctl show -p ActiveState --value {UNIT}) = failed ]", 90)
    started = host.inspect()["State"]["StartedAt"]
    host.machine.sh("sleep 15")
    assert host.inspect()["State"]["StartedAt"] == started
    assert host.machine.ok(f"journalctl -u {UNIT} | grep 'Start request repeated too quickly'")
    assert host.machine.sh(f"journalctl -u {UNIT} | grep -cE '(starting|adopting) container nano'") == "3"


def test_a_wanted_stop_stays_a_stop(served: OnHost) -> None:
    served.machine.sh(f"systemctl stop {UNIT}")
    assert served.inspect()["State"]["Running"] is False
    assert (unit(served, "ActiveState"), unit(served, "Result")) == ("inactive", "success")


def test_a_unit_changed_by_hand_is_put_right_without_a_restart(served: OnHost) -> None:
    before = served.inspect()
    served.machine.sh(
        f"sed -i 's/RestartSec=10/RestartSec=1/' /etc/systemd/system/{UNIT};"
        f"cd /etc/systemd/system; mkdir {UNIT}.d; printf '[Service]\\nNice=3\\n' > {UNIT}.d/x.conf;"
        f"systemctl daemon-reload; systemctl disable {UNIT}"
    )
    generation = served.generation()
    served.machine.sh(f"{RUN} repair nano", stdin=json.dumps(RepairRequest(generation).to_json()))
    assert served.machine.sh(f"cat /etc/systemd/system/{UNIT}") == generation.unit.strip()
    assert not served.machine.ok(f"test -e /etc/systemd/system/{UNIT}.d")
    assert served.inspect()["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert_serves(served, before["Id"])


def test_a_new_floor_reaches_the_supervisor_without_a_restart_of_the_engine(served: OnHost) -> None:
    before = served.inspect()["State"]["StartedAt"]
    generation = served.generation()
    text = units.service_unit("nano", "nano", 345, 10)
    served.machine.sh(
        f"{RUN} repair nano",
        stdin=json.dumps(RepairRequest(replace(generation, unit=text, floor_mib=345)).to_json()),
    )
    command = served.machine.sh(f"tr '\\0' ' ' < /proc/{unit(served, 'MainPID')}/cmdline")
    assert "--floor-mib 345" in command
    assert served.inspect()["State"]["StartedAt"] == before
    assert_serves(served)


def test_memory_below_the_floor_kills_the_engine_and_not_the_spark(served: OnHost) -> None:
    generation = served.generation()
    text = units.service_unit("nano", "nano", 10_000_000, 10).replace("RestartSec=10", "RestartSec=1")
    served.machine.sh(
        f"{RUN} repair nano",
        stdin=json.dumps(RepairRequest(replace(generation, unit=text)).to_json()),
        check=False,
    )
    served.wait(f"journalctl -u {UNIT} | grep 'below the floor of 10000000 MiB'")
    served.wait(f"[ $(systemctl show -p ActiveState --value {UNIT}) = failed ]", 90)
    assert served.inspect()["State"]["Running"] is False


def test_a_container_that_is_not_ours_is_named_and_left_alone(host: OnHost) -> None:
    image = host.machine.image("nvcr.io/nvidia/vllm:26.04-py3")
    host.machine.sh(f"docker run -d --name nano --entrypoint sleep {image} 1000")
    result = host.roll_out(host.generation(), "nano")
    assert result["outcome"] == "refused"
    assert "nano" in result["cause"]
    assert "not managed by sparkfleet" in result["cause"]
    assert host.inspect()["State"]["Running"] is True


def test_a_port_held_by_somebody_else_is_named(host: OnHost) -> None:
    host.machine.sh("systemd-run --unit squatter python3 -m http.server 8000")
    host.wait("curl -sf http://127.0.0.1:8000/")
    result = host.roll_out(host.generation())
    assert result["outcome"] == "refused"
    assert re.search(r"port 8000 is held by .*http.server.*\(pid \d+\)", result["cause"])
    assert host.containers() == []


def test_a_rollback_goes_through_the_same_rollout_and_back(served: OnHost) -> None:
    first = served.generation()
    served.roll_out(served.generation(image="26.05"), "nano")
    request: dict[str, Any] = json.loads(served.machine.sh(f"{RUN} rollback nano"))
    served.machine.sh(f"{RUN} rollout", stdin=json.dumps(request))
    assert served.follow(request["id"])[-1]["outcome"] == "promoted"
    assert served.inspect()["Config"]["Labels"]["io.sparkfleet.generation"] == first.id
    assert_serves(served)


def test_a_removal_leaves_nothing_of_the_service(served: OnHost) -> None:
    assert served.roll_out(None, "nano")["outcome"] == "removed"
    assert served.containers() == []
    assert not served.machine.ok(f"systemctl cat {UNIT}")
    assert json.loads(served.machine.sh(f"{RUN} status"))["services"] == {}


def test_no_token_of_the_container_is_left_on_the_spark(host: OnHost) -> None:
    token = "hf_" + "c4n4ry" * 6
    host.roll_out(host.generation(engine="crash-after-load", flags=("--api-key", token)))
    assert host.machine.sh(f"grep -rl {token} /var/lib/sparkfleet --include=evidence", check=False) == ""
    assert host.machine.sh(f"grep -l {token} /var/lib/sparkfleet/rollouts/*/evidence/*", check=False) == ""
    assert host.machine.sh(f"grep -l {token} /var/lib/sparkfleet/rollouts/*/events.jsonl", check=False) == ""
    assert host.machine.sh(f"journalctl --no-pager -u 'sparkfleet-*' | grep {token}", check=False) == ""
