"""A cluster's service for docker and compose: the Spark's rank of it."""

from __future__ import annotations

import yaml

from sparkfleet.cli import render_formats
from tests.unit.plan.cluster.cluster_fixtures import host
from tests.unit.plan.cluster.test_render import OLD_STOCK
from tests.unit.plan.fake_spark import USER


def test_a_member_is_rendered_as_its_rank() -> None:
    declared = host(1)
    made = render_formats.generation(declared, declared.services[0], USER)
    text = render_formats.in_format("docker", declared, [made], USER)
    assert "--node-rank 1" in text
    assert "--headless" in text


def test_compose_runs_ray_where_the_image_would_run_vllm() -> None:
    declared = host(0, "ray", image=OLD_STOCK)
    made = render_formats.generation(declared, declared.services[0], USER)
    text = render_formats.in_format("compose", declared, [made], USER)
    (box,) = yaml.safe_load(text)["services"].values()
    assert box["entrypoint"] == ["python3"]
    assert box["command"][0] == "-c"
    assert box["environment"]["RAY_memory_monitor_refresh_ms"] == "0"
