"""A Spark that shall serve one small model: what tests of its plan share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sparkfleet.desired_state import Host, ImageRef, Service, WeightFile, Weights
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import ChangeSet, Note
from sparkfleet.plan.operations import RolloutOperation
from sparkfleet.probe.observation import Observed
from sparkfleet.runtimes.observation import ObservedInstance
from tests.unit.plan import fake_spark

NGC = ImageRef(
    "nvcr.io/nvidia/vllm",
    "26.04-py3",
    "sha256:" + "1" * 64,
    ("/opt/nvidia/nvidia_entrypoint.sh",),
    "0.19.0",
    9 << 30,
)
STOCK = ImageRef(
    "docker.io/vllm/vllm-openai", "v0.24.0", "sha256:" + "2" * 64, ("vllm", "serve"), "0.24.0", 8 << 30
)
NANO_WEIGHTS = Weights(
    "nvidia/Nano",
    "a" * 40,
    (WeightFile("config.json", 700, "", "c1"), WeightFile("model.safetensors", 18 << 30, "f" * 64, "f" * 64)),
)
NANO = Service(
    name="nano",
    recipe="nano",
    port=8000,
    image=NGC,
    weights=NANO_WEIGHTS,
    served_name="nano",
    flags=(
        ("max-model-len", 262144),
        ("kv-cache-dtype", "fp8"),
        ("trust-remote-code", True),
        ("speculative-config", {"method": "mtp", "num_speculative_tokens": 3}),
    ),
    env=(("VLLM_LOGGING_LEVEL", "INFO"),),
)
HOST = Host("spark-01", (NANO,))
CONVERGED = fake_spark.converged(HOST)
"""The Spark after a run."""


def with_service(**changes: Any) -> Host:
    return replace(HOST, services=(replace(NANO, **changes),))


def rows(entry: ChangeSet) -> list[tuple[str, str, str, str]]:
    return [(c.name, c.key, c.old, c.new) for c in entry.fields()]


def notes(entry: ChangeSet, name: str) -> list[Note]:
    return [note for note in entry.notes if note.name == name]


def rollout(entry: ChangeSet) -> RolloutOperation:
    (operation,) = (one for one in entry.operations if isinstance(one, RolloutOperation))
    return operation


def only_entry(host: Host, seen: Observed) -> ChangeSet:
    (entry,) = host_plan(host, seen).change_sets
    return entry


def foreign(**changes: Any) -> ObservedInstance:
    box = ObservedInstance("e" * 64, "open-webui", "sha256:9", "running", "", image="x")
    return replace(box, **changes)
