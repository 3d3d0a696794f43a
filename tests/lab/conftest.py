"""Machines for the lab tests: one lab for each process, with fresh machines.

``KEEP=1`` leaves the lab up for inspection (``SPARKFLEET_LAB=test sparkfleet lab status``) and
for the next run.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import faults, lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State, read_state
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.names import lab_name

CHECKOUT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    directory = Path(__file__).parent
    for item in items:
        if directory in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed:
        seen: list[Machine] = []
        for value in getattr(item, "funcargs", {}).values():
            seen += [value] if isinstance(value, Machine) else []
            seen += [m for m in value if isinstance(m, Machine)] if isinstance(value, tuple) else []
        for machine in dict.fromkeys(seen):
            report.sections.append((f"journal of {machine.name}", machine.evidence()))
    return report


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The process's lab: two warm machines, registry and hub. Fails with the reason where none can run."""
    docker, own = Docker(), Lab(CHECKOUT, lab_name())
    lock = tmp_path_factory.getbasetemp().parent / "lab.lock"  # the first process builds the images for all
    try:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            lifecycle.up(docker, own, 2, print, warm=True)
    except SparkfleetError as error:
        pytest.fail(f"no lab: {error}", pytrace=False)
    yield own
    if os.environ.get("KEEP") != "1":
        lifecycle.down(docker, own, also_images=False, report=print)


@pytest.fixture(scope="package")
def lab_state(lab: Lab) -> State:
    """Addresses, ports and images of the session's lab."""
    return read_state(lab) or pytest.fail("the lab is gone")


@pytest.fixture
def spark(lab: Lab, lab_state: State) -> Machine:
    """The first machine, fresh, with the engine images. Registry and hub have no fault."""
    return _fresh(lab, lab_state, "spark-01")[0]


@pytest.fixture
def used_spark(lab: Lab, lab_state: State) -> Machine:
    """The first machine as the test before left it: for tests that only read, or revert their changes."""
    faults.repair_services(Docker(), lab, lab_state)
    machine = Machine("spark-01", lab, lab_state)
    if faults.active(lab, machine.name) or not machine.ok("docker info"):
        machine.reset()  # clean up after a failed test
    return machine


@pytest.fixture
def sparks(lab: Lab, lab_state: State) -> tuple[Machine, ...]:
    """Both machines, fresh, with the engine images. Registry and hub have no fault."""
    return _fresh(lab, lab_state, "spark-01", "spark-02")


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> FleetDirectory:
    """A fleet of its own on the session's lab, operated by the user's own commands."""
    return FleetDirectory(tmp_path / "checkout", lab)


def _fresh(lab: Lab, state: State, *names: str) -> tuple[Machine, ...]:
    faults.repair_services(Docker(), lab, state)
    machines = tuple(Machine(name, lab, state) for name in names)
    with ThreadPoolExecutor() as pool:
        list(pool.map(Machine.reset, machines))
    return machines
