"""From files to a Fleet: precedence, completion, cross checks, pins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.cli import check_report
from sparkfleet.config.models import ContainerSpec, ServiceSpec
from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.desired_state import host_from_json
from sparkfleet.inventory import Pins, load, load_fleet, read_fleet
from tests.unit.config.fleet_files import SMALL, FleetFiles, image_of


def test_the_shortest_host_file_is_a_whole_service(fleet: Callable[..., FleetFiles]) -> None:
    service = fleet({"spark-01.yaml": f"serve: {SMALL}\n"}).service()
    assert service.name == SMALL
    assert service.port == 8000
    assert service.served_name == SMALL
    assert image_of(service).repository == "nvcr.io/nvidia/vllm"
    assert service.weights.repo == "openai/gpt-oss-20b"
    assert dict(service.flags)["max-model-len"] == 131072


@pytest.mark.parametrize("serve", [SMALL, f"{{recipe: {SMALL}}}", f"[{SMALL}]", f"[{{recipe: {SMALL}}}]"])
def test_serve_may_be_a_name_a_mapping_or_a_list_of_both(
    fleet: Callable[..., FleetFiles], serve: Any
) -> None:
    assert fleet({"spark-01.yaml": f"serve: {serve}\n"}).service().recipe == SMALL


def test_a_spark_that_serves_nothing_is_idle(fleet: Callable[..., FleetFiles]) -> None:
    (host,) = fleet({"spark-01.yaml": "serve: null\n"}).load().hosts
    assert host.services == ()


@pytest.mark.provokes("host-address-duplicate")
def test_two_files_for_one_machine_are_a_mistake(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "spark-01.yaml": f"ssh: {{hostname: 10.0.0.1}}\nserve: {SMALL}\n",
            "spark-02.yaml": f"ssh: {{hostname: 10.0.0.1, port: 22}}\nserve: {SMALL}\n",
            "spark-03.yaml": f"ssh: {{hostname: 10.0.0.1, port: 2222}}\nserve: {SMALL}\n",
        }
    )
    assert "spark-02 has the same address as spark-01" in files.diagnostic().message


def test_ssh_settings_become_pyinfras(fleet: Callable[..., FleetFiles]) -> None:
    text = "ssh: {hostname: h, port: 22, user: u, key: ~/k, options: {connect_retries: 5}}\n"
    (host,) = fleet({"spark-01.yaml": text}).load().hosts
    assert dict(host.ssh) == {
        "ssh_connect_retries": 5,
        "ssh_hostname": "h",
        "ssh_key": "~/k",
        "ssh_port": 22,
        "ssh_user": "u",
    }


@pytest.mark.parametrize("kind", ["env:HF", "file:~/.token", "command:pass show hf"])
def test_the_tokens_source_is_kept_and_no_more(fleet: Callable[..., FleetFiles], kind: str) -> None:
    files = fleet(
        {"group_data/all.py": f"sparkfleet = {{'hf_token': {kind!r}}}", "spark-01.yaml": "serve: null\n"}
    )
    assert files.load().hf_token == kind
    assert files.load().hosts[0].hf_token == kind


def test_a_token_in_place_of_its_source_is_refused_and_never_repeated(
    fleet: Callable[..., FleetFiles],
) -> None:
    token = "hf_" + "x1Y2" * 8
    files = fleet(
        {"group_data/all.py": f"sparkfleet = {{'hf_token': '{token}'}}", "spark-01.yaml": "serve: null\n"}
    )
    diagnostic = files.diagnostic()
    assert diagnostic.location == "group_data/all.py:1"
    assert "env:NAME" in diagnostic.expected
    assert token not in str(diagnostic)


@pytest.mark.provokes("group-data-failed")
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
def test_a_mistake_in_group_data_is_reported_with_its_line(
    fleet: Callable[..., FleetFiles], text: str, where: str, found: str
) -> None:
    files = fleet({"group_data/all.py": text, "spark-01.yaml": "serve: null\n"})
    diagnostic = files.diagnostics()[0]
    assert diagnostic.location == where
    assert found in diagnostic.message


def test_what_group_data_prints_does_not_reach_standard_output(
    fleet: Callable[..., FleetFiles], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet({"group_data/all.py": "print('noise')\n", "spark-01.yaml": "serve: null\n"}).load()
    assert capsys.readouterr().out == ""


@pytest.mark.provokes("group-data-not-found")
def test_group_data_missing_from_the_current_directory_is_reported(
    fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fleet({"group_data/all.py": "sparkfleet = {}", "spark-01.yaml": "serve: null\n"})
    monkeypatch.chdir(files.directory)
    with pytest.raises(SparkfleetError, match="group_data/ is read only from the current directory"):
        load_fleet(files.root / "inventories" / "lab.py")


def test_a_file_that_is_no_yaml_by_its_ending_is_not_overlooked(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet({"spark-01.yaml": "serve: null\n", "spark-02.yml": "serve: null\n"}).diagnostic()
    assert diagnostic.hint == "mv inventories/lab/spark-02.yml inventories/lab/spark-02.yaml"


@pytest.mark.provokes("fleet-unknown")
def test_an_unknown_fleet_names_the_nearest(fleet: Callable[..., FleetFiles]) -> None:
    fleet({"spark-01.yaml": "serve: null\n"})
    with pytest.raises(SparkfleetError, match=r"did you mean inventories/lab\.py"):
        load_fleet(Path("inventories/lap.py"))


def test_an_unknown_fleet_that_is_near_none_names_those_that_exist(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": "serve: null\n"})
    files.inventory.touch()
    (files.root / "inventories" / "__pycache__").mkdir()
    with pytest.raises(SparkfleetError) as error:
        load_fleet(Path("inventories/nope.py"))
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.hint == "use one of: inventories/lab.py; or write a fleet: sparkfleet init"


@pytest.mark.parametrize("path", ["lab", "lab.py", "lap"])
def test_a_fleet_named_without_its_directory_is_found_in_inventories(
    fleet: Callable[..., FleetFiles], path: str
) -> None:
    fleet({"spark-01.yaml": "serve: null\n"}).inventory.touch()
    with pytest.raises(SparkfleetError) as error:
        load_fleet(Path(path))
    assert error.value.diagnostics[0].hint == "did you mean inventories/lab.py?"


def test_the_directory_is_as_good_as_the_inventory(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    assert load_fleet(Path("inventories/lab"), pins=Pins.IGNORED) == files.load()
    assert load_fleet(Path("inventories/lab/"), pins=Pins.IGNORED) == files.load()


@pytest.mark.provokes("fleet-empty")
def test_a_fleet_without_host_files_says_which_to_write(fleet: Callable[..., FleetFiles]) -> None:
    assert fleet({}).diagnostic().hint == "create inventories/lab/spark-01.yaml"


def test_a_host_survives_the_way_through_pyinfras_data(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "spark-01.yaml": f"""
serve:
  recipe: {SMALL}
  flags: {{speculative-config: {{method: dflash, model: z-lab/D}}}}
  container: {{devices: [/dev/x], cap_add: [SYS_NICE], mounts: [{{source: /a, target: /b}}]}}
  env: {{A: b}}
ssh: {{hostname: h}}
ignore_rules: {{KV-01: why}}
"""
        }
    )
    files.pin()
    (host,) = files.load(need_lock=True).hosts
    assert host_from_json(codec.plain(host)) == host
    assert host_from_json(json.loads(json.dumps(codec.plain(host)))) == host


def test_pyinfra_gets_names_ssh_data_and_the_resolved_host(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"ssh: {{hostname: h}}\nserve: {SMALL}\n"})
    files.pin()
    ((name, data),) = load("inventories/lab.py")
    assert name == "spark-01"
    assert data["ssh_hostname"] == "h"
    assert host_from_json(data["sparkfleet"]) == files.load(need_lock=True).hosts[0]


def test_pyinfra_is_stopped_before_any_host_with_all_diagnostics(
    fleet: Callable[..., FleetFiles], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet({"spark-01.yaml": "serv: x\n", "spark-02.yaml": "serve: 3\n"})
    with pytest.raises(SystemExit) as stopped:
        load("inventories/lab.py")
    assert stopped.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "spark-01.yaml:1: unknown key 'serv'" in captured.err
    assert "spark-02.yaml:1: 'serve' is the number 3" in captured.err
    assert captured.err.endswith("Errors: 2. No host was contacted.\n")


def test_a_spark_that_sparkfleet_runs_on_needs_no_ssh(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f'ssh: {{hostname: "@local"}}\nserve: {SMALL}\n'})
    files.pin()
    ((name, data),) = load("inventories/lab.py")
    assert name == "@local"
    assert host_from_json(data["sparkfleet"]).name == "spark-01"


def test_a_broken_cluster_file_is_reported_like_any_other(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {"spark-01.yaml": "serve: null\n", "clusters/pair.yaml": "a: 1\na: 2\n", "clusters/notes.txt": "x"}
    )
    assert files.diagnostic().message == "duplicate key 'a', first set in line 1"


def test_prepare_is_set_for_the_fleet_and_the_host_file_wins_by_key(
    fleet: Callable[..., FleetFiles],
) -> None:
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
    assert host_from_json(codec.plain(second)) == second


def test_a_seed_is_a_spark_of_the_fleet(fleet: Callable[..., FleetFiles]) -> None:
    names = {f"spark-0{n}.yaml": f"serve: {SMALL}\n" for n in (1, 2)}

    def stage(setting: str) -> dict[str, str]:
        return {
            "group_data/all.py": f"sparkfleet = {{\n  'stage': {{'seed': '{setting}', 'parallel': 3}},\n}}\n",
            **names,
        }

    for good in ("auto", "none", "spark-02"):
        loaded = fleet(stage(good)).load().hosts[0]
        assert (loaded.stage.seed, loaded.stage.parallel) == (good, 3)
        assert host_from_json(codec.plain(loaded)) == loaded
    with pytest.raises(SparkfleetError) as raised:
        fleet(stage("sparkk-02")).load()
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.location == "group_data/all.py:2"
    assert diagnostic.message == "'stage.seed' is 'sparkk-02', which is not a host of the fleet"
    assert diagnostic.hint == "did you mean 'spark-02'?"


def test_a_broken_recipe_hides_no_other_error(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "recipes/own.yaml": "recipe: own\nimage: 3\n",
            "spark-01.yaml": "serve: own\n",
            "spark-02.yaml": f"ssh: {{hostname: a}}\nserve: {SMALL}\n",
            "spark-03.yaml": f"ssh: {{hostname: a}}\nserve: {SMALL}\n",
        }
    )
    found = [(one.location, one.code) for one in files.diagnostics()]
    assert ("inventories/lab/spark-03.yaml", "host-address-duplicate") in found
    assert ("inventories/lab/recipes/own.yaml:2", "yaml-invalid-value") in found
    assert len(found) == len(set(found))
    assert "recipe-unknown" not in {code for _, code in found}


def test_a_broken_host_file_is_no_unknown_host(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "spark-01.yaml": "serv: x\n",
            "spark-02.yaml": "serve: null\n",
            "clusters/pair.yaml": "hosts: [spark-01, spark-02, spark-03]\n",
            "group_data/all.py": "sparkfleet = {'stage': {'seed': 'spark-01'}}\n",
        }
    )
    found = [(one.location, one.code) for one in files.diagnostics()]
    assert found == [
        ("inventories/lab/clusters/pair.yaml:1", "host-unknown"),
        ("inventories/lab/spark-01.yaml:1", "yaml-unknown-key"),
    ]
    assert "spark-03" in files.diagnostics()[0].message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ssh: {password: x}\n", "log in by key"),
        ("serve: {recipe: gpt-oss-20b, volumes: [/data]}\n", "container: {mounts: ...}"),
        ("host: 10.0.0.1\n", "ssh: {hostname: ADDRESS}"),
    ],
)
def test_a_key_of_compose_or_ansible_names_the_key_to_use(
    fleet: Callable[..., FleetFiles], text: str, hint: str
) -> None:
    assert hint in fleet({"spark-01.yaml": text}).diagnostic().hint


COMPOSE = (
    "build cap_add cap_drop command configs container_name cpu_quota cpu_shares cpus cpuset "
    "depends_on deploy devices dns entrypoint env_file environment expose extra_hosts group_add "
    "healthcheck image init ipc labels logging mem_limit mem_reservation mem_swappiness "
    "memswap_limit network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform "
    "ports privileged pull_policy read_only restart runtime secrets security_opt shm_size stdin_open "
    "stop_grace_period stop_signal sysctls tmpfs tty ulimits user userns_mode volumes working_dir"
)
"""Keys of a Compose service that owners use for engines."""


@pytest.mark.parametrize("key", COMPOSE.split())
def test_every_key_of_a_compose_service_is_a_key_here_or_has_a_hint(
    fleet: Callable[..., FleetFiles], key: str
) -> None:
    if key in ContainerSpec.model_fields or key in ServiceSpec.model_fields:
        return
    text = f"serve: {{recipe: gpt-oss-20b, container: {{{key}: 1}}}}\n"
    hint = fleet({"spark-01.yaml": text}).diagnostic().hint
    assert hint
    assert not hint.startswith(("did you mean", "remove it, or see"))


@pytest.mark.parametrize(("limit", "expected"), [("-2", "at least -1"), ("soft", "SOFT:HARD")])
def test_a_wrong_ulimit_names_what_is_expected(
    fleet: Callable[..., FleetFiles], limit: str, expected: str
) -> None:
    text = f"serve: {{recipe: gpt-oss-20b, container: {{ulimits: {{nofile: {limit}}}}}}}\n"
    assert expected in fleet({"spark-01.yaml": text}).diagnostic().expected


def test_an_invalid_value_hides_no_other_mistake_of_its_file(fleet: Callable[..., FleetFiles]) -> None:
    text = (
        "serve:\n  recipe: gpt-oss-20b\n  port: 99999\n  flags: {model: x/y}\n"
        "  container: {cpuset: all, restart: no}\n"
    )
    found = {
        (one.location.rpartition(":")[2], one.code) for one in fleet({"spark-01.yaml": text}).diagnostics()
    }
    assert found == {
        ("3", "yaml-invalid-value"),
        ("4", "flag-reserved"),
        ("5", "yaml-invalid-value"),
        ("5", "yaml-unknown-key"),
    }


def test_of_a_service_without_readable_mounts_no_rule_says_anything(fleet: Callable[..., FleetFiles]) -> None:
    text = (
        "serve:\n  recipe: gpt-oss-20b\n  flags: {chat-template: /t/x.jinja, max-num-seqs: many}\n"
        "  container: {mounts: [{source: t, target: /t}]}\n"
    )
    files = fleet({"spark-01.yaml": text})
    loaded = read_fleet(files.inventory, pins=Pins.IGNORED)
    found = [one.code for one in (*loaded.diagnostics, *check_report.diagnostics(loaded))]
    assert found == ["yaml-invalid-value", "bad-type"]


def test_services_of_a_spark_are_compared_only_if_all_of_them_are_complete(
    fleet: Callable[..., FleetFiles],
) -> None:
    text = "serve:\n- {recipe: gpt-oss-20b, port: 8000, imag: x}\n- {recipe: gpt-oss-20b, port: 8000}\n"
    assert fleet({"spark-01.yaml": text}).diagnostic().code == "yaml-unknown-key"


def test_with_invalid_group_data_no_rule_guesses(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "spark-01.yaml": "serve: llama-3.3-70b-instruct-nvfp4\n",
            "group_data/all.py": "sparkfleet = {'hf_tokn': 'x'}",
        }
    )
    loaded = read_fleet(files.inventory, pins=Pins.IGNORED)
    assert [one.code for one in (*loaded.diagnostics, *check_report.diagnostics(loaded))] == [
        "yaml-unknown-key"
    ]
