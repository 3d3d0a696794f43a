"""Packages: simulated before, installed with what they need, removed with just that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sparkfleet.onhost.machine.system import Ran
from sparkfleet.onhost.resources import packages
from sparkfleet.onhost.resources.base import RefusedError, Thing

TOOL = Thing("package", "tool", "", {"is": "installed"}, {"is": "absent"})


class Apt:
    """A system whose apt knows what the test says."""

    def __init__(self, **simulated: Ran) -> None:
        self.simulated, self.did = simulated, []  # type: ignore[var-annotated]

    def run(self, words: Sequence[str], _: float = 60) -> Ran:
        asked = [word for word in words if not word.startswith(("-", "DPkg", "Dpkg", "env", "DEB", "LC_"))]
        if "--simulate" in words:
            return self.simulated["_".join(asked[1:])]
        self.did.append(" ".join(asked))
        return Ran(0)


def entry(*came: str) -> dict[str, Any]:
    return {"kind": "package", "key": "tool", "before": {"is": "absent", "with": list(came)}, "put": {}}


def test_what_comes_with_a_package_is_known_before() -> None:
    apt = Apt(install_tool=Ran(0, "NOTE: x\nInst helper (1 lab)\nInst tool (1 lab)\nConf tool (1 lab)\n"))
    packages.check_package(apt, TOOL)  # type: ignore[arg-type]
    assert packages.what_comes_with(apt, TOOL) == {"with": ["helper", "tool"]}  # type: ignore[arg-type]
    assert apt.did == []


def test_a_package_whose_installation_removes_something_is_refused() -> None:
    apt = Apt(install_tool=Ran(0, "Remv theirs [1]\nInst tool (1 lab)\n"))
    with pytest.raises(RefusedError, match="apt would remove theirs"):
        packages.check_package(apt, TOOL)  # type: ignore[arg-type]


def test_one_that_is_in_no_source_is_refused_after_the_lists_were_read_anew() -> None:
    apt = Apt(install_tool=Ran(100, "", "W: x\nE: Unable to locate package tool\n"))
    with pytest.raises(RefusedError, match=r"^Unable to locate package tool$"):
        packages.check_package(apt, TOOL)  # type: ignore[arg-type]
    assert apt.did == ["apt-get update"]


def test_it_goes_with_all_that_came_with_it() -> None:
    apt = Apt(purge_helper_tool=Ran(0, "Purg tool [1]\nPurg helper [1]\n"))
    packages.back_package(apt, entry("helper", "tool"), ())  # type: ignore[arg-type]
    assert apt.did == ["apt-get purge helper tool"]


def test_what_others_need_by_now_stays() -> None:
    apt = Apt(
        purge_helper_tool=Ran(0, "Purg tool [1]\nPurg helper [1]\nPurg theirs [1]\n"),
        purge_tool=Ran(0, "Purg tool [1]\n"),
    )
    packages.back_package(apt, entry("helper", "tool"), ())  # type: ignore[arg-type]
    assert apt.did == ["apt-get purge tool"]


def test_one_that_others_need_itself_is_not_removed() -> None:
    apt = Apt(purge_tool=Ran(0, "Purg tool [1]\nPurg theirs [1]\n"))
    with pytest.raises(RefusedError, match="other packages need tool by now"):
        packages.back_package(apt, entry(), ())  # type: ignore[arg-type]
    assert apt.did == []


def test_what_came_with_it_and_is_declared_by_its_own_name_is_ours_under_that_name() -> None:
    kept = entry("helper", "tool")
    passed = packages.passed_on(kept, ["package helper", "sysctl vm.x"])
    assert kept["before"]["with"] == ["tool"]
    assert passed["package helper"]["before"] == {"is": "absent", "with": ["helper"]}
    assert packages.passed_on({**kept, "kind": "file"}, ["package tool"]) == {}


def test_only_what_was_free_before_is_freed_again() -> None:
    apt = Apt()
    packages.back_hold(apt, {"before": {"free": "a b", "held": "c"}}, ())  # type: ignore[arg-type]
    packages.back_hold(apt, {"before": {"free": "", "held": "c"}}, ())  # type: ignore[arg-type]
    assert apt.did == ["apt-mark unhold a b"]
