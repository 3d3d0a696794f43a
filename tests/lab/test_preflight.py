"""All faults of a Spark are reported at once, one row each, and block the plan with their remedies."""

from __future__ import annotations

import json

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine, difference
from tests.lab.serving_fleet import nano

BREAK = """
mv /usr/local/bin/nvidia-container-runtime-hook /root/
mount --bind /etc/systemd/system /etc/systemd/system && mount -o remount,ro,bind /etc/systemd/system
printf 'enp1s0f1np1: {}\\n' > /etc/netplan/40-cx7.yaml
"""


def states(fleet: FleetDirectory, code: int) -> dict[str, str]:
    outcome = fleet.command("sparkfleet", "status", "inventories/lab.py", "--preflight", "--json").expect(
        code
    )
    (spark,) = json.loads(outcome.out)["hosts"]
    return {check["name"]: check["state"] for check in spark["checks"]}


def test_a_preflight_changes_nothing_and_names_every_reason_at_once(
    fleet: FleetDirectory, spark: Machine
) -> None:
    fleet.host("spark-01", nano())
    fleet.lock()
    spark.ssh("sudo -n true")  # the first sudo of an account writes a file to its home
    before = spark.files_snapshot()
    healthy = states(fleet, 0)
    assert difference(before, spark.files_snapshot()) == []
    assert healthy["architecture"] == healthy["GPU"] == healthy["registry nvcr.io"] == healthy["hub"] == "ok"
    assert "netplan 40-cx7.yaml" not in healthy
    assert healthy["system"] == healthy["GPU driver"] == healthy["GPU power"] == "ok"
    spark.sh(BREAK)
    broken = states(fleet, 1)
    assert broken["container toolkit"] == broken["/etc/systemd/system writable"] == "fail"
    assert broken["netplan 40-cx7.yaml"] == "warn"
    plan = fleet.plan().expect(1).out
    assert "1 blocked" in plan
    assert "apt-get install nvidia-container-toolkit" in plan
    assert "mount -o remount,rw" in plan
    run = fleet.run().expect(1)
    assert not spark.ok("test -e /usr/local/bin/spark-valve")
    closing = run.err[run.err.index("spark-01   FAILED") :]
    assert "nvidia-container-toolkit" in closing
    assert "mounted read-only" in closing


def test_a_kernel_and_a_driver_that_cannot_serve_are_named_before_anything_stops(
    fleet: FleetDirectory, spark: Machine
) -> None:
    fleet.host("spark-01", nano())
    fleet.lock()
    for fault in ("reserved-memory", "proprietary-driver", "gpu-limited"):
        spark.break_(fault)
    broken = states(fleet, 1)
    assert (broken["kernel memory"], broken["GPU driver"], broken["GPU power"]) == ("warn", "fail", "warn")
    plan = fleet.plan().expect(1).out
    assert "1 blocked" in plan
    assert "sudo apt-get install nvidia-driver-580-open" in plan
    assert "sudo apt-get install nvidia-spark-grub-kho" in plan
    fleet.run().expect(1)
    assert spark.sh("docker ps -aq") == ""
    spark.repair()
    assert "1 to change" in fleet.plan().expect(2).out
    spark.break_("reserved-memory")  # a single Spark serves with it
    assert "nvidia-spark-grub-kho" in fleet.plan().expect(2).out
