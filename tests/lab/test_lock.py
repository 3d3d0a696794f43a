"""``sparkfleet lock`` against a real registry and a hub: one failed entry does not affect the others."""

from __future__ import annotations

import itertools
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sparkfleet.config.lock_data import Lock
from sparkfleet_lab import faults
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.standins.hub_models import GEMMA, GPT_OSS, MODELS, NANO, QWEN, TINY, TOKEN_ACCEPTED
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.image_repository import REPOSITORY, ImageRepository
from tests.lab.proxy import Proxy, Refusal, proxy_to

MOVING = f"docker.io/{REPOSITORY}:moving"
HUNG = Refusal()
MISSING = "nvidia/Not-There-NVFP4"

IMAGES = {
    "refused": ("denies access to vllm/vllm-openai (HTTP 401)", "docker login docker.io"),
    "limited": ("the rate limit of docker.io is reached (HTTP 429)", "try again in 90 s"),
    "hung": ("docker.io did not respond in time", "try again later"),
    "nowhere": ("docker.io has no vllm/vllm-openai nowhere", "check name and tag"),
    "spoiled": ("docker.io sent sha256:", "try again"),
    "amd64": ("is not available for linux/arm64; it has linux/amd64", "choose a tag for arm64"),
}
"""Tag -> message and remedy."""

REPOSITORIES = {
    GEMMA: ("is gated, and there is no token", "accept the licence at"),
    MISSING: (f"{MISSING} does not exist on ", "check the name"),
    GPT_OSS: ("is reached (HTTP 429)", "try again in 60 s"),
    QWEN: ("within 30 s", "try again later"),
    TINY: (f"config.json of {TINY} does not match the hub's hash", "try again"),
}


@pytest.fixture(scope="module")
def repository(lab: Lab, lab_state: State) -> Iterator[ImageRepository]:
    with httpx.Client(base_url=lab_state.registry_url, verify=_trust(lab), timeout=30) as client:
        repository = ImageRepository(lab, client)
        for tag in ("refused", "limited", "hung", "good"):
            repository.push(tag, "0.24.0")
        repository.push("amd64", "0.24.0", ("amd64",))
        repository.corrupt(repository.push("spoiled", "0.24.0"))
        yield repository


@pytest.fixture
def registry(lab: Lab, lab_state: State, fleet: FleetDirectory) -> Iterator[Proxy]:
    """A proxy in front of Docker Hub's stand-in."""
    faults.repair_services(Docker(), lab, lab_state)
    with proxy_to(lab_state.registry_url, _trust(lab)) as proxy:
        fleet.set_group_data(registries={"docker.io": {"url": proxy.url}})
        yield proxy


@pytest.fixture
def hub(lab_state: State, fleet: FleetDirectory) -> Iterator[Proxy]:
    with proxy_to(lab_state.hub_url) as proxy:
        fleet.set_group_data(hf_endpoint=proxy.url)
        yield proxy


def _trust(lab: Lab) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(lab.directory / "ca.pem"))


def serve(fleet: FleetDirectory, host: str, repo: str, tag: str, **more: object) -> None:
    service = {"recipe": "baseline", "name": "main", "model": repo, "image": f"{REPOSITORY}:{tag}"}
    fleet.host(host, {"serve": [{**service, **more}]})


def lock(fleet: FleetDirectory, *args: str) -> Outcome:
    return fleet.command("sparkfleet", "lock", "inventories/lab.py", *args)


def path_of(fleet: FleetDirectory) -> Path:
    return fleet.root / "inventories" / "lab" / "fleet.lock"


def pinned(fleet: FleetDirectory) -> Lock:
    from sparkfleet.lock import lockfile  # noqa: PLC0415

    return lockfile.read(path_of(fleet))


def test_each_entry_fails_with_its_own_reason_and_the_rest_is_pinned(
    repository: ImageRepository, fleet: FleetDirectory, registry: Proxy, hub: Proxy, lab_state: State
) -> None:
    for number, tag in enumerate([*IMAGES, "good"]):
        serve(fleet, f"image-{number}", NANO, tag)
    for number, repo in enumerate(REPOSITORIES):
        serve(fleet, f"model-{number}", repo, "good")
    registry.refused = {
        "/manifests/refused$": Refusal(401, {"www-authenticate": 'Basic realm="x"'}),
        "/manifests/limited$": Refusal(429, {"retry-after": "90"}),
        "/manifests/hung$": HUNG,
    }
    hub.refused = {
        f"/api/models/{GPT_OSS}": Refusal(429, {"retry-after": "60"}),
        f"/api/models/{QWEN}": HUNG,
        f"{TINY}/resolve/": Refusal(200),
    }

    first = lock(fleet).expect(1)

    for (tag, (found, remedy)), place in zip(IMAGES.items(), range(len(IMAGES)), strict=True):
        report = paragraph(first.err, f"inventories/lab/image-{place}.yaml:")
        assert found in report, tag
        assert f"do: {remedy}" in report or remedy in report.partition("do: ")[2], tag
    for (repo, (found, remedy)), place in zip(REPOSITORIES.items(), range(len(REPOSITORIES)), strict=True):
        report = paragraph(first.err, f"inventories/lab/model-{place}.yaml:")
        assert found in report, repo
        assert remedy in report.partition("do: ")[2], repo
    unresolved = len(IMAGES) + len(REPOSITORIES)
    assert first.out.endswith(f"2 pinned, 2 changes, {unresolved} not resolved\n")
    assert set(pinned(fleet).images) == {f"docker.io/{REPOSITORY}:good"}
    assert set(pinned(fleet).models) == {NANO}

    previous = pinned(fleet)
    for tag in ("amd64", "spoiled"):
        repository.push(tag, "0.25.1")
    registry.refused, hub.refused = {}, {}
    fleet.set_group_data(hf_token="env:LAB_TOKEN")
    fleet.env["LAB_TOKEN"] = TOKEN_ACCEPTED
    serve(fleet, "model-1", NANO, "good")
    serve(fleet, f"image-{[*IMAGES].index('nowhere')}", NANO, "good")
    second = lock(fleet).expect(0)
    assert "~" not in second.out
    assert len(pinned(fleet).images) == len(IMAGES)
    assert set(pinned(fleet).models) == {NANO, *REPOSITORIES} - {MISSING}
    assert pinned(fleet).models[NANO] == previous.models[NANO]
    assert TOKEN_ACCEPTED not in path_of(fleet).read_text() + second.text


def test_an_unreachable_registry_or_hub_leaves_the_lock_file_unchanged(
    repository: ImageRepository, fleet: FleetDirectory, lab: Lab, lab_state: State
) -> None:
    mirror = {"url": lab_state.registry_url, "ca_file": str(lab.directory / "ca.pem")}
    fleet.set_group_data(registries={"docker.io": mirror})
    serve(fleet, "spark-01", GPT_OSS, "good")
    lock(fleet).expect(0)
    before = path_of(fleet).read_bytes()
    nobody = f"{lab_state.hub_url}:1"
    fleet.set_group_data(hf_endpoint=nobody)
    faults.break_host(Docker(), lab, lab_state, "registry", "registry-down")
    try:
        lock(fleet).expect(0)  # nothing is missing, so no request is sent
        failed = lock(fleet, "--update", "*").expect(1)
        assert "inventories/lab/spark-01.yaml:5: docker.io cannot be reached: " in failed.err
        assert f"inventories/lab/spark-01.yaml:4: {nobody} cannot be reached: " in failed.err
        serve(fleet, "spark-02", QWEN, "other")
        assert lock(fleet).expect(1).err.count("inventories/lab/spark-02.yaml:") == 2
    finally:
        faults.repair_services(Docker(), lab, lab_state)
    assert path_of(fleet).read_bytes() == before


def test_a_tag_and_a_branch_that_moved_stay_pinned_until_an_update_is_requested(
    repository: ImageRepository, fleet: FleetDirectory, registry: Proxy, lab: Lab
) -> None:
    old = repository.push("moving", "0.19.0")
    env = {"VLLM_USE_FLASHINFER_MOE_FP4": "0"}
    serve(fleet, "spark-01", NANO, "moving", env=env, flags={"gpu-memory-utilization": None})
    lock(fleet).expect(0)
    first = pinned(fleet)
    assert first.images[MOVING].image.digest == old

    new = repository.push("moving", "0.24.0")
    nano = next(model for model in MODELS if model.repo == NANO)
    main, earlier = nano.commit("second"), nano.commit("first")
    _branch(lab, NANO, main, earlier)
    try:
        assert "no changes" in lock(fleet).expect(0).out
        assert pinned(fleet) == first

        moved = lock(fleet, "--update", "vllm-openai:moving", "--update", MOVING)
        assert "'vllm-openai:moving' matches nothing in this fleet" in moved.expect(1).err
        assert f"~ {MOVING}  {old[:19]} (engine 0.19.0, " in moved.out
        assert f" → {new[:19]} (engine 0.24.0, " in moved.out
        details = [line.strip() for line in moved.out.splitlines() if line.startswith("    ")]
        assert details[0].startswith("! main: vLLM 0.24.0 does not read VLLM_USE_FLASHINFER_MOE_FP4")
        assert details[1] == "default --gpu-memory-utilization 0.9 → 0.92 (relied on by all)"
        assert [line.partition(":")[0] for line in details[2:]] == ["flags new", "env gone"]
        assert pinned(fleet).images[MOVING].image.digest == new
        assert pinned(fleet).models == first.models

        branch = lock(fleet, "--update", NANO).expect(0)
        assert f"~ {NANO}  {main[:12]} " in branch.out
        assert f" → {earlier[:12]} " in branch.out
    finally:
        _branch(lab, NANO, earlier, main)


def test_a_lock_that_is_killed_at_any_request_leaves_the_old_file_and_can_be_repeated(
    repository: ImageRepository, fleet: FleetDirectory, registry: Proxy, hub: Proxy
) -> None:
    repository.push("moving", "0.19.0")
    serve(fleet, "spark-01", NANO, "moving")
    lock(fleet).expect(0)
    before = path_of(fleet).read_bytes()
    new = repository.push("moving", "0.24.0")
    kills = 0
    while (code := _killed_at(kills, fleet, registry, hub)) != 0:
        assert code == -signal.SIGKILL
        assert path_of(fleet).read_bytes() == before
        kills += 1
    assert kills >= 5  # three answers of the registry, at least two of the hub
    assert pinned(fleet).images[MOVING].image.digest == new
    assert [entry.name for entry in path_of(fleet).parent.glob("*lock*")] == ["fleet.lock"]


def _killed_at(request: int, fleet: FleetDirectory, *proxies: Proxy) -> int:
    """Update everything, killed at this request; return the exit code."""
    started: list[subprocess.Popen[str]] = []
    requests = itertools.count()

    def on_request() -> None:
        if next(requests) == request:
            started[0].kill()

    for proxy in proxies:
        proxy.on_request = on_request
    started.append(fleet.start("sparkfleet", "lock", "inventories/lab.py", "--update", "*"))
    started[0].communicate(timeout=60)
    return started[0].returncode


def paragraph(text: str, place: str) -> str:
    """Return the paragraph about one location."""
    blocks = text.replace("\ninventories/", "\n\ninventories/").split("\n\n")
    (found,) = (block for block in blocks if place in block)
    return found


def _branch(lab: Lab, repo: str, old: str, new: str) -> None:
    """Move the branch ``main`` of a repository of the hub."""
    Docker().run("exec", lab.container("hub"), "sed", "-i", f"s/{old}/{new}/", f"/srv/hub/{repo}/meta.json")
