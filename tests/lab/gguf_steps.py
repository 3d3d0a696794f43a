"""All steps of a GGUF model on a Spark, for any llama-server: plan, rollout, change, rollback, removal."""

from __future__ import annotations

import json
from typing import Any

from sparkfleet_lab.standins.hub_models import TINY_GGUF
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine

PORT = 8000
QUESTION = {"messages": [{"role": "user", "content": "What is 12*17? Answer with the number only."}]}


def service(image: str, *, file: str = "*Q4_K_M.gguf", **flags: Any) -> dict[str, Any]:
    """Return a host file with the tiny model; flags with ``_`` for ``-``."""
    return {
        "serve": [
            {
                "engine": "llamacpp",
                "model": TINY_GGUF,
                "file": file,
                "image": image,
                "name": "tiny",
                "flags": {name.replace("_", "-"): value for name, value in flags.items()},
                "container": {"gpus": "none"},
            }
        ]
    }


def served_model(spark: Machine) -> tuple[str, int]:
    """Return name and context of the model that answers on the Spark's port."""
    (model,) = json.loads(spark.sh(f"curl -sS --fail http://127.0.0.1:{PORT}/v1/models"))["data"]
    return model["id"], model["meta"]["n_ctx"]


def answer(spark: Machine) -> str:
    """Return the model's answer to the gate's prompt."""
    body = json.dumps({"model": "tiny", "temperature": 0, **QUESTION})
    url = f"http://127.0.0.1:{PORT}/v1/chat/completions"
    text = spark.sh(f"curl -sS --fail {url} -d '{body}'")
    return str(json.loads(text)["choices"][0]["message"]["content"])


def started_at(spark: Machine) -> str:
    """Return when the container was started."""
    return spark.sh("docker inspect -f '{{.State.StartedAt}}' tiny").strip()


def gguf_files(spark: Machine) -> list[str]:
    """Return the names of all GGUF files in snapshots of the models directory."""
    found = spark.sh("find / -xdev -path '*/snapshots/*' -name '*.gguf' -printf '%f\\n' 2>/dev/null || true")
    return sorted(found.split())


def run_all_steps(fleet: FleetDirectory, spark: Machine, image: str) -> None:
    """Plan, roll out, change, roll back and remove the model."""
    fleet.host("spark-01", service(image, ctx_size=1024))
    fleet.lock()
    locked = (fleet.root / "inventories/lab/fleet.lock").read_text()
    assert "tiny-Q4_K_M.gguf" in locked
    assert "tiny-Q8_0.gguf" not in locked

    first = fleet.plan()
    assert first.code == 2, first.text
    assert "KV cache for 1024 tokens" in first.out
    fleet.run().expect(0)
    assert served_model(spark) == ("tiny", 1024)
    assert answer(spark) == "204"
    assert gguf_files(spark) == ["tiny-Q4_K_M.gguf"]
    assert "no changes" in fleet.plan().expect(0).out

    fleet.host("spark-01", service(image, file="*F32.gguf", ctx_size=512))
    fleet.lock()
    changes = fleet.plan().out
    assert "1024" in changes
    assert "512" in changes
    fleet.run().expect(0)
    assert served_model(spark) == ("tiny", 512)
    assert answer(spark) == "204"
    parts = [f"tiny-F32-0000{number}-of-00002.gguf" for number in (1, 2)]
    assert gguf_files(spark) == [*parts, "tiny-Q4_K_M.gguf"]

    fleet.host(
        "spark-01", service(image, file="*F32.gguf", ctx_size=256, spec_draft_model="/models/none.gguf")
    )
    refused = fleet.run()
    assert refused.code != 0
    assert "the draft model cannot be loaded: /models/none.gguf" in refused.text
    assert served_model(spark) == ("tiny", 512)
    assert answer(spark) == "204"

    fleet.host("spark-01", {})
    fleet.run().expect(0)
    assert spark.sh("docker ps --all --filter name=tiny --format '{{.Names}}'").strip() == ""
    assert not spark.ok(f"curl -sS --max-time 5 http://127.0.0.1:{PORT}/health")
    assert "no changes" in fleet.plan().expect(0).out
