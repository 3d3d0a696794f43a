"""A dry run leaves the machine as it was, whatever state that machine is in."""

from __future__ import annotations

import re
import time
from typing import Any

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine, difference
from tests.lab.served import nano

SCRATCH = "find /tmp /var/tmp /dev/shm -printf '%p %s %T@\\n' | grep -v systemd-private | sort"
"""What the snapshot leaves out, and where programs that come over SSH like to leave something."""

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


def steady(text: str) -> str:
    """Return a report without the figures that move by themselves."""
    return re.sub(r", [\d.]+ [GT]iB (?:free|after)", "", text)


def look(fleet: FleetDirectory, plan_code: int) -> str:
    """Look in every way that there is; return the plan, which is the same in each."""
    plan = steady(fleet.plan().expect(plan_code).out)
    for dry in (fleet.dry(), fleet.dry("--json", "-vvv")):
        assert plan in steady(dry.expect(0).text)  # the same report, word by word
    return plan


def state_of(machine: Machine) -> dict[str, Any]:
    return {**machine.everything(), "scratch": machine.sh(SCRATCH).splitlines()}


def check_untouched(machine: Machine, fleet: FleetDirectory, plan_code: int) -> str:
    """Look, and compare all that the machine is before and after; return the plan."""
    since = machine.sh("date +%s.%N")
    before = state_of(machine)
    plan = look(fleet, plan_code)
    after = state_of(machine)
    until = machine.sh("date +%s.%N")
    assert difference(before["files"], after["files"]) == []
    assert after["scratch"] == before["scratch"]
    assert after["docker"] == before["docker"]
    assert after["units"] == before["units"]
    happened = machine.sh(
        f"docker events --since {since} --until {until} --format '{{{{.Type}}}} {{{{.Action}}}}'"
    )
    assert happened == ""  # nothing came and went in between, either
    return plan


def test_a_dry_run_leaves_a_fresh_a_converged_and_a_drifted_spark_as_they_were(
    fleet: FleetDirectory, spark: Machine
) -> None:
    fleet.host("spark-01", nano())
    fleet.lock()
    spark.ssh("sudo -n true")  # the first sudo of an account's life leaves its own mark in the home
    assert "create" in check_untouched(spark, fleet, plan_code=2)

    fleet.run().expect(0)
    time.sleep(3)  # dockerd and the engine write for a moment after the start
    assert check_untouched(spark, fleet, plan_code=0) == "spark-01   no changes\n0 to change, 1 unchanged\n"

    spark.sh(DRIFT)
    plan = check_untouched(spark, fleet, plan_code=2)
    for words in ("state", "config.json", "spark-valve", "vllm-compile-cache", "10-mine.conf"):
        assert words in plan
