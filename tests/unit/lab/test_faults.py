from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import faults
from sparkfleet_lab.fault import Fault
from sparkfleet_lab.fault_table import FAULTS
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State, write_state
from tests.unit.lab.recorder import Recorder


def test_names_are_unique_and_every_fault_does_something() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.script or fault.lab for fault in FAULTS)
    assert all(fault.text for fault in FAULTS)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.script], ids=lambda f: f.name)
def test_scripts_are_shell(fault: Fault) -> None:
    for script in (fault.script, fault.repair):
        done = subprocess.run(["sh", "-n"], input=script, text=True, check=False, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_faults_are_recorded_and_repaired_last_first(lab: Lab, state: State) -> None:
    write_state(lab, state)
    docker = Recorder()
    for name in ("sudo-refused", "low-memory"):
        faults.break_host(docker, lab, state, "spark-01", name)
    assert faults.active(lab, "spark-01") == ("sudo-refused", "low-memory")
    assert faults.active(lab, "spark-02") == ()
    assert faults.repair_host(docker, lab, state, "spark-01") == ["low-memory", "sudo-refused"]
    assert faults.active(lab, "spark-01") == ()
    assert docker.calls[-1][-1] == "mv /etc/sudoers.d/nvidia.off /etc/sudoers.d/nvidia"


def test_a_fault_that_is_over_by_itself_is_not_remembered(lab: Lab, state: State) -> None:
    write_state(lab, state)
    faults.break_host(Recorder(), lab, state, "spark-01", "ssh-cut")
    assert faults.active(lab, "spark-01") == ()


def test_a_fault_that_could_not_be_repaired_stays_active(lab: Lab, state: State) -> None:
    write_state(lab, state)
    faults.break_host(Recorder(), lab, state, "spark-01", "sudo-refused")
    with pytest.raises(SparkfleetError):
        faults.repair_host(Recorder(outputs={"exec": (1, "gone")}), lab, state, "spark-01")
    assert faults.active(lab, "spark-01") == ("sudo-refused",)


def test_an_unknown_fault_is_an_error_with_those_that_the_host_can_have() -> None:
    with pytest.raises(SparkfleetError, match="hub-slow") as caught:
        faults.find_fault("hub", "reboot")
    assert "no-python3" not in str(caught.value)


def test_faults_of_many_machines_are_noted_side_by_side_and_none_is_lost(lab: Lab, state: State) -> None:
    write_state(lab, state)
    hosts = [f"spark-{number:02}" for number in range(1, 9)]

    def come_and_go(host: str) -> None:
        for _ in range(20):
            faults._write(lab, host, ["low-memory"])
            faults.clear(lab, host)
        faults._write(lab, host, [f"fault of {host}"])

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(come_and_go, hosts))
    assert [faults.active(lab, host) for host in hosts] == [(f"fault of {host}",) for host in hosts]
