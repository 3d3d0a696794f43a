"""From files to a Fleet: precedence, completion, cross checks, pins."""

import json
from pathlib import Path

import pytest

from sparkfleet.errors import SparkfleetError
from sparkfleet.inventory import load, load_fleet
from sparkfleet.spec.resolved import host_from_json, to_json
from tests.unit.spec.fleet_files import NANO, SMALL


def test_the_shortest_host_file_is_a_whole_service(fleet):
    service = fleet({"spark-01.yaml": f"serve: {SMALL}\n"}).service()
    assert service.name == SMALL
    assert service.port == 8000
    assert service.served_name == SMALL
    assert service.image.repository == "nvcr.io/nvidia/vllm"
    assert service.weights.repo == "openai/gpt-oss-20b"
    assert dict(service.flags)["max-model-len"] == 131072


@pytest.mark.parametrize("serve", [SMALL, f"{{recipe: {SMALL}}}", f"[{SMALL}]", f"[{{recipe: {SMALL}}}]"])
def test_serve_may_be_a_name_a_mapping_or_a_list_of_both(fleet, serve):
    assert fleet({"spark-01.yaml": f"serve: {serve}\n"}).service().recipe == SMALL


def test_a_spark_that_serves_nothing_is_idle(fleet):
    (host,) = fleet({"spark-01.yaml": "serve: null\n"}).load().hosts
    assert host.services == ()


def test_the_host_file_wins_over_group_data_and_group_data_over_the_recipe(fleet):
    service = fleet(
        {
            "group_data/all.py": "sparkfleet = {'flags': {'max-model-len': 2048, 'max-num-seqs': 2}}",
            "spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{max-model-len: 1024}}}}\n",
        }
    ).service()
    flags = dict(service.flags)
    assert (flags["max-model-len"], flags["max-num-seqs"]) == (1024, 2)
    assert flags["gpu-memory-utilization"] == 0.85


def test_the_fleets_own_group_data_wins_over_all(fleet):
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


def test_origin_says_who_set_each_value(fleet):
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


def test_null_takes_a_flag_and_a_variable_away(fleet):
    text = f"serve: {{recipe: {NANO}, flags: {{reasoning-parser: null}}, env: {{A: null}}}}\n"
    files = fleet({"group_data/all.py": "sparkfleet = {'env': {'A': '1'}}", "spark-01.yaml": text})
    service = files.service()
    assert "reasoning-parser" not in dict(service.flags)
    assert "reasoning-parser" not in [name.removeprefix("flags.") for name, _ in service.origin]
    assert service.env == ()


def test_a_null_that_takes_nothing_away_is_a_warning_with_the_nearest_flag(fleet):
    files = fleet({"spark-01.yaml": f"serve: {{recipe: {NANO}, flags: {{reasoning-parse: null}}}}\n"})
    (warning,) = files.load().warnings
    assert warning.startswith("inventories/lab/spark-01.yaml:1: 'reasoning-parse: null' takes nothing away")
    assert "did you mean 'reasoning-parser'" in warning


def test_a_flag_has_one_name_however_it_is_spelt(fleet):
    service = fleet(
        {"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{--max_model_len: 1024}}}}\n"}
    ).service()
    assert dict(service.flags)["max-model-len"] == 1024
    assert len(service.flags) == len({name for name, _ in service.flags})


def test_a_negative_flag_undoes_what_the_recipe_says(fleet):
    service = fleet(
        {"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{no-enable-auto-tool-choice: true}}}}\n"}
    ).service()
    assert dict(service.flags)["enable-auto-tool-choice"] is False


def test_variables_become_text_and_booleans_what_programs_read(fleet):
    service = fleet(
        {"spark-01.yaml": f"serve: {{recipe: {SMALL}, env: {{A: 1, B: 0.5, C: true, D: false, E: on}}}}\n"}
    ).service()
    assert dict(service.env) == {"A": "1", "B": "0.5", "C": "1", "D": "0", "E": "on"}


def test_another_model_does_not_keep_the_recipes_revision(fleet):
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


def test_the_name_of_a_service_is_its_served_name_unless_that_is_given(fleet):
    files = fleet(
        {
            "spark-01.yaml": f"serve: {{recipe: {NANO}}}\n",
            "spark-02.yaml": f"serve: {{recipe: {NANO}, name: nano}}\n",
            "spark-03.yaml": f"serve: {{recipe: {NANO}, name: nano, served_name: My Model}}\n",
        }
    )
    served = [host.services[0].served_name for host in files.load().hosts]
    assert served == ["nemotron-3-nano", "nano", "My Model"]


def test_a_service_without_a_recipe_says_model_and_image(fleet):
    service = fleet(
        {"spark-01.yaml": "serve: {model: Org/Some_Model.v2, image: 'vllm/vllm-openai:v0.24.0'}\n"}
    ).service()
    assert service.name == "some-model.v2"
    assert service.image.repository == "docker.io/vllm/vllm-openai"
    assert service.recipe == ""


def test_the_gate_takes_times_as_people_write_them(fleet):
    for written, seconds in (("30m", 1800), ("1h30m", 5400), ("90s", 90), ("45", 45), (600, 600)):
        value = f"'{written}'" if isinstance(written, str) else written
        text = f"serve: {{recipe: {SMALL}, gate: {{timeout: {value}}}}}\n"
        assert fleet({"spark-01.yaml": text}).service().gate.timeout_s == seconds


def test_an_own_question_without_an_answer_takes_any_answer(fleet):
    gate = (
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, gate: {{prompt: Who are you}}}}\n"})
        .service()
        .gate
    )
    assert (gate.prompt, gate.expect) == ("Who are you", "")


def test_speculative_decoding_is_part_of_the_gate(fleet):
    spec = "{method: mtp, num_speculative_tokens: 1}"
    text = f"serve: {{recipe: {SMALL}, flags: {{speculative-config: {spec}}}}}\n"
    service = fleet({"spark-01.yaml": text}).service()
    assert service.gate.speculative
    assert service.drafters == ()


def test_a_drafter_of_another_repository_is_wanted_too(fleet):
    spec = "{method: dflash, model: z-lab/Drafter, num_speculative_tokens: 5}"
    files = fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{speculative-config: {spec}}}}}\n"})
    assert [drafter.repo for drafter in files.service().drafters] == ["z-lab/Drafter"]
    files.pin()
    (host,) = files.load(need_lock=True).hosts
    (drafter,) = host.services[0].drafters
    assert len(drafter.revision) == 40
    # The engine has no network: without a commit it would ask for a branch that the cache does not know.
    assert dict(host.services[0].flags)["speculative-config"]["revision"] == drafter.revision


def test_later_services_get_the_next_free_ports_and_written_ports_stay(fleet):
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


def test_services_that_together_take_too_much_memory_are_refused(fleet):
    files = fleet(
        {
            "spark-01.yaml": f"""
serve:
  - {{recipe: {SMALL}, name: aa, flags: {{gpu-memory-utilization: 0.6}}}}
  - {{recipe: {SMALL}, name: bb, flags: {{gpu-memory-utilization: 0.4}}}}
"""
        }
    )
    problem = files.problem()
    assert problem.found == "the services take 1 of the Spark's memory: 0.6 (aa) + 0.4 (bb) [MEM-08]"


def test_a_reason_silences_the_memory_rule_on_that_spark(fleet):
    files = fleet(
        {
            "spark-01.yaml": f"""
allow: {{MEM-08: measured}}
serve:
  - {{recipe: {SMALL}, name: aa, flags: {{gpu-memory-utilization: 0.6}}}}
  - {{recipe: {SMALL}, name: bb, flags: {{gpu-memory-utilization: 0.4}}}}
"""
        }
    )
    (host,) = files.load().hosts
    assert host.allow == (("MEM-08", "measured"),)


def test_exactly_the_most_memory_is_accepted(fleet):
    shares = (0.31, 0.31, 0.3)
    serve = ", ".join(
        f"{{recipe: {SMALL}, name: s{n}, flags: {{gpu-memory-utilization: {share}}}}}"
        for n, share in enumerate(shares)
    )
    assert len(fleet({"spark-01.yaml": f"serve: [{serve}]\n"}).load().hosts[0].services) == 3


def test_two_files_for_one_machine_are_a_mistake(fleet):
    files = fleet(
        {
            "spark-01.yaml": f"ssh: {{hostname: 10.0.0.1}}\nserve: {SMALL}\n",
            "spark-02.yaml": f"ssh: {{hostname: 10.0.0.1, port: 22}}\nserve: {SMALL}\n",
            "spark-03.yaml": f"ssh: {{hostname: 10.0.0.1, port: 2222}}\nserve: {SMALL}\n",
        }
    )
    assert "spark-02 has the address of spark-01" in files.problem().found


def test_ssh_settings_become_pyinfras(fleet):
    text = "ssh: {hostname: h, port: 22, user: u, key: ~/k, options: {connect_retries: 5}}\n"
    (host,) = fleet({"spark-01.yaml": text}).load().hosts
    assert dict(host.ssh) == {
        "ssh_connect_retries": 5,
        "ssh_hostname": "h",
        "ssh_key": "~/k",
        "ssh_port": 22,
        "ssh_user": "u",
    }


def test_the_reserve_of_a_service_wins_over_the_hosts(fleet):
    files = fleet(
        {
            "group_data/all.py": "sparkfleet = {'reserve_gib': 3}",
            "spark-01.yaml": f"serve: {SMALL}\n",
            "spark-02.yaml": f"serve: {SMALL}\nreserve_gib: 4\n",
            "spark-03.yaml": f"serve: {{recipe: {SMALL}, reserve_gib: 5}}\nreserve_gib: 4\n",
        }
    )
    assert [host.reserve_gib for host in files.load().hosts] == [3, 4, 5]


def test_container_settings_merge_mounts_by_target_and_ulimits_by_name(fleet):
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


@pytest.mark.parametrize("kind", ["env:HF", "file:~/.token", "command:pass show hf"])
def test_the_tokens_source_is_kept_and_no_more(fleet, kind):
    files = fleet(
        {"group_data/all.py": f"sparkfleet = {{'hf_token': {kind!r}}}", "spark-01.yaml": "serve: null\n"}
    )
    assert files.load().hf_token == kind
    assert files.load().hosts[0].hf_token == kind


def test_a_token_in_place_of_its_source_is_refused_and_never_repeated(fleet):
    token = "hf_" + "x1Y2" * 8
    files = fleet(
        {"group_data/all.py": f"sparkfleet = {{'hf_token': '{token}'}}", "spark-01.yaml": "serve: null\n"}
    )
    problem = files.problem()
    assert problem.where == "group_data/all.py:1"
    assert "env:NAME" in problem.expected
    assert token not in str(problem)


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ("import nothing_of_that_name\n", "group_data/all.py:1", "ModuleNotFoundError"),
        ("x = 1\nsparkfleet = {\n", "group_data/all.py:2", "SyntaxError"),
        ("raise SystemExit(3)\n", "group_data/all.py:1", "SystemExit"),
        ("sparkfleet = {\n 'reserve': 3}\n", "group_data/all.py:2", "unknown key 'reserve'"),
        (
            "import pathlib\nsparkfleet = {'models_dir': pathlib.Path('/x')}\n",
            "group_data/all.py:2",
            "plain data",
        ),
        ("sparkfleet = [1]\n", "group_data/all.py:1", "'the file' is a list"),
        ("sparkfleet = dict(first_port=0)\n", "group_data/all.py:1", "'first_port' is the number 0"),
        (
            "sparkfleet = {'registries': {'nvcr.io': {'uri': 'x'}}}\n",
            "group_data/all.py:1",
            "registries.nvcr.io.uri",
        ),
    ],
)
def test_a_mistake_in_group_data_is_told_with_its_line(fleet, text, where, found):
    files = fleet({"group_data/all.py": text, "spark-01.yaml": "serve: null\n"})
    problem = files.problems()[0]
    assert problem.where == where
    assert found in problem.found


def test_what_group_data_prints_does_not_reach_standard_output(fleet, capsys):
    fleet({"group_data/all.py": "print('noise')\n", "spark-01.yaml": "serve: null\n"}).load()
    assert capsys.readouterr().out == ""


def test_group_data_that_is_missed_from_the_current_directory_is_told(fleet, monkeypatch):
    files = fleet({"group_data/all.py": "sparkfleet = {}", "spark-01.yaml": "serve: null\n"})
    monkeypatch.chdir(files.directory)
    with pytest.raises(SparkfleetError, match="pyinfra would not read it either"):
        load_fleet(files.root / "inventories" / "lab.py")


def test_a_file_that_is_no_yaml_by_its_ending_is_not_overlooked(fleet):
    problem = fleet({"spark-01.yaml": "serve: null\n", "spark-02.yml": "serve: null\n"}).problem()
    assert problem.remedy == "mv inventories/lab/spark-02.yml inventories/lab/spark-02.yaml"


def test_an_unknown_fleet_names_the_nearest(fleet):
    fleet({"spark-01.yaml": "serve: null\n"})
    with pytest.raises(SparkfleetError, match=r"did you mean inventories/lab\.py"):
        load_fleet(Path("inventories/lap.py"))


def test_the_directory_is_as_good_as_the_inventory(fleet):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    assert load_fleet(Path("inventories/lab"), need_lock=False) == files.load()
    assert load_fleet(Path("inventories/lab/"), need_lock=False) == files.load()


def test_a_fleet_without_host_files_says_which_to_write(fleet):
    assert fleet({}).problem().remedy == "write inventories/lab/spark-01.yaml"


def test_a_missing_lock_file_is_one_problem_that_names_the_command(fleet):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": f"serve: {SMALL}\n"})
    problem = files.problem(need_lock=True)
    assert problem.where == "inventories/lab/fleet.lock"
    assert "image nvcr.io/nvidia/vllm:26.04-py3" in problem.expected
    assert problem.remedy == "sparkfleet lock inventories/lab.py"


def test_each_thing_that_the_lock_file_lacks_is_told_once(fleet):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    files.pin()
    fleet({"spark-02.yaml": f"serve: {NANO}\n", "spark-03.yaml": f"serve: {NANO}\n"})
    problem = files.problem(need_lock=True)
    assert problem.found == "model nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4 is not pinned"
    assert problem.remedy == "sparkfleet lock inventories/lab.py"


def test_the_lock_file_gives_digest_commit_files_and_figures(fleet):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    lock = files.pin()
    service = files.load(need_lock=True).hosts[0].services[0]
    assert service.image.digest == lock.images["nvcr.io/nvidia/vllm:26.04-py3"].image.digest
    assert service.image.tag == "26.04-py3"
    assert service.image.entrypoint == ("vllm", "serve")
    assert len(service.weights.revision) == 40
    assert [file.path for file in service.weights.files] == ["config.json", "model.safetensors"]
    assert service.weights.size == 5_000_700
    assert service.weights.config == (("hidden_size", 64),)


def test_a_digest_in_the_host_file_needs_no_entry_for_the_image(fleet):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    files.pin()
    digest = "sha256:" + "e" * 64
    fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, image: 'nvcr.io/nvidia/vllm:26.05-py3@{digest}'}}\n"})
    image = files.load(need_lock=True).hosts[0].services[0].image
    assert (image.tag, image.digest, image.entrypoint) == ("26.05-py3", digest, ())


def test_a_commit_is_found_in_the_lock_file_however_short(fleet):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    commit = files.pin().models["openai/gpt-oss-20b"].weights.revision
    for revision in (commit, commit[:7]):
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, revision: '{revision}'}}\n"})
        assert files.load(need_lock=True).hosts[0].services[0].weights.revision == commit


def test_a_broken_lock_file_is_told_with_the_rest(fleet):
    files = fleet({"spark-01.yaml": "serv: x\n", "fleet.lock": "version: 1\n<<<<<<< HEAD\n"})
    found = [problem.where for problem in files.problems(need_lock=True)]
    assert found == ["inventories/lab/fleet.lock:3", "inventories/lab/spark-01.yaml:1"]


def test_a_host_survives_the_way_through_pyinfras_data(fleet):
    files = fleet(
        {
            "spark-01.yaml": f"""
serve:
  recipe: {SMALL}
  flags: {{speculative-config: {{method: dflash, model: z-lab/D}}}}
  container: {{devices: [/dev/x], cap_add: [SYS_NICE], mounts: [{{source: /a, target: /b}}]}}
  env: {{A: b}}
ssh: {{hostname: h}}
allow: {{KV-01: why}}
"""
        }
    )
    files.pin()
    (host,) = files.load(need_lock=True).hosts
    assert host_from_json(to_json(host)) == host
    assert host_from_json(json.loads(json.dumps(to_json(host)))) == host


def test_pyinfra_gets_names_ssh_data_and_the_resolved_host(fleet):
    files = fleet({"spark-01.yaml": f"ssh: {{hostname: h}}\nserve: {SMALL}\n"})
    files.pin()
    ((name, data),) = load("inventories/lab.py")
    assert name == "spark-01"
    assert data["ssh_hostname"] == "h"
    assert host_from_json(data["sparkfleet"]) == files.load(need_lock=True).hosts[0]


def test_pyinfra_is_stopped_before_any_host_with_all_problems(fleet, capsys):
    fleet({"spark-01.yaml": "serv: x\n", "spark-02.yaml": "serve: 3\n"})
    with pytest.raises(SystemExit) as stopped:
        load("inventories/lab.py")
    assert stopped.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "spark-01.yaml:1: unknown key 'serv'" in captured.err
    assert "spark-02.yaml:1: 'serve' is the number 3" in captured.err
    assert captured.err.endswith("2 to mend; no host was contacted.\n")


def test_the_tokenizer_of_another_repository_is_refused(fleet):
    problem = fleet(
        {"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{tokenizer: org/other}}}}\n"}
    ).problem()
    assert "org/other" in problem.found


@pytest.mark.parametrize("name", ["recover", "swap-1", "stage-x", "a.next", "a.old", "a"])
def test_names_that_a_spark_needs_for_itself_are_refused(fleet, name):
    problem = fleet({"spark-01.yaml": f"serve:\n  recipe: {SMALL}\n  name: {name}\n"}).problem()
    assert problem.where == "inventories/lab/spark-01.yaml:3"
    assert problem.found == f"a service cannot be named '{name}'"


def test_a_spark_that_sparkfleet_runs_on_needs_no_ssh(fleet):
    files = fleet({"spark-01.yaml": f'ssh: {{hostname: "@local"}}\nserve: {SMALL}\n'})
    files.pin()
    ((name, data),) = load("inventories/lab.py")
    assert name == "@local"
    assert host_from_json(data["sparkfleet"]).name == "spark-01"


@pytest.mark.parametrize("written", ["0m", "'0'", "0s"])
def test_a_gate_without_any_time_is_refused(fleet, written):
    text = f"serve:\n  recipe: {SMALL}\n  gate: {{timeout: {written}}}\n"
    problem = fleet({"spark-01.yaml": text}).problem()
    assert problem.where == "inventories/lab/spark-01.yaml:3"
    assert problem.expected == "a time as 30m, 1h30m, 1800s or seconds"


def test_a_broken_cluster_file_is_told_like_any_other(fleet):
    files = fleet(
        {"spark-01.yaml": "serve: null\n", "clusters/pair.yaml": "a: 1\na: 2\n", "clusters/notes.txt": "x"}
    )
    assert files.problem().found == "has 'a' twice, first in line 1"


def test_a_value_that_is_the_same_in_both_spellings_is_told(fleet):
    text = f"serve:\n  recipe: {SMALL}\n  flags:\n    no-async-scheduling: true\n    async-scheduling: true\n"
    problem = fleet({"spark-01.yaml": text}).problem()
    assert problem.found == "flag 'async-scheduling' says the same as 'no-async-scheduling'"


def test_what_is_prepared_is_said_for_the_fleet_and_the_host_file_wins_by_key(fleet):
    files = fleet(
        {
            "group_data/all.py": "sparkfleet = {'prepare': {'offline': True}}\n",
            "spark-01.yaml": f"serve: {SMALL}\n",
            "spark-02.yaml": f"serve: {SMALL}\nprepare: {{offline: false}}\n",
        }
    )
    first, second = files.load().hosts
    assert first.prepare.offline
    assert not second.prepare.offline
    assert host_from_json(to_json(second)) == second


def test_a_seed_is_a_spark_of_the_fleet(fleet):
    names = {f"spark-0{n}.yaml": f"serve: {SMALL}\n" for n in (1, 2)}

    def stage(said: str) -> dict[str, str]:
        return {
            "group_data/all.py": f"sparkfleet = {{\n  'stage': {{'seed': '{said}', 'parallel': 3}},\n}}\n",
            **names,
        }

    for good in ("auto", "none", "spark-02"):
        loaded = fleet(stage(good)).load().hosts[0]
        assert (loaded.stage.seed, loaded.stage.parallel) == (good, 3)
        assert host_from_json(to_json(loaded)) == loaded
    with pytest.raises(SparkfleetError) as raised:
        fleet(stage("sparkk-02")).load()
    (problem,) = raised.value.problems
    assert problem.where == "group_data/all.py:2"
    assert problem.found == "'stage.seed' is 'sparkk-02', and there is no such Spark"
    assert problem.remedy == "write 'spark-02'"
