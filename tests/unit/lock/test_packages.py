"""Wheels with hashes by pip: what it is asked, and what is made of its report."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from sparkfleet.desired_state import PackageIndex
from sparkfleet.lock import packages
from sparkfleet.lock.errors import PackagesError
from tests.lab.package_index import serve
from tests.wheels import real_pip, wheel

SCIPY = "https://index.example/f/scipy-1.17.0-cp312-cp312-manylinux_2_28_aarch64.whl"
PIP = "https://index.example/f/pip-26.0-py3-none-any.whl"


def entry(url: str, digest: str = "a" * 64) -> dict[str, Any]:
    return {"download_info": {"url": url, "archive_info": {"hashes": {"sha256": digest}}}}


@dataclass
class Pip:
    """What pip was asked, and what it answers."""

    report: Any = None
    code: int = 0
    err: str = ""
    argv: list[str] = field(default_factory=list)
    limits: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def run(self, argv: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.argv, self.env = argv, env
        self.limits = Path(argv[argv.index("--constraint") + 1]).read_text(encoding="utf-8")
        out = self.report if isinstance(self.report, str) else json.dumps(self.report)
        return subprocess.CompletedProcess(argv, self.code, out, self.err)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    made = Pip({"install": [entry(SCIPY), entry(PIP)]})
    monkeypatch.setattr(subprocess, "run", made.run)
    monkeypatch.setattr(packages, "_size", lambda url: 7)
    return made


def test_wheels_are_for_the_images_python_and_machine_and_pip_is_among_them(pip: Pip) -> None:
    found = packages.resolve([("scipy", ">=1")], {}, PackageIndex())
    assert found.derived_packages.install == ("scipy>=1",)
    assert [wheel.package for wheel in found.derived_packages.wheels] == ["pip 26.0", "scipy 1.17.0"]
    assert {wheel.sha256 for wheel in found.derived_packages.wheels} == {"a" * 64}
    assert (found.python, found.machine) == ("3.12", "aarch64")
    assert pip.argv[pip.argv.index("--python-version") + 1] == "3.12"
    assert "manylinux_2_28_aarch64" in pip.argv
    assert "manylinux_2_39_aarch64" not in pip.argv  # newer than an image's distribution may be
    assert pip.argv[-2:] == ["scipy>=1", "pip"]
    assert "--only-binary=:all:" in pip.argv


def test_nothing_is_chosen_against_what_the_images_vllm_requires(pip: Pip) -> None:
    installed = {"numpy": "<2.3", "torch": "==2.10.0", "pillow": "", "mistral-common": ">=1.10"}
    packages.resolve([("Mistral_Common", ">=1.11")], installed, PackageIndex())
    assert pip.limits.splitlines() == ["numpy<2.3", "torch==2.10.0"]


def test_without_a_declared_index_pip_uses_its_default_index(
    pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    packages.resolve([("scipy", "")], {}, PackageIndex())
    assert "--index-url" not in pip.argv
    assert pip.env["PIP_INDEX_URL"] == "https://mirror.example/simple"


@pytest.mark.parametrize(
    ("url", "trusted"), [("https://own.example/simple", False), ("http://10.0.0.1:80/simple", True)]
)
def test_a_declared_index_is_the_only_place(
    pip: Pip, monkeypatch: pytest.MonkeyPatch, url: str, trusted: bool
) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://other.example/simple")
    packages.resolve([("scipy", "")], {}, PackageIndex(url))
    assert pip.argv[pip.argv.index("--index-url") + 1] == url
    assert "PIP_EXTRA_INDEX_URL" not in pip.env
    assert pip.env["PIP_CONFIG_FILE"] == "/dev/null"
    assert ("--trusted-host" in pip.argv) is trusted


def test_an_older_pips_report_has_the_hash_in_another_key(pip: Pip) -> None:
    old = {"download_info": {"url": SCIPY, "archive_info": {"hash": "sha256=" + "b" * 64}}}
    pip.report = {"install": [old]}
    (found,) = packages.resolve([("scipy", "")], {}, PackageIndex()).derived_packages.wheels
    assert found.sha256 == "b" * 64


@pytest.mark.parametrize(
    ("report", "argv"),
    [
        ({"install": [entry("file:///srv/scipy-1-py3-none-any.whl")]}, "no Spark can download"),
        ({"install": [{"download_info": {"url": SCIPY}}]}, "has no SHA-256"),
        ("not a report", "pip's report: Invalid JSON"),
        ({"install": [{"download_info": {}}]}, r"pip's report: install\.0\.download_info\.url: "),
    ],
)
def test_what_no_spark_could_fetch_or_check_is_refused(pip: Pip, report: Any, argv: str) -> None:
    pip.report, pip.err = report, "it is broken"
    with pytest.raises(PackagesError, match=argv):
        packages.resolve([("scipy", "")], {}, PackageIndex())


@pytest.mark.parametrize(
    ("err", "argv"),
    [
        ("WARNING: x\nERROR: No matching distribution found for scipy\n", "No matching distribution"),
        ("", "pip printed nothing"),
        (f"{sys.executable}: No module named pip\n", "pip is not installed"),
    ],
)
def test_a_failure_of_pip_is_reported_with_its_message(pip: Pip, err: str, argv: str) -> None:
    pip.code, pip.err = 1, err
    with pytest.raises(PackagesError, match=argv):
        packages.resolve([("scipy", "")], {}, PackageIndex())


def test_an_index_that_does_not_tell_a_size_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    request = httpx.Request("HEAD", SCIPY)
    monkeypatch.setattr(httpx, "head", lambda *_, **__: httpx.Response(405, request=request))
    assert packages._size(SCIPY) == 0
    monkeypatch.setattr(httpx, "head", lambda *_, **__: httpx.Response(200, request=request))
    assert packages._size(SCIPY) == 0


def test_the_real_pip_finds_a_package_all_that_it_needs_and_itself(tmp_path: Path) -> None:
    with serve("127.0.0.1", tmp_path / "index") as index:
        tool = wheel("tool", "1.2", ["helper>=1"])
        for name, content in (real_pip(), tool, wheel("helper", "2.0"), wheel("helper", "3.0")):
            index.add(name, content)
        found = packages.resolve([("tool", "")], {"helper": "<3"}, PackageIndex(index.url))
    names = [one.package for one in found.derived_packages.wheels]
    assert names[0] == "helper 2.0"
    assert names[-1] == "tool 1.2"
    assert names[1].startswith("pip ")
    assert [one.size for one in found.derived_packages.wheels if one.package == "tool 1.2"] == [len(tool[1])]
