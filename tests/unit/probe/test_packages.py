"""What apt says of Docker's packages, read; and nothing asked of it where all is there."""

from __future__ import annotations

from typing import Any

import pytest

from sparkfleet.contract.probe import PreflightRequest, ProbeRequest
from sparkfleet.onhost.collectors import commands, main, packages, toolkit
from sparkfleet.probe.command import more_parts, sources
from sparkfleet.probe.observation import WithoutRuntime
from sparkfleet.probe.packages import Packages
from sparkfleet.probe.response import read_response
from sparkfleet.runtimes.docker.collectors import probe as docker_probe
from tests.unit.probe.requests import request_of
from tests.unit.probe.test_probe import response

POLICY = """\
docker-ce:
  Installed: (none)
  Candidate: (none)
  Version table:
docker.io:
  Installed: (none)
  Candidate: 28.2.2-0ubuntu1
  Version table:
     28.2.2-0ubuntu1 500
nvidia-container-toolkit:
  Installed: (none)
  Candidate: 1.18.0-1
"""
SIMULATED = """\
NOTE: This is only a simulation!
Inst runc [1.1.0] (1.1.5 Ubuntu:24.04 [arm64])
Inst docker.io (28.2.2-0ubuntu1 Ubuntu:24.04 [arm64]) []
Remv podman-docker [4.9]
Conf runc (1.1.5 Ubuntu:24.04 [arm64])
Conf docker.io (28.2.2-0ubuntu1 Ubuntu:24.04 [arm64])
"""


class Apt:
    """apt as it would answer."""

    def __init__(self, policy: str = POLICY, simulated: tuple[int, str, str] = (0, SIMULATED, "")) -> None:
        self.responses = {"apt-cache": (0, policy, ""), "apt-get": simulated}
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        self.calls.append(argv)
        return self.responses[argv[2]]


def ask(monkeypatch: pytest.MonkeyPatch, apt: Apt, *requested: bool) -> dict[str, Any]:
    monkeypatch.setattr(commands, "run", apt)
    return packages.collect_packages(*requested)


def test_what_comes_and_what_goes_is_as_apt_simulates_it_without_a_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apt = Apt()
    assert ask(monkeypatch, apt, True, False) == {
        "requested": ["docker.io"],
        "install": [["runc", "1.1.0", "1.1.5"], ["docker.io", "", "28.2.2-0ubuntu1"]],
        "remove": ["podman-docker"],
    }
    assert "--simulate" in apt.calls[1]
    assert all("Dir::Cache::pkgcache=" in argv for argv in apt.calls)


def test_dockers_own_package_goes_before_the_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = POLICY.replace("Candidate: (none)", "Candidate: 5:28.3.3")
    assert ask(monkeypatch, Apt(policy), True, True)["requested"] == ["docker-ce", "nvidia-container-toolkit"]


def test_all_unavailable_packages_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, Apt(policy=""), True, True)["missing"] == [
        "docker-ce or docker.io",
        "nvidia-container-toolkit",
    ]


def test_apts_own_word_is_kept_where_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    apt = Apt(simulated=(100, "", "W: old\nE: Unable to correct problems\nE: more"))
    assert ask(monkeypatch, apt, True, False)["error"] == "E: Unable to correct problems"


@pytest.mark.parametrize(
    ("docker_state", "programs", "expected"),
    [
        ("ok", ["nvidia-ctk"], None),
        ("missing", ["nvidia-ctk"], (True, False)),
        ("ok", [], (False, True)),
        ("down", ["nvidia-ctk"], None),
    ],
)
def test_apt_is_asked_only_for_what_is_not_there(
    monkeypatch: pytest.MonkeyPatch, docker_state: str, programs: list[str], expected: tuple[bool, ...] | None
) -> None:
    monkeypatch.setattr(docker_probe, "collect", lambda _: {"state": docker_state, "containers": []})
    monkeypatch.setattr(toolkit, "collect_toolkit", lambda: {"programs": programs, "cdi": []})
    monkeypatch.setattr(packages, "collect_packages", lambda *requested: {"requested": requested})
    request = request_of().to_json()
    seen = main.collect({**request, "install": ["docker", "toolkit"]}, "root")
    assert seen.get("packages", {}).get("requested") == expected


def test_the_part_travels_only_where_something_may_be_installed() -> None:
    def names(request: ProbeRequest) -> list[str]:
        return [name.rpartition(".")[2] for name, _ in sources(more_parts(request))]

    some = names(request_of(install=("docker",)))
    assert "packages" not in names(request_of())
    assert some.index("commands") < some.index("packages")
    assert names(request_of(install=("docker",), preflight=PreflightRequest())).count("commands") == 1
    assert not request_of().to_json()["install"]
    assert request_of(install=("docker",)).to_json()["install"] == ["docker"]


@pytest.mark.provokes("systemd-unavailable")
def test_a_spark_without_docker_alone_is_a_diagnostic_with_all_else_beside_it() -> None:
    missing = {"state": "missing", "error": "Docker is not installed"}
    found = {"requested": ["docker.io"], "install": [["docker.io", "", "28"]], "remove": []}
    seen = read_response("spark-01", response(docker=missing, packages=found))
    assert isinstance(seen, WithoutRuntime)
    assert seen.state == "missing"
    assert seen.rest is not None
    assert seen.rest.packages == Packages(("docker.io",), install=(("docker.io", "", "28"),))
    both = read_response("spark-01", response(docker=missing, systemd={"state": "missing"}))
    assert not isinstance(both, WithoutRuntime)
