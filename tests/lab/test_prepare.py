"""Declared host state: applied, repeated, changed, removed. Removal reverts what was applied, no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lab.fleet import FleetDirectory
from tests.lab.host_state import (
    MANUAL_STATE,
    NGC_KEYS,
    REJECTED,
    TOKENS,
    first_declaration,
    report_state,
    second_declaration,
)
from tests.lab.machine import FileStates, Machine, difference

EMPTY = "spark-01   no changes\n0 to change, 1 unchanged\n"
OURS = (
    "/var/lib/sparkfleet",
    "/usr/local/lib/sparkfleet",
    "/usr/local/bin/spark-valve",
    "sparkfleet-recover",
)
RECORDS_OF_OTHERS = (
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/cache",
    "/etc/group-",
    "/etc/gshadow-",
    "/srv/gpu-commands",
)
"""Where the system's own programs record what was done."""


def file_states(machine: Machine) -> FileStates:
    """Return every file without times, without our own programs and the records of apt and gpasswd."""
    return {
        path: (*fields[:3], fields[4])
        for path, fields in machine.files_snapshot().items()
        if not any(part in path for part in OURS) and not path.startswith(RECORDS_OF_OTHERS)
    }


def rows(text: str) -> list[str]:
    return sorted(line for line in text.splitlines() if line.startswith(("  + ", "  ~ ", "  - ")))


def converge(fleet: FleetDirectory) -> None:
    """Run; fail unless the run shows the plan and the next plan is empty."""
    planned = fleet.plan().expect(2).out
    run = fleet.run(deploy="prepare").expect(0)
    assert rows(run.out) == rows(planned)
    assert fleet.plan().out == EMPTY
    assert not [word for word in (*TOKENS, *NGC_KEYS) if word in planned + run.text]


def test_declared_state_is_applied_changed_and_reverted(fleet: FleetDirectory, spark: Machine) -> None:
    spark.sh(MANUAL_STATE)
    spark.ssh("sudo -n true")  # the first sudo of an account writes a file to its home
    fleet.set_group_data(hf_token="env:HF", prepare=first_declaration()["group_data"])
    fleet.host("spark-01", {"prepare": first_declaration()["host"]})
    fleet.env |= {"HF": TOKENS[0], "NGC": NGC_KEYS[0]}
    before, initial = file_states(spark), report_state(spark)

    untouched = spark.files_snapshot()
    fleet.command("pyinfra", "inventories/lab.py", "deploys/prepare.py", "--dry").expect(0)
    assert difference(untouched, spark.files_snapshot()) == []

    converge(fleet)
    assert report_state(spark) == {
        "docker group": "nvidia",
        "docker without a new login": "yes",
        "valve": "yes",
        "anything else with sudo": "no",
        "somaxconn": "1234",
        "keepalive": initial["keepalive"],
        "sysctl file": "net.core.somaxconn = 1234",
        "made": "nvidia 750",
        "shared": "worker:root 755, old root",
        "motd": "of the fleet",
        "profile": "export BY=fleet 644",
        "fstab": "# by hand|# off by sparkfleet: /swapfile none swap sw 0 0|tmpfs /mnt/x tmpfs noauto 0 0",
        "caches": "bbbbbbbbbbbb not-ours",
        "token": f"{TOKENS[0]} nvidia 600",
        "login": f"auths $oauthtoken:{NGC_KEYS[0]} root 600",
        "stored by the helper": "",
        "held": "lab-driver",
        "installed": "earlyoom lab-driver lab-helper lab-tool",
        "earlyoom": "active enabled",
        "GPU": "Enabled 100",
        "GPU at boot": "-pm 1 -pl 100",
    }
    record = spark.sh(
        "cat /var/lib/sparkfleet/prepared.json; stat -c ' %a' /var/lib/sparkfleet/prepared.json"
    )
    assert record.endswith(" 600")

    fleet.env |= {"HF": TOKENS[1], "NGC": NGC_KEYS[1]}
    fleet.host("spark-01", {"prepare": second_declaration()})
    converge(fleet)
    assert report_state(spark) == {
        "docker group": "nvidia",
        "docker without a new login": "yes",
        "valve": "yes",
        "anything else with sudo": "no",
        "somaxconn": "2345",
        "keepalive": "3600",
        "sysctl file": "net.core.somaxconn = 2345|net.ipv4.tcp_keepalive_time = 3600",
        "made": "worker 700",
        "shared": "nvidia:root 755, old nvidia",
        "motd": "of the fleet, again",
        "profile": initial["profile"],
        "fstab": "# by hand|# off by sparkfleet: /swapfile none swap sw 0 0|tmpfs /mnt/x tmpfs noauto 0 0",
        "caches": "bbbbbbbbbbbb not-ours",
        "token": f"{TOKENS[1]} nvidia 600",
        "login": "credHelpers labkeep root 600",
        "stored by the helper": NGC_KEYS[1],
        "held": "lab-driver",
        "installed": "lab-driver lab-helper",
        "earlyoom": "inactive",
        "GPU": "Disabled 120",
        "GPU at boot": "-pl 120 -lgc 300,2000",
    }
    assert "-lgc 300,2000" in spark.sh("cat /srv/gpu-commands")

    fleet.set_group_data(prepare={})
    fleet.host("spark-01", {})
    converge(fleet)
    assert report_state(spark) == {**initial, "caches": "bbbbbbbbbbbb not-ours"}
    old = "/home/nvidia/vllm-compile-cache/aaaaaaaaaaaa"
    assert difference(before, file_states(spark)) == [old, f"{old}/file"]
    assert json.loads(spark.sh("cat /var/lib/sparkfleet/prepared.json"))["resources"] == {}
    assert spark.sh("ls /var/lib/sparkfleet").split() == ["prepared.json", "rollout.lock"]
    assert spark.sh("cat /srv/gpu-commands").splitlines()[-1] == "-rgc"
    for word in (*TOKENS, *NGC_KEYS):
        assert not spark.ok(
            f"journalctl --no-pager | grep -q {word} || grep -rqs {word} /var /etc /run /root"
        )


@pytest.mark.provokes("host-change-failed")
def test_what_the_system_rejects_is_refused_with_every_reason_and_nothing_is_changed(
    fleet: FleetDirectory, spark: Machine, tmp_path: Path
) -> None:
    spark.sh(MANUAL_STATE)
    fleet.env["NGC"] = NGC_KEYS[0]
    fleet.host("spark-01", {"prepare": {"sysctls": {"net.core.somaxconn": 1234}}})
    fleet.run(deploy="prepare").expect(0)
    before = file_states(spark)
    for path, content in REJECTED["files"].items():
        (tmp_path / Path(path).name).write_text(content)
    files = {path: {"source": str(tmp_path / Path(path).name), "mode": "0440"} for path in REJECTED["files"]}
    fleet.host("spark-01", {"prepare": {**REJECTED["prepare"], "files": files}})
    run = fleet.run(deploy="prepare").expect(1)
    for message in REJECTED["messages"]:
        assert message in run.err, f"{message!r} is not in\n{run.err}"
    assert difference(before, file_states(spark)) == []
    assert spark.sh("cat /proc/sys/net/core/somaxconn") == "1234"
    assert spark.sh("sudo -l -U worker").count("NOPASSWD") == 0

    spark.sh("echo net.core.somaxconn=9 > /etc/sysctl.d/99-theirs.conf")
    fleet.host("spark-01", {"prepare": {"sysctls": {"net.core.somaxconn": 2345}}})
    planned = fleet.plan().expect(1).out
    assert (
        "/etc/sysctl.d/99-theirs.conf sets net.core.somaxconn to 9 at every boot, after our file" in planned
    )
    spark.sh("rm /etc/sysctl.d/99-theirs.conf")

    # A valid rule beside a foreign file that sudo rejects.
    spark.sh("echo 'worker ALL=(ALL NOPASSWD' > /etc/sudoers.d/by-hand && chmod 0440 /etc/sudoers.d/by-hand")
    fleet.host("spark-01", {"prepare": {"valve_users": ["worker"]}})
    run = fleet.run(deploy="prepare").expect(1)
    assert "/etc/sudoers.d/by-hand:1" in run.err
    assert "visudo -c" in run.err
    assert not spark.ok("test -e /etc/sudoers.d/spark-valve-worker")
    spark.sh("rm /etc/sudoers.d/by-hand")
    fleet.run(deploy="prepare").expect(0)
    assert spark.ok("su worker -c 'sudo -n /usr/local/bin/spark-valve'")
