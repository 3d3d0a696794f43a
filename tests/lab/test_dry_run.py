"""A dry run does not change a machine, whatever its state."""

from __future__ import annotations

import re
import time
from typing import Any

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine, difference
from tests.lab.serving_fleet import nano

SCRATCH = "find /tmp /var/tmp /dev/shm -printf '%p %s %T@\\n' | grep -v systemd-private | sort"
"""Directories that the snapshot excludes, and where programs that run over SSH often leave files."""

DRIFT = """
systemctl stop sparkfleet-nano.service
sed -i 's/^Restart=.*/Restart=always/' /etc/systemd/system/sparkfleet-nano.service
mkdir -p /etc/systemd/system/sparkfleet-nano.service.d
printf '[Service]\\nNice=5\\n' > /etc/systemd/system/sparkfleet-nano.service.d/10-mine.conf
systemctl daemon-reload
systemctl disable -q sparkfleet-nano.service
rm $(find /home/nvidia/vllm/hub -name 'config.json' | head -1)
truncate -s 10 $(find /home/nvidia/vllm/hub -name '*.safetensors' -exec readlink -f {} + | head -1)
echo '# mine' >> /usr/local/bin/spark-valve
chown root: /home/nvidia/vllm-compile-cache
docker run -d --name stranger --network none --entrypoint sleep "$(docker inspect -f '{{.Image}}' nano)" 1000
"""


def without_free_space(text: str) -> str:
    """Return a report without figures that change on their own."""
    return re.sub(r", [\d.]+ [GT]iB (?:free|after)", "", text)


def dry_run_all(fleet: FleetDirectory, plan_code: int) -> str:
    """Run every command that only reads; return the plan, which is the same in each."""
    plan = without_free_space(fleet.plan().expect(plan_code).out)
    for dry in (fleet.dry(), fleet.dry("--json", "-vvv")):
        assert plan in without_free_space(dry.expect(0).text)  # exactly the same report
    return plan


def machine_state(machine: Machine) -> dict[str, Any]:
    return {**machine.snapshot(), "scratch": machine.sh(SCRATCH).splitlines()}


def expect_no_change(machine: Machine, fleet: FleetDirectory, plan_code: int) -> str:
    """Run all dry runs, and compare the machine before and after; return the plan."""
    since = machine.sh("date +%s.%N")
    before = machine_state(machine)
    plan = dry_run_all(fleet, plan_code)
    after = machine_state(machine)
    until = machine.sh("date +%s.%N")
    assert difference(before["files"], after["files"]) == []
    assert after["scratch"] == before["scratch"]
    assert after["docker"] == before["docker"]
    assert after["units"] == before["units"]
    events = machine.sh(
        f"docker events --since {since} --until {until} --format '{{{{.Type}}}} {{{{.Action}}}}'"
    )
    assert events == ""  # nothing was created and removed in between, either
    return plan


def test_a_dry_run_does_not_change_a_fresh_a_converged_or_a_drifted_spark(
    fleet: FleetDirectory, spark: Machine
) -> None:
    fleet.host("spark-01", nano())
    fleet.lock()
    spark.ssh("sudo -n true")  # the first sudo of an account writes a file to its home
    assert "create" in expect_no_change(spark, fleet, plan_code=2)

    fleet.run().expect(0)
    time.sleep(3)  # dockerd and the engine write for a moment after the start
    assert expect_no_change(spark, fleet, plan_code=0) == "spark-01   no changes\n0 to change, 1 unchanged\n"

    spark.sh(DRIFT)
    plan = expect_no_change(spark, fleet, plan_code=2)
    for text in ("state", "config.json", "spark-valve", "vllm-compile-cache", "10-mine.conf"):
        assert text in plan
