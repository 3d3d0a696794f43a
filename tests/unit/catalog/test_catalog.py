"""The shipped recipes: complete, true to the vLLM in their images, and free of their sources' mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.catalog.load import Catalog
from sparkfleet.cli.check_report import diagnostics
from sparkfleet.config import image
from sparkfleet.config.reserved_flags import SECRET_ENV
from sparkfleet.desired_state import Service
from sparkfleet.engines.llamacpp import schema as llamacpp_schema
from sparkfleet.engines.vllm import schema
from sparkfleet.engines.vllm.images import is_fork
from sparkfleet.inventory import Pins, read_fleet
from tests.unit.config.fleet_files import write

SHIPPED = Catalog.of()
FORKS = {name for name, recipe in SHIPPED.items() if is_fork(image.parse(str(recipe.image)).repository)}
OF_VLLM = [name for name, recipe in SHIPPED.items() if recipe.engine is None]
SCHEMAS: dict[str, Any] = {"vllm": schema, "llamacpp": llamacpp_schema}

LAUNCHES = {
    "baseline",
    "dflash-qwen3.5-27b",
    "diffusiongemma-26b-a4b-nvfp4",
    "gemma-4-12b-coder",
    "gemma-4-26b-a4b-nvfp4",
    "gemma-4-31b-it-nvfp4",
    "gpt-oss-120b",
    "laguna-xs2-dflash",
    "llama-3.3-70b-instruct-nvfp4",
    "mistral-nemo-12b-fp8",
    "mistral-nemo-instruct-2407",
    "mistral-nemo-instruct-2407-awq",
    "mistral-nemo-instruct-2407-online-fp8",
    "mistral-small-4-119b-nvfp4",
    "mistral-small-4-119b-nvfp4-256k",
    "nemotron-3-nano-30b-a3b-nvfp4",
    "nemotron-3-super-120b-a12b-nvfp4",
    "phi-4-multimodal-nvfp4",
    "qwen3.5-35b-a3b",
    "qwen3.6-27b-nvfp4",
    "qwen3.6-35b-a3b-nvfp4",
}
"""Deployments of which a source gives a whole launch."""

VARIANTS = {
    "gemma-4-12b-coder-mtp",
    "mistral-nemo-12b-fp8-long",
    "mistral-nemo-12b-fp8-throughput",
    "nemotron-3-super-mtp",
    "qwen3.6-27b-nvfp4-yarn",
}

SINCE_JUNE = {
    "deepseek-v4-flash-0731",
    "deepseek-v4-flash-vision-exp",
    "deepseek-v4.1-flash",
    "gemma-4-31b-it-nvfp4-assistant",
    "laguna-s-2.1-nvfp4-dflash",
    "mimo-v2.6-flash",
    "minimax-m2.7-nvfp4",
    "minimax-m3-nvfp4",
    "muse-glimmer-30b",
    "nemotron-3-ultra-550b-a55b-nvfp4",
    "nemotron-3.5-lightning-30b-a3b-nvfp4",
    "qwen3.5-122b-a10b-nvfp4",
    "qwen3.6-27b-fp8",
    "qwen3.6-27b-nvidia-nvfp4",
    "qwen3.6-35b-a3b-nvfp4-256k",
    "qwen3.8-27b-nvfp4-dflash2",
    "qwen3.8-27b-nvfp4-dflash2-2x",
    "qwen3.8-flash-next-nvfp4",
    "qwen3.8-flash-next-nvfp4-2x",
}
"""Models and settings that were published for Sparks after the guides, by NVIDIA, vLLM or eugr."""

EXPECTED_WARNINGS = {
    "mistral-nemo-12b-fp8-long": ["CTX-04"],
    "mistral-nemo-instruct-2407-online-fp8": ["Q-05"],
}
"""Recipes whose notes say the same."""


def service_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Service:
    monkeypatch.chdir(tmp_path)
    model = "model: org/model, " if SHIPPED[name].model is None else ""
    return write(tmp_path, {"spark-01.yaml": f"serve: {{{model}recipe: {name}}}\n"}).service()


def _placed(text: str, sparks: int) -> dict[str, str]:
    """Return the fleet's files that serve it: a host file, or a cluster file of that many Sparks."""
    if sparks == 1:
        return {"spark-01.yaml": text}
    hosts = [f"spark-{number:02}" for number in range(1, sparks + 1)]
    members = {f"{host}.yaml": "serve: null\n" for host in hosts}
    return {**members, "clusters/wide.yaml": f"hosts: [{', '.join(hosts)}]\n{text}"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_passes_its_own_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    monkeypatch.chdir(tmp_path)
    model = "model: org/model, " if SHIPPED[name].model is None else ""
    group_data = "sparkfleet = {'hf_token': 'env:HF_TOKEN'}"
    text = f"serve: {{{model}recipe: {name}}}\n"
    files = write(tmp_path, {**_placed(text, SHIPPED[name].requires.sparks), "group_data/all.py": group_data})
    loaded = read_fleet(files.inventory, pins=Pins.IGNORED)
    assert loaded.diagnostics == ()
    found = [note for note in diagnostics(loaded) if note.severity != "info"]
    assert [note.code for note in found] == EXPECTED_WARNINGS.get(name, []), found


@pytest.mark.parametrize("name", sorted(SHIPPED.keys() - FORKS))
def test_a_recipe_is_pinned_to_a_release_that_is_known(name: Any) -> None:
    recipe = SHIPPED[name]
    assert recipe.image is not None
    found = image.parse(recipe.image)
    engine = recipe.engine or engines.DEFAULT
    version = engines.get(engine).image_version(found)
    assert SCHEMAS[engine].nearest(version)[1], f"{found.tag} has {engine} {version!r}: not a bundled release"


@pytest.mark.parametrize("name", OF_VLLM)
def test_a_recipe_says_what_an_engine_would_otherwise_take(name: Any) -> None:
    flags = SHIPPED[name].flags
    assert {"max-model-len", "gpu-memory-utilization", "max-num-seqs"} <= flags.keys()
    assert float(str(flags["gpu-memory-utilization"])) <= 0.9


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_leaves_to_sparkfleet_what_is_its_own(name: Any) -> None:
    recipe = SHIPPED[name]
    engine = engines.get(recipe.engine or engines.DEFAULT)
    assert not recipe.flags.keys() & (engine.reserved_flags.keys() | engine.secret_flags)
    assert not recipe.env.keys() & (SECRET_ENV | {"HF_HOME", "HF_HUB_OFFLINE"})
    assert "download-dir" not in recipe.flags
    # The fork's own loader, which leaves tables on disk; others load faster into more memory.
    assert recipe.flags.get("load-format") == ("b12x" if "load-format" in recipe.flags else None)
    assert name in FORKS or "load-format" not in recipe.flags


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_repeats_no_mistake_of_its_source(name: Any) -> None:
    recipe = SHIPPED[name]
    assert not recipe.flags.keys() & {
        "speculative-disable-by-batch-size",
        "enable-chunked-prefill",
        "enable-expert-parallel",
        "reasoning-parser-plugin",
    }
    assert "VLLM_FP8_MOE_BACKEND" not in recipe.env
    assert name in FORKS or not any(tag in str(recipe.image) for tag in ("nightly", "latest"))


@pytest.mark.parametrize("name", sorted(FORKS))
def test_a_recipe_with_a_fork_says_that_its_tag_moves(name: str) -> None:
    assert any("fork of vLLM with a tag that moves" in sentence for sentence in SHIPPED[name].limitations)


def test_a_recipe_for_several_sparks_says_how_it_is_served() -> None:
    for name, recipe in SHIPPED.items():
        if recipe.requires.sparks > 1:
            assert any(note.startswith("Serve it in a cluster file") for note in recipe.notes), name


@pytest.mark.parametrize("name", SHIPPED)
def test_tools_are_called_with_both_flags_or_none(name: Any) -> None:
    flags = SHIPPED[name].flags
    assert ("enable-auto-tool-choice" in flags) == ("tool-call-parser" in flags)


@pytest.mark.parametrize("name", SHIPPED)
def test_dflash_has_no_fp8_kv_cache_and_the_coders_drafter_has_one(name: Any) -> None:
    flags = SHIPPED[name].flags
    speculative = flags.get("speculative-config")
    method = speculative.get("method") if isinstance(speculative, dict) else None
    if method == "dflash":
        assert "kv-cache-dtype" not in flags
    if name == "gemma-4-12b-coder-mtp":
        assert flags["kv-cache-dtype"] == "fp8"


def test_every_deployment_of_the_sources_has_a_recipe() -> None:
    assert set(SHIPPED) >= LAUNCHES | VARIANTS | SINCE_JUNE


def test_a_recipe_of_gguf_names_its_file_and_how_many_tokens_are_kept() -> None:
    of_gguf = [recipe for recipe in SHIPPED.values() if recipe.engine == "llamacpp"]
    assert of_gguf
    assert all(recipe.file and "ctx-size" in recipe.flags for recipe in of_gguf)


def test_every_recipe_names_its_source_and_says_what_to_know() -> None:
    for recipe in SHIPPED.values():
        assert recipe.source
        assert recipe.notes or recipe.limitations


def test_a_recipe_whose_sources_name_two_tool_parsers_has_a_note() -> None:
    names = (
        "nemotron-3.5-lightning-30b-a3b-nvfp4",
        "qwen3.6-27b-fp8",
        "qwen3.6-27b-nvidia-nvfp4",
        "qwen3.6-35b-a3b-nvfp4-256k",
        "qwen3.8-flash-next-nvfp4",
        "qwen3.8-flash-next-nvfp4-2x",
    )
    for name in names:
        assert any("contradict each other on the tool parser" in note for note in SHIPPED[name].notes)


def test_a_derived_recipe_of_a_new_model_says_that_it_was_not_tried() -> None:
    derived = [SHIPPED[name] for name in SINCE_JUNE if SHIPPED[name].status == "derived"]
    assert derived
    for recipe in derived:
        assert any("ot tried" in sentence for sentence in recipe.limitations), recipe.recipe


def test_limitations_are_whole_sentences() -> None:
    sentences = [(name, text) for name, recipe in SHIPPED.items() for text in recipe.limitations]
    assert sentences
    assert [one for one in sentences if one[1][0].islower() or not one[1].endswith(".")] == []


def test_links_are_where_the_source_is_a_public_page() -> None:
    for name, recipe in SHIPPED.items():
        if recipe.source.startswith(("F. Vlaicu", "NVIDIA")):
            assert recipe.links, name


def test_gated_models_ask_for_a_token() -> None:
    gated = {recipe.recipe for recipe in SHIPPED.values() if recipe.requires.gated}
    assert {"gemma-4-31b-it-nvfp4", "gemma-4-26b-a4b-nvfp4", "llama-3.3-70b-instruct-nvfp4"} <= gated
    assert "gpt-oss-120b" not in gated


def test_a_drafter_inside_the_repository_is_named_by_where_the_commit_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = write(tmp_path, {"spark-01.yaml": "serve: gemma-4-12b-coder-mtp\n"})
    files.pin()
    service = files.load(need_lock=True).hosts[0].services[0]
    speculative = dict[str, Any](service.flags)["speculative-config"]
    repository = "models--sakamakismile--gemma-4-12B-coder-fable5-composer2.5-MTP-NVFP4"
    commit = service.weights.revision
    assert speculative["model"] == f"/models/hub/{repository}/snapshots/{commit}/assistant"
    assert service.drafters == ()


def test_nested_settings_become_one_json_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_of(tmp_path, monkeypatch, "qwen3.6-27b-nvfp4-yarn")
    args = engines.get(service.engine).args(service)
    value = json.loads(args[args.index("--hf-overrides") + 1])
    assert value["text_config"]["rope_parameters"]["factor"] == 4.0


@pytest.mark.provokes("service-incomplete")
def test_the_template_wants_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    diagnostic = write(tmp_path, {"spark-01.yaml": "serve: baseline\n"}).diagnostic()
    assert diagnostic.message == "the service has no model"
