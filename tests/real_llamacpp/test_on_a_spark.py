"""The real llama-server as a service of a lab Spark, through the same steps as the stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import lifecycle, real_llamacpp, real_vllm
from sparkfleet_lab.base import make_base
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.standins import tiny_gguf
from sparkfleet_lab.state import read_state
from tests.lab.fleet import FleetDirectory
from tests.lab.gguf_steps import run_all_steps
from tests.lab.machine import Machine

pytestmark = [pytest.mark.real_llamacpp, pytest.mark.timeout(7200)]

CHECKOUT = Path(__file__).parents[2]
WITH_GGUF = Path(__file__).with_name("make_with_gguf.py")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of one machine, whose registry has the real engine too."""
    docker, lab_of_test = Docker(), Lab(CHECKOUT, os.environ.get("SPARKFLEET_REAL_LAB", "real-gguf"))
    try:
        image = real_llamacpp.make_image(docker, make_base(docker, print), print)
        lifecycle.up(docker, lab_of_test, 1, print, warm=False)
        state = read_state(lab_of_test)
        assert state is not None
        real_vllm.push(docker, image, state.registry_url, lab_of_test.directory / "ca.pem", real_llamacpp.REF)
    except SparkfleetError as error:
        pytest.fail(f"no lab: {error}", pytrace=False)
    yield lab_of_test
    lifecycle.down(docker, lab_of_test, also_images=False, report=print)


def test_the_real_llama_server_passes_all_steps(lab: Lab, tmp_path: Path) -> None:
    state = read_state(lab)
    assert state is not None
    spark = Machine("spark-01", lab, state)
    run_all_steps(FleetDirectory(tmp_path / "checkout", lab), spark, real_llamacpp.REF)


def test_the_labs_gguf_is_byte_for_byte_what_the_gguf_package_writes(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), "gguf"]
    subprocess.run(install, check=True)
    made = tmp_path / "tiny.gguf"
    environment = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{CHECKOUT / 'src'}"}
    subprocess.run([sys.executable, str(WITH_GGUF), str(made)], check=True, env=environment)
    assert made.read_bytes() == tiny_gguf.file("Q4_K_M")
