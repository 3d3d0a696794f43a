"""``prepare:`` of group_data and host file: folded by key, turned into items; what is wrong has its line."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import host_from_json
from sparkfleet.resources.base import Resource
from tests.unit.config.fleet_files import FleetFiles, write


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(root: Path, host: str, group: str = "{}") -> FleetFiles:
    return write(root, {"spark-01.yaml": host, "group_data/all.py": f"sparkfleet = {group}\n"})


def items(root: Path, host: str, group: str = "{}") -> dict[str, Resource]:
    (spark,) = files(root, host, group).load().hosts
    found = spark.prepare.resources
    assert len({item.id for item in found}) == len(found)
    return {item.id: item for item in found}


def diagnostic(root: Path, host: str, group: str = "{}") -> Diagnostic:
    return files(root, host, group).diagnostic()


def test_nothing_declared_is_nothing_to_be_made_so(root: Path) -> None:
    assert items(root, "ssh: {}\n") == {}
    assert (
        items(
            root,
            "prepare: {swap: leave, earlyoom: leave, gpu: {}, compile_cache_retention: {}, sysctls: {}}\n",
        )
        == {}
    )


def test_linux_swap_is_turned_off_by_the_plain_word(root: Path) -> None:
    assert list(items(root, "prepare: {swap: off}\n")) == ["linux_swap swap"]


def test_the_host_file_wins_by_key_and_null_takes_what_the_fleet_says_away(root: Path) -> None:
    group = "{'prepare': {'sysctls': {'vm.swappiness': 10, 'vm.dirty_ratio': 5}, 'packages': ['htop']}}"
    host = "prepare:\n  sysctls: {vm.swappiness: 1, vm.dirty_ratio: null}\n  packages: [curl]\n"
    found = items(root, host, group)
    assert list(found) == ["package curl", "sysctl vm.swappiness"]
    assert dict(found["sysctl vm.swappiness"].fields) == {"now": "1", "at boot": "1"}
    assert found["sysctl vm.swappiness"].where == "inventories/lab/spark-01.yaml:2"
    assert list(items(root, "prepare: {packages: null}\n", group)) == [
        "package htop",
        "sysctl vm.swappiness",
        "sysctl vm.dirty_ratio",
    ]


def test_a_valve_user_may_run_this_one_command_without_arguments(root: Path) -> None:
    found = items(root, "prepare: {valve_users: ['@login'], docker_users: [worker, worker]}\n")
    assert list(found) == ["group docker worker", "sudoers @login"]
    rule = dict(found["sudoers @login"].fields)
    assert rule["rule"] == '@login ALL=(root) NOPASSWD: /usr/local/bin/spark-valve ""'
    assert (rule["mode"], rule["owner"]) == ("0440", "root")


@pytest.mark.parametrize(
    "user", ["ALL", "%sudo", "root ALL", "a,b", "#0", "Worker", "x" * 33, "", "a\\tb", "+net"]
)
def test_a_name_with_a_meaning_of_its_own_in_sudoers_is_no_user(root: Path, user: str) -> None:
    assert "valve_users" in diagnostic(root, f'prepare: {{valve_users: ["{user}"]}}\n').message


def test_earlyoom_is_installed_and_run_or_forbidden(root: Path) -> None:
    found = items(root, "prepare: {earlyoom: install, packages: [earlyoom]}\n")
    assert list(found) == ["package earlyoom", "service earlyoom.service"]
    assert dict(found["service earlyoom.service"].fields) == {"at boot": "enabled", "now": "active"}
    (forbidden,) = items(root, "prepare: {earlyoom: forbid}\n").values()
    assert dict(forbidden.fields) == {"at boot": "disabled", "now": "inactive"}


def test_a_directory_has_owner_and_mode_and_its_content_only_where_it_is_asked_for(root: Path) -> None:
    data = "/data: {owner: svc, group: gpu, mode: '2775', chown_contents_max: 50}"
    host = f"prepare:\n  directories:\n    ~/vllm: {{}}\n    {data}\n"
    found = items(root, host)
    assert dict(found["directory ~/vllm"].fields) == {"mode": "0755", "owner": "@login"}
    assert found["directory ~/vllm"].arg == "@login 1000"
    assert dict(found["directory /data"].fields) == {
        "mode": "2775", "owner": "svc", "group": "gpu", "others": "0",
    }  # fmt: skip
    assert found["directory /data"].arg == "svc 50"
    group = "{'prepare': {'directories': {'/data': {}}}}"
    assert items(root, "prepare: {directories: {/data: null}}\n", group) == {}


def test_a_file_has_the_text_or_the_operators_own_file(root: Path) -> None:
    (root / "motd").write_bytes(b"\x00hi")
    found = items(
        root, "prepare:\n  files:\n    /etc/motd: {source: motd}\n    /etc/x: {content: hello, group: adm}\n"
    )
    assert base64.b64decode(found["file /etc/motd"].content) == b"\x00hi"
    assert base64.b64decode(found["file /etc/x"].content) == b"hello"
    assert dict(found["file /etc/x"].fields)["group"] == "adm"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/etc/x: {}", "has neither content and source"),
        ("/etc/x: {content: a, source: b}", "has both content and source"),
        ("/etc/x: {source: not-there}", "not-there cannot be read: No such file"),
        ("/etc/x: {source: huge}", "at most 1048576"),
        ("/etc/fstab: {content: a}", "not a file to be replaced as a whole"),
        ("/etc/netplan/01.yaml: {content: a}", "not a file to be replaced as a whole"),
        ("/etc/sudoers: {content: a}", "not a file to be replaced as a whole"),
        ("/etc/x/../shadow: {content: a}", "not a file to be replaced as a whole"),
        ("/var/lib/sparkfleet/prepared.json: {content: a}", "sparkfleet's own"),
        ("/etc/systemd/system/sparkfleet-nano.service: {content: a}", "sparkfleet's own"),
        ("/etc/sysctl.d/90-sparkfleet.conf: {content: a}", "sparkfleet's own"),
        ("/etc/sudoers.d/spark-valve-worker: {content: a}", "sparkfleet's own"),
    ],
)
def test_an_invalid_file_is_reported_with_its_line(root: Path, text: str, message: str) -> None:
    (root / "huge").write_bytes(b"x" * ((1 << 20) + 1))
    found = diagnostic(root, f"prepare:\n  files:\n    {text}\n")
    assert message in str(found)
    assert found.location == "inventories/lab/spark-01.yaml:3"


def test_the_gpu_settings_are_one_resource(root: Path) -> None:
    host = "prepare: {gpu: {persistence: false, power_limit_w: 100, clocks_mhz: [300, 2000]}}\n"
    (gpu,) = items(root, host).values()
    assert dict(gpu.fields) == {
        "persistence": "0", "power limit": "100", "clocks": "300,2000", "unit": "enabled active",
    }  # fmt: skip


def test_secrets_are_named_by_their_source_and_never_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGC", "nvapi-secret")
    host = "prepare:\n  logins: {nvcr.io: {password: 'env:NGC', helper: pass}}\n  keep_hf_token: true\n"
    found = items(root, host, "{'hf_token': 'env:NGC'}")
    login, token = found["login nvcr.io"], found["hub_token ~/.cache/huggingface/token"]
    assert (login.source, login.user, login.arg) == ("env:NGC", "$oauthtoken", "pass")
    assert (token.source, dict(token.fields)["mode"]) == ("env:NGC", "0600")
    assert "nvapi-secret" not in repr(found)
    assert items(root, "prepare: {logins: {nvcr.io: null}}\n", "{}") == {}


@pytest.mark.provokes("resource-invalid")
def test_a_token_that_shall_stay_must_be_declared(root: Path) -> None:
    assert "there is no hf_token" in diagnostic(root, "prepare: {keep_hf_token: true}\n").message


def test_a_password_itself_is_refused_and_not_repeated(root: Path) -> None:
    found = diagnostic(root, "prepare: {logins: {nvcr.io: {password: nvapi-secret}}}\n")
    assert "nvapi-secret" not in str(found)
    assert "password" in found.message


def test_compile_cache_retention_are_named_by_their_directory_and_limits(root: Path) -> None:
    host = "cache_dir: /data/cache\nprepare: {compile_cache_retention: {max_age_days: 30, max_gib: 1.5}}\n"
    (caches,) = items(root, host).values()
    assert (caches.id, dict(caches.fields)) == (
        "compile_caches /data/cache",
        {"max_age_days": "30", "max_gib": "1.5"},
    )


def test_where_models_and_caches_are_and_the_floor_may_differ_per_host(root: Path) -> None:
    group = "{'models_dir': '/data/models', 'cache_dir': '/data/cache', 'min_available_gib': 3}"
    (fleet,) = files(root, "ssh: {}\n", group).load().hosts
    assert (fleet.paths.models, fleet.paths.cache, fleet.min_available_gib) == (
        "/data/models",
        "/data/cache",
        3,
    )
    own = "models_dir: /nfs/models\ncache_dir: ~/cache\nmin_available_gib: 0\n"
    (spark,) = files(root, own, group).load().hosts
    assert (spark.paths.models, spark.paths.cache, spark.min_available_gib) == ("/nfs/models", "~/cache", 0)


@pytest.mark.parametrize(
    "text", ["swapp: off", "sysctls: {swappiness: 1}", "hold: ['a b']", "logins: {a/b: {}}"]
)
def test_what_cannot_be_meant_is_an_error(root: Path, text: str) -> None:
    assert diagnostic(root, f"prepare: {{{text}}}\n").location.startswith("inventories/lab/spark-01.yaml")


def test_a_plan_from_data_has_the_same_items(root: Path) -> None:
    (spark,) = files(root, "prepare: {docker_users: [worker], sysctls: {vm.swappiness: 1}}\n").load().hosts
    assert host_from_json(json.loads(json.dumps(asdict(spark)))) == spark
