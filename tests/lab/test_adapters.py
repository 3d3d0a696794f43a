"""A LoRA adapter of the hub is pinned, staged beside the model, and found by the engine offline."""

from __future__ import annotations

from typing import Any

from sparkfleet_lab.standins.hub_models import ADAPTER
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine


def test_an_adapter_of_the_hub_is_staged_and_given_to_the_engine(
    fleet: FleetDirectory, spark: Machine
) -> None:
    flags: dict[str, Any] = {"enable-lora": True, "lora-modules": [f"sql={ADAPTER}"]}
    service = {"recipe": "gpt-oss-20b", "name": "oss", "flags": flags}
    fleet.host("spark-01", {"serve": [service]})
    fleet.lock()
    refused = fleet.command("sparkfleet", "check", "inventories/lab.py").expect(1)
    assert f"{ADAPTER} has rank 32, and --max-lora-rank is 16" in refused.text

    flags["max-lora-rank"] = 32
    fleet.host("spark-01", {"serve": [service]})
    assert ("weights", "", "", ADAPTER) in fleet.changes("spark-01")
    fleet.run().expect(0)
    args = spark.sh("docker inspect -f '{{join .Config.Cmd \" \"}}' oss").split()
    (adapter,) = [one.removeprefix("sql=") for one in args if one.startswith("sql=")]
    spark.sh(f"docker exec oss test -f {adapter}/adapter_model.safetensors")
    fleet.plan().expect(0)
