"""A GGUF model served by llama-server (the stand-in), through all steps of its life cycle."""

from __future__ import annotations

from sparkfleet_lab.standin_images import LLAMA_CPP
from tests.lab.fleet import FleetDirectory
from tests.lab.gguf_steps import run_all_steps, service
from tests.lab.machine import Machine


def test_a_gguf_model_is_planned_rolled_out_changed_rolled_back_and_removed(
    fleet: FleetDirectory, spark: Machine
) -> None:
    run_all_steps(fleet, spark, LLAMA_CPP)


def test_a_pattern_that_matches_several_files_is_an_error_that_names_them(
    fleet: FleetDirectory, used_spark: Machine
) -> None:
    fleet.host("spark-01", service(LLAMA_CPP, file="*Q*.gguf"))
    refused = fleet.command("sparkfleet", "lock", "inventories/lab.py")
    assert refused.code != 0
    assert "matches 2 of its GGUF models: tiny-Q4_K_M.gguf, tiny-Q8_0.gguf" in refused.text
