"""Python packages that an image lacks: one derived image, built on one Spark, copied to the other.

Each test starts from the state that the previous one left; each leaves both serving.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import yaml

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab import package_index
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine
from tests.lab.package_index import Index
from tests.lab.serving_fleet import RECIPE, reset_machines
from tests.wheels import real_pip, wheel

NAMES = ("spark-01", "spark-02")
DERIVED = "localhost/sparkfleet/derived"
IMAGES = f"docker images --no-trunc --format '{{{{.ID}}}} {{{{.Repository}}}}:{{{{.Tag}}}}' {DERIVED}"
TOOL, HELPER = "extra_tool-1.2-py3-none-any.whl", "helper_lib-2.0-py3-none-any.whl"
BUILDING = "docker ps -aq --filter name=sparkfleet-build-"
LIMIT_S = 120


@dataclass
class DerivedFleet:
    """Two Sparks that served the plain image; the operator was killed while packages were added."""

    fleet: FleetDirectory
    machines: tuple[Machine, ...]
    index: Index
    before: list[str] = field(default_factory=list)
    """Containers before the change."""
    planned: Outcome | None = None
    killed_image: str = ""
    staged: Outcome | None = None
    while_staged: list[str] = field(default_factory=list)
    ran: Outcome | None = None

    def declare(self, **packages: str) -> None:
        """Write both host files."""
        added = {"packages": {name.replace("_", "-"): version for name, version in packages.items()}}
        service = {"recipe": RECIPE, "name": "nano", **(added if packages else {})}
        for machine in self.machines:
            self.fleet.host(machine.name, {"serve": [service]})

    def containers(self) -> list[str]:
        return [m.sh("docker inspect -f '{{.Id}} {{.State.StartedAt}}' nano") for m in self.machines]

    def images(self) -> list[set[str]]:
        """Return the derived images of each machine, by id and name."""
        return [{*machine.sh(IMAGES).splitlines()} for machine in self.machines]

    def build_artifacts(self) -> list[str]:
        """Return containers, wheels and images of builds on the machines."""
        nameless = "docker images -q -f dangling=true -f label=io.sparkfleet.derived"
        listing = f"{BUILDING}; ls -A /var/lib/sparkfleet/builds; {IMAGES}; {nameless}"
        return [machine.sh(listing, check=False) for machine in self.machines]


@pytest.fixture(scope="module")
def index(lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index with the real pip, a tool, its dependencies, and a package that conflicts with the image."""
    folder = tmp_path_factory.mktemp("index")
    with package_index.serve(lab_state.lan.address(1), folder) as made:
        for name, content in (
            real_pip(),
            wheel("extra-tool", "1.2", ["helper-lib>=1", "click"], "extra-tool"),
            wheel("helper-lib", "2.0"),
            wheel("click", "99.0"),
            wheel("misfit", "1.0", ["click>=99"]),
        ):
            made.add(name, content)
        yield made


@pytest.fixture(scope="module")
def derived(
    index: Index, lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory
) -> DerivedFleet:
    """Serve the plain image; add packages; kill the operator during the build; stage again; run."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("derived") / "checkout", lab)
    fleet.set_group_data(python_packages={"index": index.url})
    made = DerivedFleet(fleet, reset_machines(lab, lab_state, *NAMES), index)
    made.declare()
    fleet.lock()
    fleet.run().expect(0)
    made.before = made.containers()
    made.declare(extra_tool=">=1")
    fleet.lock()
    index.sent.clear()
    made.planned = fleet.plan()
    made.killed_image = _kill_while_building(made)
    made.staged = fleet.run(deploy="stage")
    made.while_staged = made.containers()
    made.ran = fleet.run()
    return made


def _kill_while_building(made: DerivedFleet) -> str:
    """Kill the operator's commands when the build has begun; return the image that it still created."""
    builder = made.machines[0]
    with made.fleet.start("pyinfra", "inventories/lab.py", "deploys/stage.py", "-y") as process:
        _wait(lambda: bool(builder.sh(BUILDING)))
        os.killpg(process.pid, signal.SIGKILL)
    _wait(lambda: bool(builder.sh(IMAGES)))
    _wait(lambda: not builder.sh(BUILDING))
    return builder.sh(IMAGES)


def _wait(condition) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_lock_file_has_each_wheel_with_its_hash_and_the_pip_that_installs_it(
    derived: DerivedFleet,
) -> None:
    lock = yaml.safe_load((derived.fleet.root / "inventories" / "lab" / "fleet.lock").read_text())
    ((key, entry),) = lock["packages"].items()
    assert key.endswith(" + extra-tool>=1")
    assert entry["install"] == ["extra-tool>=1"]
    assert {TOOL, HELPER} < set(entry["wheels"])
    assert any(name.startswith("pip-") for name in entry["wheels"])
    assert all(
        re.fullmatch(r"[0-9a-f]{64}", one["sha256"]) and one["size"] for one in entry["wheels"].values()
    )


def test_the_plan_shows_which_spark_builds_and_which_gets_a_copy(derived: DerivedFleet) -> None:
    assert derived.planned is not None
    text = derived.planned.expect(2).out
    assert re.search(r"spark-01.*\n(.*\n)*?  \+ build .* \+ extra_tool 1\.2 .*to build here", text), text
    assert re.search(r"spark-02.*\n(.*\n)*?  \+ build .*from spark-01", text), text
    assert re.search(r"  = packages +extra_tool 1\.2, click 99\.0, helper_lib 2\.0", text), text


def test_a_build_whose_operator_was_killed_completes_and_is_not_repeated(derived: DerivedFleet) -> None:
    assert derived.staged is not None
    derived.staged.expect(0)
    assert derived.killed_image
    assert [machine.sh(IMAGES) for machine in derived.machines] == [derived.killed_image] * 2


def test_each_wheel_is_fetched_once_for_both_sparks(derived: DerivedFleet) -> None:
    builder, other = (machine.address for machine in derived.machines)
    fetched = derived.index.sent_to(builder)
    assert {TOOL, HELPER} < set(fetched)
    assert len(fetched) == len(set(fetched))
    assert derived.index.sent_to(other) == []


def test_running_engines_are_not_touched_while_the_image_is_built_and_copied(derived: DerivedFleet) -> None:
    assert derived.while_staged == derived.before


def test_the_engines_run_the_derived_image_with_its_packages_and_those_of_the_base(
    derived: DerivedFleet,
) -> None:
    assert derived.ran is not None
    derived.ran.expect(0)
    for machine in derived.machines:
        assert machine.sh("docker exec nano extra-tool").endswith("extra-tool 1.2")
        assert (
            machine.sh("docker exec nano python3 -c 'import helper_lib; print(helper_lib.VERSION)'") == "2.0"
        )
        click = machine.sh(
            "docker exec nano python3 -c 'from importlib.metadata import version as v; print(v(\"click\"))'"
        )
        assert click != "99.0"
        assert machine.ok("curl -sf --max-time 5 http://127.0.0.1:8000/v1/models")
        image = machine.sh("docker inspect -f '{{.Image}}' nano")
        assert image == derived.killed_image.split()[0]


def _version(machine: Machine, package: str) -> str:
    program = f"from importlib.metadata import version; print(version('{package}'))"
    return machine.sh(f'docker exec nano python3 -c "{program}"')


def test_the_image_starts_like_its_base_and_has_a_label_with_its_hash(derived: DerivedFleet) -> None:
    machine = derived.machines[0]
    name = derived.killed_image.split()[1]
    base = machine.image("nvcr.io/nvidia/vllm:26.04-py3")
    fields = "'{{json .Config.Entrypoint}} {{json .Config.Env}} {{.Config.WorkingDir}} {{.Config.User}}'"
    assert machine.sh(f"docker inspect -f {fields} {name}") == machine.sh(
        f"docker inspect -f {fields} {base}"
    )
    label = machine.sh(f"docker inspect -f '{{{{index .Config.Labels \"io.sparkfleet.derived\"}}}}' {name}")
    assert name == f"{DERIVED}:{label}"


def test_a_build_leaves_no_files_and_a_second_plan_is_empty(derived: DerivedFleet) -> None:
    for seen in derived.build_artifacts():
        assert seen == derived.killed_image
    assert derived.fleet.plan().expect(0).out.endswith("0 to change, 2 unchanged\n")


def test_packages_that_do_not_fit_are_refused_with_the_reason_and_leave_nothing(
    derived: DerivedFleet,
) -> None:
    before, serving = derived.build_artifacts(), derived.containers()
    derived.declare(misfit="")
    derived.fleet.lock()
    failed = derived.fleet.run(deploy="stage")
    assert failed.code != 0
    assert "misfit: cannot be installed into nvcr.io/nvidia/vllm; the build was discarded" in failed.text
    assert "click" in failed.text
    assert "running engines were not touched" in failed.text
    assert derived.build_artifacts() == before
    assert derived.containers() == serving


def test_a_wheel_that_differs_from_the_lock_file_is_refused(derived: DerivedFleet) -> None:
    name, content = wheel("late", "1.0")
    derived.index.add(name, content)
    derived.declare(late="")
    derived.fleet.lock()
    derived.index.corrupted.add(name)
    failed = derived.fleet.run(deploy="stage")
    assert failed.code != 0
    assert f"{name}: does not match the lock file" in failed.text
    assert [machine.sh(IMAGES) for machine in derived.machines] == [derived.killed_image] * 2
    derived.index.corrupted.clear()
    derived.fleet.run(deploy="stage").expect(0)
    first, second = derived.images()
    assert first == second
    assert len(first) == 2


def test_sparks_without_a_network_build_from_the_offline_mirror(derived: DerivedFleet) -> None:
    mirror = derived.fleet.root / "mirror"
    derived.declare(helper_lib=">=2")
    derived.fleet.lock()
    derived.fleet.command("sparkfleet", "mirror", "inventories/lab.py", str(mirror)).expect(0)
    derived.fleet.set_group_data(stage={"mirror": str(mirror)}, prepare={"offline": True})
    derived.index.sent.clear()
    before = derived.images()
    staged = derived.fleet.run(deploy="stage").expect(0)
    assert "to build here from the offline mirror" in staged.text
    assert derived.index.sent == []
    first, second = (current - previous for current, previous in zip(derived.images(), before, strict=True))
    assert first == second
    assert len(first) == 1
