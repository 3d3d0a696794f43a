"""Two Sparks serve one model by vLLM's own ``mp``: rolled out in one run, and restarted when a rank is lost.

Each test starts from the state that the previous one left; each leaves both serving.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.machine import Machine
from tests.lab.on_host import RUN
from tests.lab.pairs import Pair, empty_pair

IMAGE = "nvcr.io/nvidia/vllm"
REPOSITORIES = "/var/lib/docker/image/overlay2/repositories.json"
"""Where dockerd stores the image of each name."""


@pytest.fixture(scope="module")
def shared(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two machines that one run took from a fresh state to one served model."""
    made = empty_pair(lab, lab_state, tmp_path_factory.mktemp("pair"))
    made.declare()
    made.fleet.lock()
    made.fleet.run().expect(0)
    return made


@pytest.fixture
def pair(shared: Pair) -> Pair:
    """Both Sparks; the declaration is what they serve."""
    current = shared.lengths()
    shared.declare(max_model_len=int(current[0]))
    if len(set(current)) > 1 or not shared.serves():
        shared.fleet.run().expect(0)
    return shared


def test_one_run_starts_a_cluster_and_the_next_plan_is_empty(pair: Pair) -> None:
    assert pair.serves()
    before = pair.containers()
    pair.expect_empty_plan()
    pair.fleet.run().expect(0)
    assert pair.containers() == before


def test_a_change_is_made_on_both_and_removes_a_leftover_container(pair: Pair) -> None:
    leftover = (
        "docker run -d --name old --label io.sparkfleet.service=old --stop-signal KILL --entrypoint sleep"
    )
    pair.machines[1].sh(f"{leftover} $(docker inspect -f '{{{{.Image}}}}' wide) 1000")
    before, after = pair.change()
    text = pair.fleet.plan().out
    assert text.count(f"--max-model-len {before} → {after}") == 1
    assert [line for line in text.splitlines() if "container   old" in line and "on spark-02" in line]
    pair.fleet.run().expect(0)
    assert pair.machines[1].sh("docker ps -a --format '{{.Names}}'") == "wide"
    assert pair.lengths() == [after, after]
    assert pair.serves()
    pair.expect_empty_plan()


def test_members_that_differ_or_share_an_identity_are_named_and_nothing_stops(pair: Pair) -> None:
    first, second = pair.machines
    before, own = pair.containers(), second.sh("cat /etc/machine-id")
    second.sh("cat > /etc/machine-id", stdin=first.sh("cat /etc/machine-id"))
    second.sh("sed 's/$/ kho=off/' /proc/cmdline > /run/cmdline && mount --bind /run/cmdline /proc/cmdline")
    try:
        texts = [pair.fleet.plan().expect(0).text, pair.fleet.run().expect(0).text]
        preflight = pair.fleet.command("sparkfleet", "status", "inventories/lab.py", "--preflight").expect(1)
    finally:
        second.sh("umount /proc/cmdline; cat > /etc/machine-id", stdin=own)
    for text in texts:
        assert "warning    cluster pair: boot parameters: none on spark-01, kho=off on spark-02" in text
        assert "warning    spark-01, spark-02: the same /etc/machine-id" in text
    rows = [line.split("\t") for line in preflight.out.splitlines()]
    assert [row[0] for row in rows if row[1:3] == ["machine-id", "fail"]] == ["spark-01", "spark-02"]
    assert ["boot parameters", "differs", "kho=off", "spark-02"] in rows
    assert pair.containers() == before
    assert pair.serves()
    pair.expect_empty_plan()


def test_a_change_waits_for_the_rdma_regions_of_the_last_engine(pair: Pair) -> None:
    _, after = pair.change()
    member = pair.machines[1]
    member.break_("rdma-regions")
    released: list[str] = []

    def release(line: str) -> None:
        if "waiting for the release of 2" in line and not released:
            released.append(line)
            member.repair()

    code, text = pair.run(release)
    assert code == 0, text
    assert released, text
    assert pair.lengths() == [after, after]
    assert member.ok("grep -q 'last engine: released after' /var/lib/sparkfleet/rollouts/*/events.jsonl")
    pair.expect_empty_plan()


@pytest.mark.parametrize("bad", [0, 1])
def test_an_engine_that_fails_on_one_rank_rolls_both_back(pair: Pair, bad: int) -> None:
    machine = pair.machines[bad]
    before, _ = pair.change()
    code, text = pair.run_with_fault(machine, "crash-after-load")
    assert code == 1
    assert "rolled back: the previous generation serves again and passed its gate" in text
    assert f"{machine.name} (192.168.176.{bad + 1}): the engine ended with exit code 1" in text
    pair.wait_until_idle()
    assert pair.lengths() == [before, before]


FAULTS = {
    "sshd-stopped": "spark-02 is unknown: the server closed the connection before an SSH banner",
    "models-full": "spark-02: /home/nvidia/vllm",
    "gpu-gone": "spark-02 (192.168.176.2): GPU: it does not answer: NVIDIA-SMI has failed",
}
"""Fault that prevents a change of a member -> its message, in the plan or before an engine stops."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_member_that_cannot_change_is_named_and_nothing_stops(pair: Pair, fault: str) -> None:
    before = pair.containers()
    pair.change()
    pair.machines[1].break_(fault)
    seen = pair.fleet.run()
    pair.machines[1].repair()
    assert seen.code == 1
    head = seen.text[seen.text.rindex("spark-01   FAILED") :]
    assert FAULTS[fault] in head[: head.find("spark-02   FAILED")]  # the head reports the reason, too
    assert pair.containers() == before
    assert pair.serves()


@pytest.mark.full
def test_an_image_that_a_member_lost_is_fetched_while_both_serve(pair: Pair) -> None:
    before = pair.containers()
    pair.machines[1].sh("docker rmi -f $(docker inspect -f '{{.Config.Image}}' wide)")
    seen = pair.fleet.plan_data()["hosts"]
    assert [one["state"] for one in seen] == ["unchanged", "change"]
    pair.fleet.run().expect(0)
    assert pair.containers() == before
    pair.expect_empty_plan()


@pytest.mark.full
def test_a_tag_that_is_moved_on_one_member_changes_nothing(pair: Pair) -> None:
    other = "docker images -q --digests --filter dangling=false " + IMAGE
    own = pair.machines[1].sh("docker inspect -f '{{.Image}}' wide")
    for identity in pair.machines[1].sh(f"{other} --no-trunc").split():
        if identity != own:
            pair.machines[1].sh(f"docker tag {identity} {IMAGE}:26.04-py3")
    pair.expect_empty_plan()
    before, after = pair.change()
    pair.fleet.run().expect(0)
    assert pair.machines[1].sh("docker inspect -f '{{.Image}}' wide") == own
    assert pair.lengths() == [after, after]
    assert before != after


@pytest.mark.full
def test_another_image_under_the_same_digest_on_one_member_is_refused_before_an_engine_stops(
    pair: Pair,
) -> None:
    member = pair.machines[1]
    original = member.sh(f"cat {REPOSITORIES}")
    repositories = json.loads(original)
    names = repositories["Repositories"][IMAGE]
    used = member.sh("docker inspect -f '{{.Image}}' wide")
    other = next(identity for identity in names.values() if identity != used)
    repositories["Repositories"][IMAGE] = {
        name: other if identity == used else identity for name, identity in names.items()
    }
    restart_dockerd_with(pair, json.dumps(repositories))
    before = pair.containers()
    text = pair.fleet.run().text
    assert "spark-02 has other content of nvcr.io/nvidia/vllm@sha256:" in text
    assert pair.containers() == before
    assert pair.serves()
    restart_dockerd_with(pair, original)
    pair.expect_empty_plan()


def restart_dockerd_with(pair: Pair, repositories: str) -> None:
    """Restart the second machine's dockerd with other image records; return when both serve again."""
    member = pair.machines[1]
    member.sh("systemctl stop docker.socket docker")
    member.sh(f"cat > {REPOSITORIES}", stdin=repositories)
    member.sh("systemctl start docker.socket docker")
    pair.wait(pair.serves)


@pytest.mark.parametrize("lost", [pytest.param(0, marks=pytest.mark.full), 1])
def test_an_engine_that_is_killed_on_one_rank_restarts_on_both(pair: Pair, lost: int) -> None:
    before = pair.containers()
    pair.machines[lost].sh("docker kill wide")
    pair.wait(lambda: all(new != old for new, old in zip(pair.containers(), before, strict=True)))
    pair.wait(pair.serves)
    pair.expect_empty_plan()


@pytest.mark.full
@pytest.mark.parametrize("lost", [0, 1])
def test_the_service_restarts_after_a_member_reboots(pair: Pair, lost: int) -> None:
    before = pair.containers()
    pair.machines[lost].reboot()
    pair.wait(lambda: all(new != old for new, old in zip(pair.containers(), before, strict=True)))
    pair.wait(pair.serves)
    pair.expect_empty_plan()


@pytest.mark.full
def test_a_cluster_without_a_member_does_not_answer(pair: Pair) -> None:
    pair.machines[1].break_("powered-off")
    pair.wait(lambda: not pair.head.ok("docker ps -q --no-trunc | grep -q ."))
    assert not pair.serves()
    text = pair.fleet.plan().text
    status = pair.fleet.command("sparkfleet", "status", "inventories/lab.py")
    pair.machines[1].repair()
    assert "cluster pair: degraded: spark-02 is unknown" in text
    assert "degraded" in status.text
    assert status.code == 1
    pair.wait(pair.serves)


@pytest.mark.full
def test_a_pulled_cable_stops_both_engines_until_it_is_plugged_in(pair: Pair) -> None:
    pair.machines[1].break_("cable-out")
    pair.wait(lambda: not any(m.ok("docker ps -q | grep -q .") for m in pair.machines))
    seen = pair.fleet.plan()
    pair.machines[1].repair()
    assert seen.code == 1
    assert "spark-02: fabric: no carrier on" in seen.text
    pair.wait(pair.serves)
    pair.expect_empty_plan()


@pytest.mark.full
@pytest.mark.parametrize("phase", ["wide cluster", "wide start"])
def test_a_cable_that_is_pulled_during_a_change_rolls_both_back(pair: Pair, phase: str) -> None:
    before, _ = pair.change()
    pulled: list[str] = []

    def pull(line: str) -> None:
        if phase in line and not pulled:
            pulled.append(line)
            pair.machines[1].break_("cable-out")
        if "spark-01" in line and "wide restore" in line:
            pair.machines[1].repair()

    code, text = pair.run_with_fault(pair.head, "hangs-loading", pull)
    pair.machines[1].repair()
    assert code == 1, text
    assert "spark-02 (192.168.176.2) did not report for 20 s" in text
    pair.wait_until_idle()
    assert pair.lengths() == [before, before]
    pair.declare(max_model_len=int(before))
    pair.expect_empty_plan()


@pytest.mark.parametrize(
    "text", [pytest.param("wide begin", marks=pytest.mark.full), "wide start: starting wide"]
)
def test_a_killed_operator_leaves_one_generation_on_both(pair: Pair, text: str) -> None:
    _, after = pair.change()
    with pair.fleet.start("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if text in line:
                os.killpg(process.pid, signal.SIGKILL)
                break
    pair.wait_until_idle()
    first, second = pair.lengths()
    assert first == second
    pair.fleet.run().expect(0)
    assert pair.lengths() == [after, after]
    pair.expect_empty_plan()


@pytest.mark.full
def test_a_rollback_changes_all_ranks_or_none(pair: Pair) -> None:
    before, after = pair.change()
    pair.fleet.run().expect(0)
    containers = pair.containers()
    requests = [json.loads(machine.sh(f"{RUN} rollback wide")) for machine in pair.machines]
    result = [ended_rollout(pair.machines[1], requests[1])]  # the outcome on this Spark alone
    assert [(one["outcome"], one["diagnostic"]["hint"]) for one in result] == [
        ("refused", "pyinfra INVENTORY deploys/serve.py")
    ]
    assert pair.containers() == containers
    assert pair.lengths() == [after, after]
    shared = {"id": "back-together", "cluster_key": "t" * 32}
    for machine, request in zip(pair.machines, requests, strict=True):
        machine.sh(f"{RUN} rollout", stdin=json.dumps(request | shared))
    pair.wait_until_idle()
    assert pair.lengths() == [before, before]
    pair.declare(max_model_len=int(before))
    pair.expect_empty_plan()


def ended_rollout(machine: Machine, request: dict[str, Any]) -> dict[str, Any]:
    """Request a rollout of a Spark; return its result."""
    machine.sh(f"{RUN} rollout", stdin=json.dumps(request))
    result = f"/var/lib/sparkfleet/rollouts/{request['id']}/result.json"
    machine.sh(f"timeout 60 sh -c 'until test -s {result}; do sleep 0.2; done'")
    found: dict[str, Any] = json.loads(machine.sh(f"cat {result}"))
    return found


def test_a_cluster_is_stopped_and_started_on_all_members_whichever_is_named(pair: Pair) -> None:
    names = [machine.name for machine in pair.machines]
    stop = ("sparkfleet", "stop", "inventories/lab.py")
    pair.fleet.command(*stop, f"{names[1]}/wide", "-y", "--why", "a benchmark").expect(0)
    try:
        running = [machine.sh("docker inspect -f '{{.State.Running}}' wide") for machine in pair.machines]
        assert running == ["false", "false"]
        assert pair.fleet.plan().expect(0).out.count("  = stopped     wide by") == len(names)
        partly = pair.fleet.run("--limit", names[0], deploy="start").expect(1)
        assert f"{names[1]} is not in this run" in partly.text
        pair.fleet.run().expect(0)
        assert not pair.serves()
    finally:
        started = pair.fleet.command("sparkfleet", "start", "inventories/lab.py", "-y")
    started.expect(0)
    assert pair.serves()
    pair.expect_empty_plan()
