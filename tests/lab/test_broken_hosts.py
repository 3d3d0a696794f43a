"""A broken Spark is unknown, with the reason and the next command; the others converge. No traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sparkfleet.lab.names import Lab
from sparkfleet.lab.state import State
from tests.lab.served import Served, converged


@pytest.fixture(scope="module")
def served(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return converged(lab, lab_state, tmp_path_factory.mktemp("broken"), "spark-01", "spark-02")


@pytest.fixture(autouse=True)
def everything_is_mended(served: Served) -> Iterator[None]:
    yield
    served.machines[0].mend()
    served.set("spark-02")


def test_a_login_banner_on_stdout_does_no_harm(served: Served) -> None:
    fleet, (talkative, _) = served.fleet, served.machines
    talkative.break_("banner")
    assert "spark-01   no changes" in fleet.plan().expect(0).out


FAULTS = {
    "docker-stopped": (r"Docker down", r"systemctl start docker"),
    "no-docker": (r"Docker missing", r"install Docker"),
    "sudo-refused": (r"sudo refused: .*password", r"NOPASSWD"),
    "no-python3": (r"python3 is not there", r"apt-get install python3"),
    "wrong-host-key": (r"[Hh]ost key", r"ssh-keygen .*-R"),
    "sshd-stopped": (r"hung up before an SSH greeting", r"systemctl status ssh"),
    "state-full": (r"/var/lib|free|space", r"\S"),
}


@pytest.mark.parametrize(("fault", "words"), FAULTS.items(), ids=FAULTS)
def test_the_plan_tells_what_is_broken_and_what_to_do_and_plans_the_others(
    served: Served, fault: str, words: tuple[str, str]
) -> None:
    fleet, (broken, _) = served.fleet, served.machines
    served.set("spark-01", max_num_seqs=3)  # a change that would be planned if the host were whole
    broken.break_(fault)
    said = fleet.plan().expect(1)
    served.set("spark-01")
    reason, remedy = words
    assert re.search(r"spark-02\s+no changes", said.out), said.text
    told = said.out[said.out.index("spark-01") :] if "spark-01" in said.out else ""
    assert re.search(r"unknown|blocked", told), said.text
    assert re.search(reason, told), said.text
    assert re.search(rf"do: .*({remedy})", told), said.text


def test_a_dry_run_without_a_terminal_asks_nobody_when_a_spark_is_off(served: Served) -> None:
    fleet, (off, _) = served.fleet, served.machines
    off.break_("sshd-stopped")
    said = fleet.dry().expect(1)
    assert re.search(r"spark-02\s+no changes", said.out), said.text
    assert re.search(r"spark-01\s+unknown", said.out), said.text


SAMPLE = ("docker-stopped", "sudo-refused", "wrong-host-key")


@pytest.mark.parametrize("fault", SAMPLE)
def test_a_run_does_the_other_sparks_and_ends_with_the_broken_one_and_its_remedy(
    served: Served, fault: str
) -> None:
    fleet, (broken, whole) = served.fleet, served.machines
    broken.break_(fault)
    seqs = 2 + SAMPLE.index(fault)
    served.set("spark-02", max_num_seqs=seqs)
    said = fleet.run().expect(1)
    assert f"--max-num-seqs {seqs}" in whole.sh("docker inspect -f '{{join .Config.Cmd \" \"}}' nano")
    closing = said.err[said.err.rindex("spark-01   FAILED") :]
    reason, remedy = FAULTS[fault]
    assert re.search(reason, closing), closing
    assert re.search(remedy, closing), closing
