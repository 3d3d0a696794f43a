"""What a service is after recipe, group data and host file: folded, named, on a port, within the memory."""

from collections.abc import Callable
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.contract.generation import Task
from tests.unit.config.fleet_files import NANO, SMALL, FleetFiles, image_of


def test_the_host_file_wins_over_group_data_and_group_data_over_the_recipe(
    fleet: Callable[..., FleetFiles],
) -> None:
    service = fleet(
        {
            "group_data/all.py": "sparkfleet = {'flags': {'max-model-len': 2048, 'max-num-seqs': 2}}",
            "spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{max-model-len: 1024}}}}\n",
        }
    ).service()
    flags = dict(service.flags)
    assert (flags["max-model-len"], flags["max-num-seqs"]) == (1024, 2)
    assert flags["gpu-memory-utilization"] == 0.85


def test_the_fleets_own_group_data_wins_over_all(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "group_data/all.py": "sparkfleet = {'reserve_gib': 5, 'env': {'A': 'all', 'B': 'all'}}",
            "group_data/lab.py": "sparkfleet = {'env': {'B': 'lab'}}",
            "group_data/other.py": "sparkfleet = {'reserve_gib': 99}",
            "spark-01.yaml": f"serve: {SMALL}\n",
        }
    )
    (host,) = files.load().hosts
    assert host.reserve_gib == 5
    assert dict(host.services[0].env) == {"A": "all", "B": "lab"}


def test_origin_says_who_set_each_value(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "group_data/all.py": "x = 1\nsparkfleet = {\n  'flags': {\n    'max-num-seqs': 2}}",
            "spark-01.yaml": f"serve:\n  recipe: {SMALL}\n  flags:\n    max-model-len: 1024\n",
        }
    )
    origin = dict(files.service().origin)
    assert origin["flags.max-model-len"] == "inventories/lab/spark-01.yaml:4"
    assert origin["flags.max-num-seqs"] == "group_data/all.py:4"
    assert origin["flags.tool-call-parser"].startswith(f"catalog/{SMALL}.yaml:")


def test_null_takes_a_flag_and_a_variable_away(fleet: Callable[..., FleetFiles]) -> None:
    text = f"serve: {{recipe: {NANO}, flags: {{reasoning-parser: null}}, env: {{A: null}}}}\n"
    files = fleet({"group_data/all.py": "sparkfleet = {'env': {'A': '1'}}", "spark-01.yaml": text})
    service = files.service()
    assert "reasoning-parser" not in dict(service.flags)
    assert "reasoning-parser" not in [name.removeprefix("flags.") for name, _ in service.origin]
    assert service.env == ()


def test_a_null_that_takes_nothing_away_is_a_warning_with_the_nearest_flag(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet({"spark-01.yaml": f"serve: {{recipe: {NANO}, flags: {{reasoning-parse: null}}}}\n"})
    (warning,) = files.load().warnings
    assert warning.startswith("inventories/lab/spark-01.yaml:1: 'reasoning-parse: null' has no effect")
    assert "did you mean 'reasoning-parser'" in warning


def test_a_flag_has_one_name_however_it_is_spelt(fleet: Callable[..., FleetFiles]) -> None:
    service = fleet(
        {"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{--max_model_len: 1024}}}}\n"}
    ).service()
    assert dict(service.flags)["max-model-len"] == 1024
    assert len(service.flags) == len({name for name, _ in service.flags})


def test_a_negative_flag_undoes_what_the_recipe_says(fleet: Callable[..., FleetFiles]) -> None:
    service = fleet(
        {"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{no-enable-auto-tool-choice: true}}}}\n"}
    ).service()
    assert dict(service.flags)["enable-auto-tool-choice"] is False


def test_variables_become_text_and_booleans_what_programs_read(fleet: Callable[..., FleetFiles]) -> None:
    service = fleet(
        {"spark-01.yaml": f"serve: {{recipe: {SMALL}, env: {{A: 1, B: 0.5, C: true, D: false, E: on}}}}\n"}
    ).service()
    assert dict(service.env) == {"A": "1", "B": "0.5", "C": "1", "D": "0", "E": "on"}


def test_another_model_does_not_keep_the_recipes_revision(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "recipes/own.yaml": f"recipe: own\nextends: {SMALL}\nrevision: {'a' * 40}\n",
            "spark-01.yaml": "serve: {recipe: own, model: someone/else}\n",
            "spark-02.yaml": "serve: own\n",
        }
    )
    first, second = files.load().hosts
    assert (first.services[0].weights.repo, first.services[0].weights.revision) == ("someone/else", "")
    assert second.services[0].weights.revision == "a" * 40


def test_the_name_of_a_service_is_its_served_name_unless_that_is_given(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet(
        {
            "spark-01.yaml": f"serve: {{recipe: {NANO}}}\n",
            "spark-02.yaml": f"serve: {{recipe: {NANO}, name: nano}}\n",
            "spark-03.yaml": f"serve: {{recipe: {NANO}, name: nano, served_name: My Model}}\n",
        }
    )
    served = [host.services[0].served_name for host in files.load().hosts]
    assert served == ["nemotron-3-nano", "nano", "My Model"]


def test_a_service_without_a_recipe_says_model_and_image(fleet: Callable[..., FleetFiles]) -> None:
    service = fleet(
        {"spark-01.yaml": "serve: {model: Org/Some_Model.v2, image: 'vllm/vllm-openai:v0.24.0'}\n"}
    ).service()
    assert service.name == "some-model.v2"
    assert image_of(service).repository == "docker.io/vllm/vllm-openai"
    assert service.recipe == ""


def test_the_gate_takes_times_as_people_write_them(fleet: Callable[..., FleetFiles]) -> None:
    for written, seconds in (("30m", 1800), ("1h30m", 5400), ("90s", 90), ("45", 45), (600, 600)):
        value = f"'{written}'" if isinstance(written, str) else written
        text = f"serve: {{recipe: {SMALL}, gate: {{timeout: {value}}}}}\n"
        assert fleet({"spark-01.yaml": text}).service().gate.timeout_s == seconds


def test_an_own_question_without_an_answer_takes_any_answer(fleet: Callable[..., FleetFiles]) -> None:
    gate = (
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, gate: {{prompt: Who are you}}}}\n"})
        .service()
        .gate
    )
    assert (gate.prompt, gate.expect) == ("Who are you", "")


def test_speculative_decoding_is_part_of_the_gate(fleet: Callable[..., FleetFiles]) -> None:
    spec = "{method: mtp, num_speculative_tokens: 1}"
    text = f"serve: {{recipe: {SMALL}, flags: {{speculative-config: {spec}}}}}\n"
    service = fleet({"spark-01.yaml": text}).service()
    assert service.gate.speculative
    assert service.drafters == ()


def test_a_drafter_of_another_repository_is_required_too(fleet: Callable[..., FleetFiles]) -> None:
    spec = "{method: dflash, model: z-lab/Drafter, num_speculative_tokens: 5}"
    files = fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{speculative-config: {spec}}}}}\n"})
    assert [drafter.repo for drafter in files.service().drafters] == ["z-lab/Drafter"]
    files.pin()
    (host,) = files.load(need_lock=True).hosts
    (drafter,) = host.services[0].drafters
    assert len(drafter.revision) == 40
    # The engine has no network: without a commit it would ask for a branch that the cache does not know.
    assert dict[str, Any](host.services[0].flags)["speculative-config"]["revision"] == drafter.revision


def test_later_services_get_the_next_free_ports_and_written_ports_stay(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet(
        {
            "spark-01.yaml": f"""
serve:
  - {{recipe: {SMALL}, name: aa, flags: {{gpu-memory-utilization: 0.2}}}}
  - {{recipe: {SMALL}, name: bb, port: 8001, flags: {{gpu-memory-utilization: 0.2}}}}
  - {{recipe: {SMALL}, name: cc, flags: {{gpu-memory-utilization: 0.2}}}}
"""
        }
    )
    (host,) = files.load().hosts
    assert [service.port for service in host.services] == [8000, 8001, 8002]


def test_services_whose_sum_takes_too_much_memory_are_refused(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "spark-01.yaml": f"""
serve:
  - {{recipe: {SMALL}, name: aa, flags: {{gpu-memory-utilization: 0.6}}}}
  - {{recipe: {SMALL}, name: bb, flags: {{gpu-memory-utilization: 0.4}}}}
"""
        }
    )
    diagnostic = files.diagnostic()
    assert diagnostic.message == "the services request 100 % of the Spark's memory: 60 % (aa) + 40 % (bb)"


def test_a_reason_silences_the_memory_rule_on_that_spark(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "spark-01.yaml": f"""
ignore_rules: {{MEM-08: measured}}
serve:
  - {{recipe: {SMALL}, name: aa, flags: {{gpu-memory-utilization: 0.6}}}}
  - {{recipe: {SMALL}, name: bb, flags: {{gpu-memory-utilization: 0.4}}}}
"""
        }
    )
    (host,) = files.load().hosts
    assert host.ignore_rules == (("MEM-08", "measured"),)


def test_exactly_the_most_memory_is_accepted(fleet: Callable[..., FleetFiles]) -> None:
    shares = (0.31, 0.31, 0.3)
    serve = ", ".join(
        f"{{recipe: {SMALL}, name: s{n}, flags: {{gpu-memory-utilization: {share}}}}}"
        for n, share in enumerate(shares)
    )
    assert len(fleet({"spark-01.yaml": f"serve: [{serve}]\n"}).load().hosts[0].services) == 3


def test_the_reserve_of_a_service_wins_over_the_hosts(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "group_data/all.py": "sparkfleet = {'reserve_gib': 3}",
            "spark-01.yaml": f"serve: {SMALL}\n",
            "spark-02.yaml": f"serve: {SMALL}\nreserve_gib: 4\n",
            "spark-03.yaml": f"serve: {{recipe: {SMALL}, reserve_gib: 5}}\nreserve_gib: 4\n",
        }
    )
    assert [host.reserve_gib for host in files.load().hosts] == [3, 4, 5]


def test_container_settings_merge_mounts_by_target_and_ulimits_by_name(
    fleet: Callable[..., FleetFiles],
) -> None:
    group = {
        "container": {
            "mounts": [
                {"source": "/a", "target": "/x"},
                {"source": "/b", "target": "/y"},
            ],
            "ulimits": {"nofile": 1000},
            "shm_size": "8g",
        }
    }
    box_text = "{ulimits: {memlock: -1}, mounts: [{source: /c, target: /x, read_only: true}]}"
    text = f"serve: {{recipe: {SMALL}, container: {box_text}}}\n"
    box = fleet({"group_data/all.py": f"sparkfleet = {group!r}", "spark-01.yaml": text}).service().container
    assert [(mount.source, mount.target, mount.read_only) for mount in box.mounts] == [
        ("/c", "/x", True),
        ("/b", "/y", False),
    ]
    assert dict(box.ulimits) == {"memlock": -1, "nofile": 1000}
    assert box.shm_size == "8g"


@pytest.mark.provokes("tokenizer-missing")
def test_the_tokenizer_of_another_repository_is_refused(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet(
        {"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{tokenizer: org/other}}}}\n"}
    ).diagnostic()
    assert "org/other" in diagnostic.message


@pytest.mark.provokes("service-name-reserved")
@pytest.mark.parametrize("name", ["recover", "rollout-1a2b3c4d", "swap-1", "stage-x", "a.next", "a.old", "a"])
def test_names_that_a_spark_needs_for_itself_are_refused(fleet: Callable[..., FleetFiles], name: str) -> None:
    diagnostic = fleet({"spark-01.yaml": f"serve:\n  recipe: {SMALL}\n  name: {name}\n"}).diagnostic()
    assert diagnostic.location == "inventories/lab/spark-01.yaml:3"
    assert diagnostic.message == f"the service name '{name}' is reserved"


@pytest.mark.parametrize("written", ["0m", "'0'", "0s"])
def test_a_gate_without_any_time_is_refused(fleet: Callable[..., FleetFiles], written: str) -> None:
    text = f"serve:\n  recipe: {SMALL}\n  gate: {{timeout: {written}}}\n"
    diagnostic = fleet({"spark-01.yaml": text}).diagnostic()
    assert diagnostic.location == "inventories/lab/spark-01.yaml:3"
    assert diagnostic.expected == "a duration: 30m, 1h30m, 1800s or a number of seconds"


def test_the_gate_of_an_embedding_model_expects_a_vector(fleet: Callable[..., FleetFiles]) -> None:
    group = "sparkfleet = {'gate': {'expect': 'yes'}}"  # of the services that chat
    text = f"serve: {{recipe: {SMALL}, gate: {{task: embedding, expect_dimensions: 64}}}}\n"
    gate = fleet({"group_data/all.py": group, "spark-01.yaml": text}).service().gate
    assert (gate.task, gate.expect_dimensions, gate.expect) == (Task.EMBEDDING, 64, "")


@pytest.mark.provokes("gate-task-unsupported")
@pytest.mark.parametrize("task", ["rerank", "score", "transcription"])
def test_a_task_that_the_gate_cannot_request_is_refused(fleet: Callable[..., FleetFiles], task: str) -> None:
    text = f"serve:\n  recipe: {SMALL}\n  gate: {{task: {task}}}\n"
    diagnostic = fleet({"spark-01.yaml": text}).diagnostic()
    assert diagnostic.location == "inventories/lab/spark-01.yaml:3"
    assert diagnostic.message == (
        f"'gate.task' is '{task}', and the readiness gate has no such request to vLLM"
    )
    assert diagnostic.expected == "one of: chat, completion, embedding"
    assert diagnostic.code == "gate-task-unsupported"


@pytest.mark.provokes("gate-expectation-mismatch")
@pytest.mark.parametrize(
    ("gate", "key"),
    [
        ("{task: embedding, expect: yes it is}", "expect"),
        ("{task: completion, expect_dimensions: 64}", "expect_dimensions"),
        ("{expect_dimensions: 64}", "expect_dimensions"),
    ],
)
def test_an_expectation_of_another_task_is_refused(
    fleet: Callable[..., FleetFiles], gate: str, key: str
) -> None:
    diagnostic = fleet({"spark-01.yaml": f"serve:\n  recipe: {SMALL}\n  gate: {gate}\n"}).diagnostic()
    assert diagnostic.location == "inventories/lab/spark-01.yaml:3"
    assert diagnostic.message.startswith(f"'gate.{key}' does not apply to")
    assert diagnostic.code == "gate-expectation-mismatch"


@pytest.mark.provokes("flag-duplicate")
def test_a_value_that_is_the_same_in_both_spellings_is_reported(fleet: Callable[..., FleetFiles]) -> None:
    text = f"serve:\n  recipe: {SMALL}\n  flags:\n    no-async-scheduling: true\n    async-scheduling: true\n"
    diagnostic = fleet({"spark-01.yaml": text}).diagnostic()
    assert diagnostic.message == "flag 'async-scheduling' is a duplicate of 'no-async-scheduling'"


def test_a_service_names_its_engine_else_it_is_that_of_the_recipe(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, engine: vllm}}\n"})
    assert files.service().engine == "vllm"


def test_an_unknown_engine_is_an_error_with_the_nearest_one(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet({"spark-01.yaml": f"serve:\n  recipe: {SMALL}\n  engine: vlm\n"}).diagnostic()
    assert diagnostic.location.endswith("spark-01.yaml:3")
    assert diagnostic.message == "unknown engine 'vlm'"
    assert diagnostic.hint == "did you mean 'vllm'?"


def test_an_error_in_a_value_of_a_shipped_recipe_is_at_the_line_that_chose_the_recipe(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet({"spark-01.yaml": f"ssh: {{hostname: a}}\nserve: {{recipe: {SMALL}, engine: llamacpp}}\n"})
    found = [one for one in files.diagnostics() if "does not name the file" in one.message]
    assert [one.location for one in found] == ["inventories/lab/spark-01.yaml:2"]
    assert f"(set in catalog/{SMALL}.yaml:" in found[0].message


def test_what_is_not_pinned_is_named_at_the_line_of_the_service(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    files.pin()
    fleet({"spark-02.yaml": f"ssh: {{hostname: b}}\nserve: {NANO}\n"})
    assert files.diagnostic(need_lock=True).location == "inventories/lab/spark-02.yaml:2"


@pytest.mark.parametrize(
    ("variable", "is_refused"),
    [
        ("OPENAI_API_KEY: sk-1", True),
        ("AWS_SECRET_ACCESS_KEY: x", True),
        ("OPENAI_API_KEY: EMPTY", False),
        ("TOKENIZERS_PARALLELISM: false", False),
        ("https_proxy: http://me:pass@proxy:3128", True),
        ("https_proxy: http://proxy:3128", False),
    ],
)
def test_a_variable_that_is_named_like_a_secret_is_refused(
    fleet: Callable[..., FleetFiles], variable: str, is_refused: bool
) -> None:
    files = fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, env: {{{variable}}}}}\n"})
    if is_refused:
        assert files.diagnostic().code == "secret-exposed"
    else:
        assert files.load().hosts


def test_a_service_without_a_memory_share_counts_with_the_engines_default(
    fleet: Callable[..., FleetFiles],
) -> None:
    services = (
        f"serve:\n- {{recipe: {SMALL}, name: one, flags: {{gpu-memory-utilization: null}}}}\n"
        f"- {{recipe: {SMALL}, name: two, flags: {{gpu-memory-utilization: 0.3}}}}\n"
    )
    found = fleet({"spark-01.yaml": services}).diagnostic()
    assert found.code == "memory-overcommitted"
    assert "92 % (one)" in found.message


HUB_NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"


def test_a_served_name_may_stand_for_the_model_and_for_the_name_without_it(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet(
        {
            "group_data/all.py": 'sparkfleet = {"served_name": ["{name}", "{model}"]}\n',
            "spark-01.yaml": f"serve: {{recipe: {NANO}}}\n",
            "spark-02.yaml": f"serve: {{recipe: {NANO}, name: nano}}\n",
            "spark-03.yaml": f"serve: {{recipe: {NANO}, served_name: [a, '{{name}}', 'b-{{name}}']}}\n",
            "spark-04.yaml": f"serve: {{recipe: {SMALL}, served_name: '{{model}}'}}\n",
        }
    )
    services = [host.services[0] for host in files.load().hosts]
    assert [(one.served_name, *one.served_aliases) for one in services] == [
        ("nemotron-3-nano", HUB_NANO),
        ("nano", HUB_NANO),
        ("a", "nemotron-3-nano", "b-nemotron-3-nano"),
        ("openai/gpt-oss-20b",),
    ]


def test_the_names_of_a_fleet_are_the_first_one_for_an_engine_that_takes_one(
    fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engines.get("vllm")), "takes_aliases", False)
    group = 'sparkfleet = {"served_name": ["{name}", "{model}"]}\n'
    files = fleet({"group_data/all.py": group, "spark-01.yaml": f"serve: {SMALL}\n"})
    assert (files.service().served_name, files.service().served_aliases) == (SMALL, ())
    own = fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, served_name: [a, b]}}\n"})
    assert own.diagnostic().message == "'served_name' has 2 names, and vLLM serves a model under one"


def test_other_braces_in_a_served_name_are_an_error(fleet: Callable[..., FleetFiles]) -> None:
    text = f"serve: {{recipe: {SMALL}, served_name: ['{{modle}}']}}\n"
    diagnostic = fleet({"spark-01.yaml": text}).diagnostic()
    assert (diagnostic.code, "{model}" in diagnostic.expected) == ("yaml-invalid-value", True)


def test_the_fleets_image_replaces_a_recipes_image_of_the_same_repository(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet(
        {
            "group_data/all.py": 'sparkfleet = {"image": {"vllm": "nvcr.io/nvidia/vllm:26.05-py3"}}\n',
            "recipes/fork.yaml": f"recipe: fork\nextends: {SMALL}\nimage: someone/fork:v1\n",
            "spark-01.yaml": f"serve: {SMALL}\n",
            "spark-02.yaml": f"serve: {{recipe: {SMALL}, image: 'nvcr.io/nvidia/vllm:26.03-py3'}}\n",
            "spark-03.yaml": "serve: fork\n",
            "spark-04.yaml": "serve: {model: org/own}\n",
            "spark-05.yaml": "serve: mistral-nemo-instruct-2407-gguf\n",
        }
    )
    loaded = files.load()
    assert [image_of(host.services[0]).display for host in loaded.hosts] == [
        "nvcr.io/nvidia/vllm:26.05-py3",
        "nvcr.io/nvidia/vllm:26.03-py3",
        "someone/fork:v1",
        "nvcr.io/nvidia/vllm:26.05-py3",
        "ghcr.io/ggml-org/llama.cpp:server-cuda13-v0.5.0",
    ]
    assert dict(loaded.hosts[0].services[0].origin)["image"] == "group_data/all.py:1"
    assert loaded.warnings == ()


def test_of_several_images_each_replaces_those_of_its_repository_and_the_fleets_file_wins(
    fleet: Callable[..., FleetFiles],
) -> None:
    images = ["vllm/vllm-openai:v0.31.0", "nvcr.io/nvidia/vllm:26.05-py3"]
    files = fleet(
        {
            "group_data/all.py": 'sparkfleet = {"image": {"vllm": "nvcr.io/nvidia/vllm:26.02-py3"}}\n',
            "group_data/lab.py": f"sparkfleet = {{\n 'image': {{'vllm': {images!r}}}}}\n",
            "recipes/other.yaml": f"recipe: other\nextends: {SMALL}\nimage: vllm/vllm-openai:v0.28.0\n",
            "spark-01.yaml": f"serve: {SMALL}\n",
            "spark-02.yaml": "serve: other\n",
            "spark-03.yaml": "serve: {model: org/own}\n",
        }
    )
    found = [image_of(host.services[0]).display for host in files.load().hosts]
    assert found == [images[1], images[0], images[0]]


def test_an_image_of_the_fleet_that_no_service_uses_is_a_warning_with_its_line(
    fleet: Callable[..., FleetFiles],
) -> None:
    group = "sparkfleet = {\n  'image': {\n    'vllm': 'vllm/vllm-openai:v0.31.0'}}\n"
    (warning,) = fleet({"group_data/all.py": group, "spark-01.yaml": f"serve: {SMALL}\n"}).load().warnings
    assert warning.startswith("group_data/all.py:3: the image vllm/vllm-openai:v0.31.0 has no effect: ")


@pytest.mark.parametrize(
    ("image", "found", "hint"),
    [
        ("'vllm/vllm-openai:v0.31.0'", "'image' is ", "`image: {vllm: vllm/vllm-openai:v0.31.0}`"),
        ("{'vlm': 'vllm/vllm-openai:v0.31.0'}", "unknown engine 'vlm' in 'image'", "did you mean 'vllm'?"),
        ("{'vllm': 'no image'}", "'no image' is not a valid image name", "correct the image name"),
    ],
)
def test_a_wrong_image_of_the_fleet_is_reported_at_its_line(
    fleet: Callable[..., FleetFiles], image: str, found: str, hint: str
) -> None:
    group = f"sparkfleet = {{\n  'image': {image}}}\n"
    diagnostics = fleet({"group_data/all.py": group, "spark-01.yaml": f"serve: {SMALL}\n"}).diagnostics()
    (diagnostic,) = diagnostics
    assert diagnostic.location == "group_data/all.py:2"
    assert found in diagnostic.message
    assert hint in diagnostic.hint
