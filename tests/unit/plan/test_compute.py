"""The plan of one Spark: every declared field, every drift, nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.generation import Gate, GateResult
from sparkfleet.desired_state import Host, Paths, WeightFile, Weights
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import Action, ChangeKind, HostState, Step
from sparkfleet.plan.operations import CreateService, FetchWeights, PullImage
from sparkfleet.runtimes import Container, Mount
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import (
    CONVERGED,
    HOST,
    NANO,
    NANO_WEIGHTS,
    NGC,
    STOCK,
    notes,
    only_entry,
    rollout,
    rows,
    with_service,
)


def test_a_converged_spark_has_an_empty_plan() -> None:
    plan = host_plan(HOST, fake_spark.converged(HOST))
    assert plan.change_sets == ()
    assert plan.state is HostState.UNCHANGED


def test_an_idle_spark_without_declared_services_is_not_touched() -> None:
    idle = Host("spark-09")
    assert host_plan(idle, fake_spark.fresh(idle)).change_sets == ()


def test_a_fresh_spark_gets_programs_directories_image_weights_and_the_service() -> None:
    plan = host_plan(HOST, fake_spark.fresh(HOST))
    host_entry, service_entry = plan.change_sets
    assert host_entry.kind is ChangeKind.PREPARE
    assert {c.name for c in host_entry.fields()} == {"programs", "valve", "unit", "directory"}
    assert service_entry.kind is ChangeKind.CREATE
    assert rollout(service_entry).replaces == ()
    assert [type(one) for one in service_entry.operations] == [PullImage, FetchWeights, CreateService]
    assert rollout(service_entry).expect == (("nano", ""),)
    assert {c.action for c in service_entry.fields()} == {Action.ADD}


LIMITATION = "Tool calls were not tried."


def test_a_plan_shows_the_limitations_of_what_it_is_about_to_serve() -> None:
    limited = with_service(limitations=(LIMITATION,))
    created = host_plan(limited, fake_spark.fresh(limited)).change_sets[-1]
    assert [note.text for note in notes(created, "limitation")] == [LIMITATION]
    changed = with_service(limitations=(LIMITATION,), port=8001)
    entry = only_entry(changed, fake_spark.converged(HOST))
    assert [note.text for note in notes(entry, "limitation")] == [LIMITATION]


def test_limitations_of_a_service_that_runs_as_declared_change_nothing() -> None:
    limited = with_service(limitations=(LIMITATION,))
    assert host_plan(limited, fake_spark.converged(HOST)).change_sets == ()


def flags(**changed: object) -> dict[str, object]:
    merged = {**dict(NANO.flags), **{key.replace("_", "-"): value for key, value in changed.items()}}
    return {"flags": tuple((key, value) for key, value in merged.items() if value is not None)}


FIELDS = {
    "a flag's value": (flags(max_model_len=131072), [("flag", "--max-model-len", "262144", "131072")]),
    "a new flag": (flags(max_num_seqs=4), [("flag", "--max-num-seqs", "", "4")]),
    "a flag taken away": (flags(kv_cache_dtype=None), [("flag", "--kv-cache-dtype", "fp8", "")]),
    "a switch taken away": (flags(trust_remote_code=None), [("flag", "--trust-remote-code", "true", "")]),
    "a key inside JSON": (
        flags(speculative_config={"method": "mtp", "num_speculative_tokens": 2}),
        [("flag", "--speculative-config", "num_speculative_tokens=3", "num_speculative_tokens=2")],
    ),
    "a variable": (
        {"env": (("VLLM_LOGGING_LEVEL", "DEBUG"),)},
        [("env", "VLLM_LOGGING_LEVEL", "INFO", "DEBUG")],
    ),
    "a variable taken away": ({"env": ()}, [("env", "VLLM_LOGGING_LEVEL", "INFO", "")]),
    "a new variable": (
        {"env": (*NANO.env, ("OMP_NUM_THREADS", "4"))},
        [("env", "OMP_NUM_THREADS", "", "4")],
    ),
    "a variable that is a secret by its name": (
        {"env": (*NANO.env, ("VLLM_API_KEY", "canary"))},
        [("env", "VLLM_API_KEY", "", "(hidden)")],
    ),
    "the port": ({"port": 8001}, [("port", "", "8000", "8001")]),
    "the served name": ({"served_name": "other"}, [("served name", "", "nano", "other")]),
    "a mount": (
        {"container": Container(mounts=(Mount("~/plugins", "/plugins", read_only=True),))},
        [("mount", "/plugins", "", "/home/nvidia/plugins:/plugins:ro")],
    ),
    "host networking": (
        {"container": Container(network="bridge")},
        [("container", "network", "host", "bridge"), ("publish", "8000/tcp", "", "8000")],
    ),
    "the ipc mode and its shared memory": (
        {"container": Container(ipc="private", shm_size="16g")},
        [("container", "ipc", "host", "private"), ("container", "shm", "", str(16 << 30))],
    ),
    "the memory limit": (
        {"container": Container(memory="100g")},
        [("container", "memory limit", "", str(100 << 30))],
    ),
    "the user": ({"container": Container(user="1000:1000")}, [("container", "user", "", "1000:1000")]),
    "no GPUs": ({"container": Container(gpus="none")}, [("container", "gpus", "all", "")]),
    "a device": (
        {"container": Container(devices=("/dev/infiniband",))},
        [("device", "/dev/infiniband", "", "/dev/infiniband")],
    ),
    "a capability": (
        {"container": Container(cap_add=("IPC_LOCK",))},
        [("capability", "IPC_LOCK", "", "yes")],
    ),
    "an ulimit": (
        {"container": Container(ulimits={"memlock": -1, "stack": 1})},
        [("ulimit", "memlock", "", "-1"), ("ulimit", "stack", "", "1")],
    ),
}


@pytest.mark.parametrize("changed, expected", FIELDS.values(), ids=FIELDS)
def test_each_field_is_set_again_changed_and_unset(
    changed: dict[str, object], expected: list[tuple[str, str, str, str]]
) -> None:
    before, after = HOST, with_service(**changed)
    present = fake_spark.converged(before)
    assert host_plan(before, present).change_sets == ()  # set, and again
    entry = only_entry(after, present)  # change
    assert rows(entry) == expected
    assert entry.kind is ChangeKind.RECREATE
    assert rollout(entry).replaces == ("nano",)
    changed_there = fake_spark.converged(after)
    assert host_plan(after, changed_there).change_sets == ()
    back = only_entry(before, changed_there)  # unset
    assert sorted((f, k, n, o) for f, k, o, n in rows(back)) == sorted(expected)


MEANS_THE_SAME = {
    "other order": tuple(reversed(NANO.flags)),
    "a default declared": (*NANO.flags, ("gpu-memory-utilization", 0.9), ("enforce-eager", False)),
    "JSON in another order": (
        *NANO.flags[:-1],
        ("speculative-config", {"num_speculative_tokens": 3, "method": "mtp"}),
    ),
    "JSON as text with spaces": (
        *NANO.flags[:-1],
        ("speculative-config", '{ "method" : "mtp", "num_speculative_tokens": 3 }'),
    ),
    "underscores": tuple((key.replace("-", "_"), value) for key, value in NANO.flags),
    "numbers with a suffix": (("max-model-len", "256K"), *NANO.flags[1:]),
}


@pytest.mark.parametrize("same", MEANS_THE_SAME.values(), ids=MEANS_THE_SAME)
def test_another_spelling_of_the_same_flags_is_no_change(same: tuple[tuple[str, object], ...]) -> None:
    assert host_plan(with_service(flags=same), fake_spark.converged(HOST)).change_sets == ()
    assert host_plan(HOST, fake_spark.converged(with_service(flags=same))).change_sets == ()


def test_another_image_shows_tag_and_digest_and_is_pulled_before_the_stop() -> None:
    present = fake_spark.converged(HOST)
    after = with_service(
        image=replace(NGC, tag="26.05-py3", digest="sha256:" + "3" * 64, engine_version="0.20.2")
    )
    present = replace(present, images={**present.images, after.services[0].image_names[0]: None})
    host_entry, entry = host_plan(after, present).change_sets
    assert rows(host_entry) == [("directory", "~/vllm-compile-cache/333333333333", "", "0755 nvidia:nvidia")]
    image = next(c for c in entry.fields() if c.name == "image")
    assert (image.old, image.new) == ("nvcr.io/nvidia/vllm:26.04-py3", "nvcr.io/nvidia/vllm:26.05-py3")
    assert image.note == "sha256:111111111111 → sha256:333333333333"
    assert [type(one) for one in entry.of_step(Step.IMAGE)] == [PullImage]


def test_what_images_set_by_themselves_is_no_difference_between_two_that_are_present() -> None:
    other = replace(STOCK, tag="v0.25.0", digest="sha256:" + "3" * 64)
    present = fake_spark.converged(with_service(image=STOCK))
    seen = replace(fake_spark.image_seen(other), entrypoint=("/other.sh",), working_dir="/other")
    present = replace(present, images={**present.images, other.pull_ref: seen})
    entry = host_plan(with_service(image=other), present).change_sets[-1]
    assert [(c.name, c.key) for c in entry.fields() if c.name != "mount"] == [("image", "")]


def test_an_image_whose_entrypoint_is_vllm_serve_gets_no_second_vllm_serve() -> None:
    ngc = fake_spark.generation_of(HOST, NANO)
    stock = fake_spark.generation_of(HOST, replace(NANO, image=STOCK))
    assert ngc.definition[ngc.definition.index(NGC.full_ref) + 1 :][:3] == ("vllm", "serve", "nvidia/Nano")
    assert stock.definition[stock.definition.index(STOCK.full_ref) + 1 :][:1] == ("nvidia/Nano",)


def test_another_commit_is_another_model_and_its_files_are_fetched() -> None:
    after = with_service(weights=replace(NANO_WEIGHTS, revision="b" * 40))
    present = fake_spark.converged(HOST)
    present = replace(present, weights={**present.weights, "nvidia/Nano@" + "b" * 40: {}})
    entry = only_entry(after, present)
    model = next(c for c in entry.fields() if c.name == "model")
    assert (model.old, model.new, model.note) == ("nvidia/Nano", "nvidia/Nano", "aaaaaaa → bbbbbbb")
    (weights,) = (c for one in entry.of_step(Step.WEIGHTS) for c in one.fields())
    assert weights.note.startswith("18.0 GiB to download, ")


def test_another_gate_is_kept_without_touching_the_engine() -> None:
    after = with_service(gate=Gate(prompt="2+2?", expect="4", timeout_s=60))
    entry = only_entry(after, fake_spark.converged(HOST))
    assert entry.kind is ChangeKind.UPDATE
    assert [(c.name, c.key) for c in entry.fields()] == [
        ("gate", "prompt"),
        ("gate", "expect"),
        ("gate", "timeout"),
    ]


def test_a_new_container_does_not_hide_what_else_of_the_service_changes() -> None:
    host = with_service(port=8001, gate=replace(NANO.gate, timeout_s=99))
    unit = replace(
        CONVERGED.units["sparkfleet-nano.service"], enabled="disabled", drop_ins={"/etc/x.conf": ""}
    )
    entry = only_entry(host, replace(CONVERGED, units={**CONVERGED.units, "sparkfleet-nano.service": unit}))
    assert entry.kind is ChangeKind.RECREATE
    assert set(rows(entry)) == {
        ("port", "", "8000", "8001"),
        ("gate", "timeout", "1800", "99"),
        ("unit", "sparkfleet-nano.service", "disabled", "enabled"),
        ("drop-in", "/etc/x.conf", "", ""),
    }


def test_another_name_replaces_the_service_that_is_no_longer_declared() -> None:
    after = with_service(name="nano-2", served_name="nano-2")
    entry = only_entry(after, fake_spark.converged(HOST))
    assert entry.title == "nano → nano-2"
    assert rollout(entry).replaces == ("nano",)
    assert entry.kind is ChangeKind.RECREATE
    assert ("name", "", "nano", "nano-2") in rows(entry)
    assert dict(rollout(entry).expect).keys() == {"nano-2", "nano"}


def test_an_undeclared_service_of_ours_is_removed() -> None:
    entry = only_entry(Host("spark-01"), fake_spark.converged(HOST))
    assert entry.kind is ChangeKind.REMOVE
    assert rows(entry) == [
        ("container", "", "nano", ""),
        ("unit", "", "sparkfleet-nano.service", ""),
    ]


def test_with_two_services_a_change_of_one_leaves_the_other_alone() -> None:
    other = replace(NANO, name="other", port=8001, served_name="other")
    both = replace(HOST, services=(NANO, other))
    after = replace(both, services=(NANO, replace(other, env=())))
    entry = only_entry(after, fake_spark.converged(both))
    assert entry.subject == "other"


def test_a_renamed_service_is_distinguished_from_a_removed_one_by_its_port() -> None:
    before = replace(NANO, name="zeta", served_name="nano")
    other = replace(NANO, name="other", port=8001, served_name="other")
    entry = only_entry(HOST, fake_spark.converged(replace(HOST, services=(other, before))))
    assert entry.title == "other + zeta → nano"
    assert rows(entry) == [
        ("name", "", "zeta", "nano"),
        ("container", "", "other", ""),
        ("unit", "", "sparkfleet-other.service", ""),
    ]


def test_a_service_that_goes_with_the_change_of_another_is_listed() -> None:
    other = replace(NANO, name="other", port=8001, served_name="other")
    entry = only_entry(with_service(env=()), fake_spark.converged(replace(HOST, services=(NANO, other))))
    assert rollout(entry).replaces == ("nano", "other")
    assert rows(entry) == [
        ("env", "VLLM_LOGGING_LEVEL", "INFO", ""),
        ("container", "", "other", ""),
        ("unit", "", "sparkfleet-other.service", ""),
    ]


def test_the_probe_is_asked_for_all_that_a_plan_needs() -> None:
    request = probe_request(replace(HOST, paths=Paths("/data/models", "/data/cache")))
    assert request.services == ("nano",)
    assert request.images == (NGC.pull_ref,)
    assert request.weights == (("nvidia/Nano", "a" * 40),)
    assert "/data/models" in request.paths
    assert "/data/cache/111111111111" in request.paths


def test_the_time_without_service_is_what_the_last_start_took() -> None:
    measured = {"nano": replace(CONVERGED.generations["nano"], gate_result=GateResult(360.4, 12.0))}
    entry = only_entry(with_service(port=8001), replace(CONVERGED, generations=measured))
    assert entry.downtime == 372


def test_a_drafter_is_fetched_beside_its_model() -> None:
    drafter = Weights(
        "z-lab/Drafter", "d" * 40, (WeightFile("model.safetensors", 1 << 30, "d" * 64, "d" * 64),)
    )
    after = with_service(drafters=(drafter,))
    present = replace(CONVERGED, weights={**CONVERGED.weights, "z-lab/Drafter@" + "d" * 40: {}})
    assert ("z-lab/Drafter", "d" * 40) in probe_request(after).weights
    (fetch,) = only_entry(after, present).of_step(Step.WEIGHTS)
    assert isinstance(fetch, FetchWeights)
    assert fetch.repository == "z-lab/Drafter"


def test_a_change_says_whether_the_engine_will_fit_and_no_change_says_nothing() -> None:
    tight = with_service(flags=(("gpu-memory-utilization", 0.16), ("max-model-len", 262144)))
    (note,) = notes(only_entry(tight, CONVERGED), "memory")
    assert note.text.startswith("18.0 weights + ")
    assert note.text.endswith("GiB: does not fit")
    assert host_plan(HOST, CONVERGED).change_sets == ()


def test_warnings_of_the_rules_stand_beside_the_change_that_they_are_about() -> None:
    warned = notes(only_entry(with_service(port=8001), CONVERGED), "warning")
    assert any("MEM-02" in c.text for c in warned)


def test_after_a_start_the_estimate_is_what_the_engine_reported() -> None:
    log = ("Model loading took 17.25 GiB memory and 90 seconds", "Available KV cache memory: 81.50 GiB")
    record = replace(CONVERGED.generations["nano"], gate_result=GateResult(memory_log=log))
    after = with_service(port=8001)
    entry = only_entry(after, replace(CONVERGED, generations={"nano": record}))
    (note,) = notes(entry, "memory")
    assert note.text.startswith("17.2 weights + ")
    other_model = replace(after.services[0], weights=replace(NANO_WEIGHTS, revision="b" * 40))
    entry = only_entry(
        replace(after, services=(other_model,)), replace(CONVERGED, generations={"nano": record})
    )
    (note,) = notes(entry, "memory")
    assert note.text.startswith("18.0 weights + ")
