"""Python packages that an image lacks: one derived image, built on one Spark, copied to the other.

The tests go on from each other's machines; each leaves both serving.
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
from tests.lab.served import RECIPE, fresh
from tests.wheels import real_pip, wheel

NAMES = ("spark-01", "spark-02")
DERIVED = "localhost/sparkfleet/derived"
IMAGES = f"docker images --no-trunc --format '{{{{.ID}}}} {{{{.Repository}}}}:{{{{.Tag}}}}' {DERIVED}"
TOOL, HELPER = "extra_tool-1.2-py3-none-any.whl", "helper_lib-2.0-py3-none-any.whl"
BUILDING = "docker ps -aq --filter name=sparkfleet-build-"
LIMIT_S = 120


@dataclass
class Derived:
    """A fleet of two that served the plain image, was then told to add packages, and lost its operator."""

    fleet: FleetDirectory
    machines: tuple[Machine, ...]
    index: Index
    before: list[str] = field(default_factory=list)
    """Containers that served before."""
    planned: Outcome | None = None
    killed_with: str = ""
    staged: Outcome | None = None
    while_staged: list[str] = field(default_factory=list)
    ran: Outcome | None = None

    def declare(self, **packages: str) -> None:
        """Write both host files, and pin what they need."""
        added = {"packages": {name.replace("_", "-"): asked for name, asked in packages.items()}}
        service = {"recipe": RECIPE, "name": "nano", **(added if packages else {})}
        for machine in self.machines:
            self.fleet.host(machine.name, {"serve": [service]})

    def containers(self) -> list[str]:
        return [m.sh("docker inspect -f '{{.Id}} {{.State.StartedAt}}' nano") for m in self.machines]

    def images(self) -> list[set[str]]:
        """Return the derived images of each machine, by id and name."""
        return [{*machine.sh(IMAGES).splitlines()} for machine in self.machines]

    def everything_of_a_build(self) -> list[str]:
        """Return containers, wheels and images of builds that are on the machines."""
        nameless = "docker images -q -f dangling=true -f label=io.sparkfleet.derived"
        look = f"{BUILDING}; ls -A /var/lib/sparkfleet/builds; {IMAGES}; {nameless}"
        return [machine.sh(look, check=False) for machine in self.machines]


@pytest.fixture(scope="module")
def index(lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index with the real pip, a tool, what that needs, and what does not fit into the image."""
    folder = tmp_path_factory.mktemp("index")
    with package_index.served(lab_state.lan.address(1), folder) as made:
        for name, content in (
            real_pip(),
            wheel("extra-tool", "1.2", ["helper-lib>=1", "click"], "extra-tool"),
            wheel("helper-lib", "2.0"),
            wheel("click", "99.0"),
            wheel("misfit", "1.0", ["click>=99"]),
        ):
            made.put(name, content)
        yield made


@pytest.fixture(scope="module")
def derived(index: Index, lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Derived:
    """Serve plainly; add packages; kill the operator while the image is built; stage again; run."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("derived") / "checkout", lab)
    fleet.set_group_data(python_packages={"index": index.url})
    made = Derived(fleet, fresh(lab, lab_state, *NAMES), index)
    made.declare()
    fleet.lock()
    fleet.run().expect(0)
    made.before = made.containers()
    made.declare(extra_tool=">=1")
    fleet.lock()
    index.sent.clear()
    made.planned = fleet.plan()
    made.killed_with = _killed_while_building(made)
    made.staged = fleet.run(deploy="stage")
    made.while_staged = made.containers()
    made.ran = fleet.run()
    return made


def _killed_while_building(made: Derived) -> str:
    """Kill the operator's commands when the build has begun; return the image that came of it alone."""
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


def test_the_lock_file_has_each_wheel_with_its_hash_and_the_pip_that_installs_it(derived: Derived) -> None:
    lock = yaml.safe_load((derived.fleet.root / "inventories" / "lab" / "fleet.lock").read_text())
    ((key, entry),) = lock["packages"].items()
    assert key.endswith(" + extra-tool>=1")
    assert entry["install"] == ["extra-tool>=1"]
    assert {TOOL, HELPER} < set(entry["wheels"])
    assert any(name.startswith("pip-") for name in entry["wheels"])
    assert all(
        re.fullmatch(r"[0-9a-f]{64}", one["sha256"]) and one["size"] for one in entry["wheels"].values()
    )


def test_the_plan_says_who_builds_what_and_who_gets_a_copy(derived: Derived) -> None:
    assert derived.planned is not None
    text = derived.planned.expect(2).out
    assert re.search(r"spark-01.*\n(.*\n)*?  \+ build .* \+ extra_tool 1\.2 .*to build here", text), text
    assert re.search(r"spark-02.*\n(.*\n)*?  \+ build .*from spark-01", text), text
    assert re.search(r"  = packages +extra_tool 1\.2, click 99\.0, helper_lib 2\.0", text), text


def test_a_build_whose_operator_was_killed_ends_by_itself_and_is_not_made_again(derived: Derived) -> None:
    assert derived.staged is not None
    derived.staged.expect(0)
    assert derived.killed_with
    assert [machine.sh(IMAGES) for machine in derived.machines] == [derived.killed_with] * 2


def test_each_wheel_is_fetched_once_for_both_sparks(derived: Derived) -> None:
    builder, other = (machine.address for machine in derived.machines)
    fetched = derived.index.sent_to(builder)
    assert {TOOL, HELPER} < set(fetched)
    assert len(fetched) == len(set(fetched))
    assert derived.index.sent_to(other) == []


def test_what_serves_is_not_touched_while_the_image_is_built_and_copied(derived: Derived) -> None:
    assert derived.while_staged == derived.before


def test_the_engines_run_the_derived_image_with_its_packages_and_the_bases_own(derived: Derived) -> None:
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
        assert image == derived.killed_with.split()[0]


def _version(machine: Machine, package: str) -> str:
    program = f"from importlib.metadata import version; print(version('{package}'))"
    return machine.sh(f'docker exec nano python3 -c "{program}"')


def test_the_image_starts_as_its_base_does_and_says_what_it_is(derived: Derived) -> None:
    machine = derived.machines[0]
    name = derived.killed_with.split()[1]
    base = machine.image("nvcr.io/nvidia/vllm:26.04-py3")
    kept = "'{{json .Config.Entrypoint}} {{json .Config.Env}} {{.Config.WorkingDir}} {{.Config.User}}'"
    assert machine.sh(f"docker inspect -f {kept} {name}") == machine.sh(f"docker inspect -f {kept} {base}")
    label = machine.sh(f"docker inspect -f '{{{{index .Config.Labels \"io.sparkfleet.derived\"}}}}' {name}")
    assert name == f"{DERIVED}:{label}"


def test_nothing_of_the_build_is_left_and_a_second_plan_is_empty(derived: Derived) -> None:
    for seen in derived.everything_of_a_build():
        assert seen == derived.killed_with
    assert derived.fleet.plan().expect(0).out.endswith("0 to change, 2 unchanged\n")


def test_packages_that_do_not_fit_are_refused_in_words_and_leave_nothing(derived: Derived) -> None:
    before, serving = derived.everything_of_a_build(), derived.containers()
    derived.declare(misfit="")
    derived.fleet.lock()
    failed = derived.fleet.run(deploy="stage")
    assert failed.code != 0
    assert "misfit cannot be installed into nvcr.io/nvidia/vllm; the build was discarded" in failed.text
    assert "click" in failed.text
    assert "running engines were not touched" in failed.text
    assert derived.everything_of_a_build() == before
    assert derived.containers() == serving


def test_a_wheel_with_other_bytes_than_the_locked_ones_is_not_taken(derived: Derived) -> None:
    name, content = wheel("late", "1.0")
    derived.index.put(name, content)
    derived.declare(late="")
    derived.fleet.lock()
    derived.index.spoiled.add(name)
    failed = derived.fleet.run(deploy="stage")
    assert failed.code != 0
    assert f"{name} does not match the lock file" in failed.text
    assert [machine.sh(IMAGES) for machine in derived.machines] == [derived.killed_with] * 2
    derived.index.spoiled.clear()
    derived.fleet.run(deploy="stage").expect(0)
    first, second = derived.images()
    assert first == second
    assert len(first) == 2


def test_sparks_that_reach_nothing_build_from_the_bundle(derived: Derived) -> None:
    carried = derived.fleet.root / "carried"
    derived.declare(helper_lib=">=2")
    derived.fleet.lock()
    derived.fleet.command("sparkfleet", "mirror", "inventories/lab.py", str(carried)).expect(0)
    derived.fleet.set_group_data(stage={"mirror": str(carried)}, prepare={"offline": True})
    derived.index.sent.clear()
    before = derived.images()
    staged = derived.fleet.run(deploy="stage").expect(0)
    assert "to build here from the offline mirror" in staged.text
    assert derived.index.sent == []
    first, second = (now - had for now, had in zip(derived.images(), before, strict=True))
    assert first == second
    assert len(first) == 1
