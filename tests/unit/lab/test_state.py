from __future__ import annotations

from pathlib import Path

import paramiko
import pytest

from sparkfleet.config.models import Defaults
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab.names import Lab
from sparkfleet_lab.settings import settings
from sparkfleet_lab.state import State, read_state, require_state, write_state


def test_state_is_read_as_it_was_written_and_is_private(lab: Lab, state: State) -> None:
    write_state(lab, state)
    assert read_state(lab) == state
    assert (lab.directory / "state.json").stat().st_mode & 0o077 == 0


@pytest.mark.provokes("lab-not-up")
def test_without_a_lab_the_error_says_how_to_start_one(lab: Lab) -> None:
    assert read_state(lab) is None
    with pytest.raises(SparkfleetError, match="sparkfleet lab up"):
        require_state(lab)


def test_an_unknown_machine_is_an_error_with_the_names_that_there_are(state: State) -> None:
    with pytest.raises(SparkfleetError, match="spark-01, spark-02"):
        state.machine("spark-03")


def test_ssh_reads_the_config_and_takes_each_machines_own_key_alone(lab: Lab, state: State) -> None:
    write_state(lab, state)
    found = paramiko.SSHConfig.from_path(str(lab.ssh_config)).lookup("spark-02")
    assert (found["hostname"], found["port"], found["user"]) == ("127.0.0.1", "40002", "nvidia")
    assert found["stricthostkeychecking"] == "yes"
    assert Path(found["userknownhostsfile"]).read_text().splitlines() == [
        "[127.0.0.1]:40001 ssh-ed25519 AAAA1",
        "[127.0.0.1]:40002 ssh-ed25519 AAAA2",
    ]


def test_group_data_of_the_lab_is_valid_and_points_both_registries_at_it(lab: Lab, state: State) -> None:
    write_state(lab, state)
    found = settings(lab)
    defaults = Defaults.model_validate(found.sparkfleet)
    assert defaults.hf_endpoint == "http://10.130.1.3"
    assert {name: mirror.url for name, mirror in defaults.registries.items()} == {
        "nvcr.io": "https://127.0.0.1:5443",
        "ghcr.io": "https://127.0.0.1:5443",
        "docker.io": "https://127.0.0.1:5443",
    }
    assert found.connection["ssh_strict_host_key_checking"] == "yes"


def test_group_data_without_a_lab_sets_nothing(lab: Lab) -> None:
    found = settings(lab)
    assert (found.connection, found.sparkfleet) == ({}, {})
