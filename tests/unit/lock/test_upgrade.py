import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sparkfleet.desired_state import ImageRef, Service
from sparkfleet.engines.vllm import schema_cache
from sparkfleet.engines.vllm.upgrade import difference
from tests.unit.config.fleet_files import NANO, SMALL, FleetFiles


def image(vllm: str, digest: str = "") -> ImageRef:
    return ImageRef("docker.io/vllm/vllm-openai", "v" + vllm, digest, engine_version=vllm)


def services(fleet: Callable[..., FleetFiles], text: str) -> list[Service]:
    return [service for host in fleet({"spark-01.yaml": text}).load().hosts for service in host.services]


@pytest.mark.provokes("not-registered")
def test_what_a_service_uses_and_the_other_release_lacks_comes_first(
    fleet: Callable[..., FleetFiles],
) -> None:
    found = difference(
        image("0.19.0"), image("0.12.0"), services(fleet, f"serve: {{recipe: {NANO}, name: nano}}\n")
    )
    assert found is not None
    assert found.lines()[0].startswith("! nano: --reasoning-parser: vLLM 0.12.0 has no 'nemotron_v3'")


def test_a_changed_default_is_reported_for_services_that_rely_on_it(fleet: Callable[..., FleetFiles]) -> None:
    text = f"""
serve:
  - {{recipe: {SMALL}, name: relies, flags: {{gpu-memory-utilization: null}}}}
  - {{recipe: {SMALL}, name: sets, flags: {{gpu-memory-utilization: 0.4}}}}
ignore_rules: {{MEM-08: not the point here}}
"""
    found = difference(image("0.19.0"), image("0.20.0"), services(fleet, text))
    assert found is not None
    assert "--gpu-memory-utilization 0.9 → 0.92 (relied on by relies)" in found.defaults


def test_removed_variables_are_reported_when_used(fleet: Callable[..., FleetFiles]) -> None:
    text = f"serve: {{recipe: {SMALL}, name: aa, env: {{VLLM_USE_FLASHINFER_MOE_FP4: 1}}}}\n"
    found = difference(image("0.23.0"), image("0.24.0"), services(fleet, text))
    assert found is not None
    assert any("VLLM_USE_FLASHINFER_MOE_FP4" in line for line in found.uses)
    assert "VLLM_USE_FLASHINFER_MOE_FP4" in found.gone_env


def test_flags_gone_and_new_are_listed_after(fleet: Callable[..., FleetFiles]) -> None:
    found = difference(image("0.24.0"), image("0.33.0"), services(fleet, f"serve: {SMALL}\n"))
    assert found is not None
    assert "--calculate-kv-scales" in found.gone
    assert found.new_flags
    assert found.lines()[-3].startswith("flags gone: ")


def test_nothing_is_reported_where_a_version_is_unknown_or_the_same() -> None:
    assert difference(image(""), image("0.19.0"), []) is None
    assert difference(image("0.19.0"), image(""), []) is None
    assert difference(image("0.19.0"), image("0.19.0"), []) is None


def test_an_inspected_image_is_compared_by_its_own_output(
    fleet: Callable[..., FleetFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    nightly = "sha256:" + "7" * 64
    flags = {"--only-nightly": {"dest": "only_nightly", "kind": "store"}}
    schema_cache.keep(nightly, json.dumps({"vllm_version": "0.34.0.dev3", "flags": flags}))
    found = difference(image("0.33.0"), image("", nightly), services(fleet, f"serve: {SMALL}\n"))
    assert found is not None
    assert found.new == "0.34.0.dev3"
    assert found.new_flags == ("--only-nightly",)
    assert any("--max-model-len" in line for line in found.uses)
