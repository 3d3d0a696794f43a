"""Packages: simulated before, installed with their dependencies, removed with just these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sparkfleet.contract.resources import Applied
from sparkfleet.onhost.machine.system import CommandResult
from sparkfleet.resources import apt as apt_of
from sparkfleet.resources.base import ResourceError, Target
from sparkfleet.resources.kinds import hold, package
from tests.unit.resources.fake_host import FakeHost

TOOL = Target("package", "tool", {"is": "installed"}, live={"is": "absent"})


class Apt(FakeHost):
    """A Spark whose apt answers simulations as a test says."""

    def __init__(self, **simulated: CommandResult) -> None:
        super().__init__("/no/such/spark")
        self.simulated: dict[str, CommandResult] = simulated
        self.done: list[str] = []

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        args = [word for word in argv if not word.startswith(("-", "DPkg", "Dpkg", "env", "DEB", "LC_"))]
        if "--simulate" in argv:
            return self.simulated["_".join(args[1:])]
        self.done.append(" ".join(args))
        return CommandResult(0)


def entry(*dependencies: str) -> Applied:
    return Applied("package", "tool", "", {"is": "absent", "with": list(dependencies)}, {})


def test_the_dependencies_of_a_package_are_known_before() -> None:
    apt = Apt(
        install_tool=CommandResult(0, "NOTE: x\nInst helper (1 lab)\nInst tool (1 lab)\nConf tool (1 lab)\n")
    )
    package.KIND.check(apt, TOOL)
    assert package.KIND.snapshot(apt, TOOL) == {"with": ["helper", "tool"]}
    assert apt.done == []


def test_a_package_whose_installation_removes_another_is_refused() -> None:
    apt = Apt(install_tool=CommandResult(0, "Remv theirs [1]\nInst tool (1 lab)\n"))
    with pytest.raises(ResourceError, match="apt would remove theirs"):
        package.KIND.check(apt, TOOL)


def test_one_that_is_in_no_source_is_refused_after_an_update_of_the_lists() -> None:
    apt = Apt(install_tool=CommandResult(100, "", "W: x\nE: Unable to locate package tool\n"))
    with pytest.raises(ResourceError, match=r"^Unable to locate package tool,") as raised:
        package.KIND.check(apt, TOOL)
    assert raised.value.diagnostic.code == "apt-package-unavailable"
    assert apt.done == ["apt-get update"]


def test_it_is_removed_with_its_dependencies() -> None:
    apt = Apt(purge_helper_tool=CommandResult(0, "Purg tool [1]\nPurg helper [1]\n"))
    package.KIND.revert(apt, entry("helper", "tool"), ())
    assert apt.done == ["apt-get purge helper tool"]


def test_dependencies_that_others_need_by_now_stay() -> None:
    apt = Apt(
        purge_helper_tool=CommandResult(0, "Purg tool [1]\nPurg helper [1]\nPurg theirs [1]\n"),
        purge_tool=CommandResult(0, "Purg tool [1]\n"),
    )
    package.KIND.revert(apt, entry("helper", "tool"), ())
    assert apt.done == ["apt-get purge tool"]


def test_a_package_that_others_need_is_not_removed() -> None:
    apt = Apt(purge_tool=CommandResult(0, "Purg tool [1]\nPurg theirs [1]\n"))
    with pytest.raises(ResourceError, match="other packages need tool by now"):
        package.KIND.revert(apt, entry(), ())
    assert apt.done == []


def test_a_dependency_that_is_declared_by_its_own_name_gets_an_entry_of_its_own() -> None:
    recorded = entry("helper", "tool")
    (part,) = package.KIND.split(recorded, ["package helper", "sysctl vm.x"])
    assert recorded.before["with"] == ["tool"]
    assert (part.key, part.before) == ("helper", {"is": "absent", "with": ["helper"]})


def test_only_packages_that_were_free_before_are_freed_again() -> None:
    apt = Apt()
    hold.KIND.revert(apt, Applied("hold", "x", "", {"free": "a b", "held": "c"}, {}), ())
    hold.KIND.revert(apt, Applied("hold", "x", "", {"free": "", "held": "c"}, {}), ())
    assert apt.done == ["apt-mark unhold a b"]


def locked(spark: FakeHost, pid: int = 4711, lock: str = "/var/lib/dpkg/lock-frontend") -> None:
    """Let a process hold a lock, as the kernel shows it."""
    file = spark.write(lock, "")
    spark.write(f"/proc/{pid}/cmdline", "/usr/bin/python3\0/usr/bin/unattended-upgrade\0")
    open_files = Path(spark.path(f"/proc/{pid}/fd"))
    open_files.mkdir(exist_ok=True)
    (open_files / "5").symlink_to(file)
    rows = (
        "1: FLOCK  ADVISORY  WRITE 7 00:1b:1 0 EOF",
        f"2: POSIX  ADVISORY  WRITE {pid} 08:02:{file.stat().st_ino} 0 EOF",
        f"2: -> POSIX  ADVISORY  WRITE 9 08:02:{file.stat().st_ino} 0 EOF",
    )
    spark.write("/proc/locks", "\n".join(rows) + "\n")


@pytest.mark.provokes("dpkg-locked")
@pytest.mark.parametrize("lock", apt_of.LOCKS)
def test_a_process_that_uses_dpkg_for_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setattr(apt_of, "WAIT_S", 0)
    spark = FakeHost(tmp_path)
    locked(spark, lock=lock)
    command = r"process 4711 \(/usr/bin/python3 /usr/bin/unattended-upgrade\)"
    with pytest.raises(ResourceError, match=command) as raised:
        package.KIND.apply(spark, TOOL)
    assert raised.value.diagnostic.code == "dpkg-locked"
    assert spark.commands == []


def test_a_change_begins_when_the_other_process_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark = FakeHost(tmp_path)
    locked(spark)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        spark.write("/proc/locks", "")

    monkeypatch.setattr("sparkfleet.resources.apt.time.sleep", pause)
    package.KIND.apply(spark, TOOL)
    assert pauses == [apt_of.PAUSE_S]
    assert [argv[-2:] for argv in spark.commands] == [("install", "tool")]


def test_a_lock_of_the_same_number_on_another_disk_is_not_dpkgs(tmp_path: Path) -> None:
    spark = FakeHost(tmp_path)
    locked(spark)
    (tmp_path / "proc/4711/fd/5").unlink()
    (tmp_path / "proc/4711/fd/5").symlink_to("/data/other")
    assert apt_of.lock_owner(spark) is None


def test_locks_that_cannot_be_read_hold_nothing_up(tmp_path: Path) -> None:
    spark = FakeHost(tmp_path)
    spark.write("/var/lib/dpkg/lock", "")
    assert apt_of.lock_owner(spark) is None
    spark.write("/proc/locks", "1: POSIX\nnonsense\n")
    assert apt_of.lock_owner(spark) is None
