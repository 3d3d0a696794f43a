"""Plain data of a host: the same as the standard library makes, for less."""

from __future__ import annotations

import dataclasses
import json

from sparkfleet.contract import codec
from sparkfleet.desired_state import Host, ImageRef, Service, WeightFile, Weights, host_from_json
from sparkfleet.runtimes import Container, Mount

HOST = Host(
    name="spark-01",
    services=(
        Service(
            name="nano",
            recipe="nano",
            port=8000,
            image=ImageRef("docker.io/vllm/vllm-openai", "v0.19.0", "sha256:" + "a" * 64, ("vllm", "serve")),
            weights=Weights("org/model", "c" * 40, (WeightFile("a", 5, blob="b"),), config=(("layers", 2),)),
            served_name="nano",
            flags=(("speculative-config", {"model": "org/drafter", "num": [1, 2]}), ("max-model-len", 65536)),
            env=(("VLLM_LOGGING_LEVEL", "INFO"),),
            container=Container(ulimits={"memlock": -1}, mounts=(Mount("~/a", "/a", read_only=True),)),
            drafters=(Weights("org/drafter", "d" * 40),),
        ),
    ),
    ssh=(("ssh_hostname", "192.168.1.21"),),
)


def test_plain_data_is_what_the_standard_library_makes_of_it() -> None:
    assert codec.plain(HOST) == json.loads(json.dumps(dataclasses.asdict(HOST)))


def test_a_host_survives_the_way_through_json() -> None:
    assert host_from_json(json.loads(json.dumps(codec.plain(HOST)))) == HOST
