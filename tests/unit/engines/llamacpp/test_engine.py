"""llama.cpp as an engine: arguments of a service, images, files, checks, and its on-host side."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet import engines
from sparkfleet.desired_state import Host, ImageRef, Service, WeightFile, Weights
from sparkfleet.engines.base import ModelFilesError
from sparkfleet.onhost.gate.diagnosis import reader

ENGINE, ON_HOST = engines.get("llamacpp"), engines.on_host("llamacpp")
GOLDEN = Path(__file__).parents[3] / "golden" / "real_llamacpp_0.5.0"
COMMIT = "5946e2b2f0cb6859e81b592df7edb30bb1d2ba47"
FILE = WeightFile("tiny-Q4_K_M.gguf", 2_000_000, "ab", "ab")
SERVICE = Service(
    name="tiny", recipe="", port=8000, engine="llamacpp",
    image=ImageRef("ghcr.io/ggml-org/llama.cpp", "server-cuda", "sha256:1", ("/app/llama-server",), "0.5.0"),
    weights=Weights("org/tiny-GGUF", COMMIT, (FILE,), file="*Q4_K_M.gguf"),
    served_name="tiny", flags=(("ctx-size", 8192), ("jinja", True)),
)  # fmt: skip
PATTERNS = json.loads(
    (Path(engines.__file__).parent / "llamacpp" / ON_HOST.log.patterns).read_text(encoding="utf-8")
)


def test_the_arguments_name_the_file_in_the_hubs_cache_and_turn_metrics_on() -> None:
    path = f"/models/hub/models--org--tiny-GGUF/snapshots/{COMMIT}/tiny-Q4_K_M.gguf"
    assert ENGINE.args(SERVICE) == (
        "--model", path, "--alias", "tiny", "--host", "0.0.0.0", "--port", "8000", "--metrics",
        "--ctx-size", "8192", "--jinja",
    )  # fmt: skip


def test_the_arguments_are_read_back_to_repository_commit_and_file() -> None:
    parsed = ENGINE.parse_args(ENGINE.args(SERVICE), "0.5.0")
    assert (parsed.model, parsed.revision) == ("org/tiny-GGUF", COMMIT)
    assert parsed.values["file"] == "tiny-Q4_K_M.gguf"
    assert "--model" not in parsed.values


def test_another_file_commit_or_flag_is_a_change_by_its_name() -> None:
    other = replace(
        SERVICE, flags=(("ctx-size", 4096),),
        weights=replace(SERVICE.weights, revision="0" * 40, files=(replace(FILE, path="tiny-Q8_0.gguf"),)),
    )  # fmt: skip
    changes = ENGINE.compare_args(ENGINE.args(SERVICE), ENGINE.args(other), "0.5.0")
    assert [(one.flag, one.old, one.new) for one in changes] == [
        ("--revision", COMMIT, "0" * 40),
        ("file", "tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf"),
        ("--ctx-size", "8192", "4096"),
    ]


@pytest.mark.parametrize(
    "entrypoint, prefix",
    [
        (("/app/llama-server",), ()),
        ((), ("/app/llama-server",)),
        (("/bin/bash", "-c"), None),
        (("/entrypoint.sh",), ("/app/llama-server",)),
        (("/app/tools.sh",), ("--server",)),
        (("vllm", "serve"), None),
    ],
)
def test_the_command_suits_the_entrypoint(
    entrypoint: tuple[str, ...], prefix: tuple[str, ...] | None
) -> None:
    assert ENGINE.command_prefix(entrypoint) == prefix


@pytest.mark.parametrize(
    "tag, labels, version",
    [
        ("server-cuda", {"org.opencontainers.image.version": "0.5.0"}, "0.5.0"),
        ("server-cuda-b6123", {}, "b6123"),
        ("server-v0.5.0", {}, "0.5.0"),
        ("server", {}, ""),
    ],
)
def test_the_release_comes_from_the_label_else_the_tag(
    tag: str, labels: dict[str, str], version: str
) -> None:
    assert ENGINE.image_version(ImageRef("ghcr.io/ggml-org/llama.cpp", tag), {}, labels) == version


def test_the_files_of_a_pattern_are_those_that_are_locked() -> None:
    files = [WeightFile(name, 1) for name in ("README.md", "a-Q4_K_M.gguf", "a-Q8_0.gguf")]
    assert ENGINE.model_files(files, "*Q8_0.gguf") == (files[2],)
    with pytest.raises(ModelFilesError):
        ENGINE.model_files(files, "*.gguf")


@pytest.mark.provokes("model-too-large")
def test_a_model_file_that_exceeds_the_memory_for_engines_is_an_error_of_its_field() -> None:
    file = replace(FILE, size=100 * 1024**3)
    large = replace(
        SERVICE, weights=replace(SERVICE.weights, files=(file,)), origin=(("model", "spark-01.yaml:3"),)
    )
    (found,) = ENGINE.check(large, Host("spark-01", (large,), reserve_gib=24), total_gib=119.7)
    assert (found.location, found.code) == ("model", "model-too-large")
    assert "100.0 weights" in found.message
    assert ENGINE.check(large, Host("spark-01", (large,), reserve_gib=12), total_gib=119.7) == ()


def test_a_misspelt_flag_is_reported_at_its_field() -> None:
    service = replace(SERVICE, flags=(("ctx-sizes", 1),), origin=(("flags.ctx-sizes", "spark-01.yaml:7"),))
    (found,) = ENGINE.check(service, Host("spark-01", (service,)))
    assert (found.location, found.code) == ("flags.ctx-sizes", "unknown-flag")


def test_speculation_is_declared_by_a_drafter_or_a_type() -> None:
    assert not ENGINE.is_speculative({"ctx-size": 1, "spec-type": "none"})
    assert ENGINE.is_speculative({"spec-draft-model": "/models/d.gguf"})


def test_the_models_response_has_name_and_context() -> None:
    (model,) = ON_HOST.models((GOLDEN / "v1_models.json").read_text())
    assert (model.name, model.context) == ("tiny", 2048)
    assert ON_HOST.answer_text((GOLDEN / "chat.json").read_text()) == "204"


def test_the_embeddings_response_has_a_vector() -> None:
    vector = ON_HOST.answer_vector((GOLDEN / "embeddings.json").read_text())
    assert len(vector) == 288
    assert math.hypot(*vector) == pytest.approx(1)


def test_the_metric_names_are_those_that_the_real_server_publishes() -> None:
    metrics = (GOLDEN / "metrics.txt").read_text()
    for name in (
        *ON_HOST.metrics.tokens,
        *ON_HOST.metrics.prompts,
        ON_HOST.metrics.accepted,
        ON_HOST.metrics.running,
    ):
        assert re.search(rf"^{name} ", metrics, re.MULTILINE), name


@pytest.mark.parametrize("kind", ["harmless", "warnings", "phases"])
def test_other_patterns_match_their_samples(kind: str) -> None:
    for entry in PATTERNS[kind]:
        assert re.search(entry["re"], entry["sample"]), entry


@pytest.mark.parametrize(
    "name, id_",
    [
        ("unknown_flag", "unknown-flag"),
        ("bad_value", "bad-flag-value"),
        ("bad_number", "bad-flag-value"),
        ("bad_cache_type", "bad-flag-value"),
        ("bad_json", "bad-flag-value"),
        ("removed_flag", "removed-flag"),
        ("missing_file", "missing-model-file"),
        ("missing_part", "missing-model-file"),
        ("bad_magic", "not-gguf"),
        ("short_file", "truncated-model-file"),
        ("port_taken", "port-taken"),
        ("bad_template", "bad-chat-template"),
        ("missing_draft", "missing-draft-model"),
    ],
)
def test_each_recorded_failure_is_explained(name: str, id_: str) -> None:
    found = reader("llamacpp").diagnose((GOLDEN / f"{name}.log").read_text(), 1)
    assert found is not None
    assert found.diagnostic.code == id_


def test_a_recorded_start_has_its_phases_and_no_failure() -> None:
    log = (GOLDEN / "good_start.log").read_text()
    phases = [phase for line in log.splitlines() if (phase := reader("llamacpp").phase_of(line))]
    assert [name for name, _ in phases] == ["start", "load", "memory", "ready"]
    assert phases[1][1] == "loading tiny-Q4_K_M.gguf"
    assert reader("llamacpp").diagnose(log, 0) is None
