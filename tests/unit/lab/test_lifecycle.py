from __future__ import annotations

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State, write_state
from tests.unit.lab.recorder import Recorder


def quiet(text: str) -> None:
    """Say nothing."""


def test_down_removes_what_has_the_labs_label_and_the_state_and_says_so(lab: Lab, state: State) -> None:
    write_state(lab, state)
    mine = f"--filter label=io.sparkfleet.lab={lab.prefix}"
    docker = Recorder(
        outputs={
            f"ps -aq {mine}": "c1\nc2\n",
            f"volume ls -q {mine}": "v1\n",
            f"network ls -q {mine}": "n1\n",
        }
    )
    output: list[str] = []
    lifecycle.down(docker, lab, also_images=False, report=output.append)
    removals = [line for line in docker.lines_called if " rm " in line or line.startswith("rm ")]
    assert removals == ["rm -f -v c1 c2", "volume rm -f v1", "network rm n1"]
    assert not (lab.checkout / ".lab").exists()
    assert output == [f"removed 2 containers, 1 volumes, 1 networks and {lab.directory}"]


def test_down_leaves_another_labs_state_alone(lab: Lab, state: State) -> None:
    write_state(lab, state)
    write_state(Lab(lab.checkout, "other"), state)
    lifecycle.down(Recorder(), lab, also_images=False, report=quiet)
    assert (lab.checkout / ".lab" / "other" / "state.json").exists()


def test_images_stay_unless_they_are_asked_for(lab: Lab) -> None:
    outputs: dict[str, str | tuple[int, str]] = {"image ls": "sparkfleet-lab/spark:1\nsparkfleet-lab/hub:1\n"}
    docker = Recorder(outputs=outputs)
    output: list[str] = []
    lifecycle.down(docker, lab, also_images=False, report=output.append)
    assert not any(line.startswith("image rm") for line in docker.lines_called)
    assert "kept 2 images" in output[-1]
    lifecycle.down(docker, lab, also_images=True, report=output.append)
    assert docker.lines_called[-1] == "image rm sparkfleet-lab/spark:1 sparkfleet-lab/hub:1"


@pytest.mark.parametrize("number", [0, 61])
def test_a_number_of_sparks_that_has_no_addresses_is_refused_before_anything_happens(
    lab: Lab, number: int
) -> None:
    docker = Recorder()
    with pytest.raises(SparkfleetError, match="1 to 60"):
        lifecycle.up(docker, lab, number, quiet)
    assert docker.calls == []


def test_a_ring_is_of_three(lab: Lab) -> None:
    docker = Recorder()
    with pytest.raises(SparkfleetError, match="4 Sparks"):
        lifecycle.up(docker, lab, 4, quiet, ring=True)
    assert docker.calls == []


def test_machines_at_a_switch_do_not_become_a_ring(lab: Lab, state: State) -> None:
    write_state(lab, state)
    with pytest.raises(SparkfleetError, match="its machines are at a switch"):
        lifecycle.up(Recorder(), lab, 3, quiet, ring=True)


@pytest.mark.parametrize(
    ("output", "remedy"),
    [("Cannot connect to the Docker daemon at unix:///x", "tools/ensure-docker.sh"), ("no space left", "")],
)
def test_a_docker_that_does_not_answer_names_what_starts_it(output: str, remedy: str) -> None:
    assert Docker().error(("ps",), output).diagnostics[0].hint == remedy


def test_up_of_an_incomplete_lab_names_the_missing_parts_and_the_remedy(lab: Lab, state: State) -> None:
    write_state(lab, state)
    docker = Recorder(outputs={"network inspect x-link1": "[]"})
    with pytest.raises(SparkfleetError, match="missing: x-lan, x-link1, x-link2") as caught:
        lifecycle.up(docker, lab, 1, quiet)
    assert caught.value.diagnostics[0].hint == "sparkfleet lab down; sparkfleet lab up"
    assert not any(line.startswith(("create", "start", "rm")) for line in docker.lines_called)
