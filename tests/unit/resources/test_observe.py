"""What ``observe`` of each kind returns, from the system's files and the output of its programs."""

from __future__ import annotations

import base64
import builtins
import dis
import getpass
import grp
import hashlib
import json
import os
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from sparkfleet.onhost.collectors import basics, resources
from sparkfleet.resources import observers, registry
from sparkfleet.resources.kinds import (
    compile_caches,
    directory,
    file,
    gpu,
    group,
    hold,
    hub_token,
    linux_swap,
    login,
    package,
    service,
    sudoers,
    sysctl,
)
from tests.unit.resources.fake_host import FakeHost

ME = getpass.getuser()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(basics, "STATE_DIR", str(tmp_path / "var/lib/sparkfleet"))
    return FakeHost(tmp_path)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("~", "/home/u"), ("~/x", "/home/u/x"), ("/a~/b", "/a~/b"), ("docker @login", "docker u"), ("~x", "~x")],
)
def test_login_user_and_home_are_filled_in(text: str, expanded: str) -> None:
    assert resources.expand(text, "u", "/home/u") == expanded


def test_a_path_is_absent_or_has_type_mode_owner_and_hash(host: FakeHost, tmp_path: Path) -> None:
    assert file.observe(host, "/x") == {"is": "absent"}
    assert file.observe(host, "/x/deeper") == {"is": "absent"}
    path = host.write("/x", "hi")
    path.chmod(0o640)
    seen = file.observe(host, "/x")
    assert (seen["is"], seen["mode"], seen["owner"]) == ("file", "0640", ME)
    assert seen["sha256"] == hashlib.sha256(b"hi").hexdigest()
    (tmp_path / "link").symlink_to(path)
    assert file.observe(host, "/link")["is"] == "link"
    os.mkfifo(tmp_path / "fifo")
    assert file.observe(host, "/fifo")["is"] == "other"


def test_entries_of_others_are_counted_up_to_the_limit(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "deep/c"):
        host.write(f"/d/{name}", "")
    assert directory.observe(host, "/d", f"{ME} 10")["others"] == "0"
    assert directory.observe(host, "/d", "nobody-of-this-name 10")["others"] == "0"
    other = "nobody" if ME != "nobody" else "root"
    assert directory.observe(host, "/d", f"{other} 10")["others"] == "4"
    assert directory.observe(host, "/d", f"{other} 4")["others"] == "4"
    assert directory.observe(host, "/d", f"{other} 3")["others"] == "many"
    monkeypatch.setattr(directory, "MAX_ENTRIES", 2)
    assert directory.observe(host, "/d", f"{other} 10")["others"] == "3"  # the rest is not read
    assert directory.observe(host, "/d", f"{ME} 10")["empty"] == "no"


def test_a_sysctl_is_observed_now_and_in_our_file(host: FakeHost) -> None:
    host.write("/proc/sys/vm/x", "4096\t16384   4194304\n")
    host.write(sysctl.FILE, "# Written\nvm.x = 1  2\nnothing\n")
    assert sysctl.observe(host, "vm.x") == {"now": "4096 16384 4194304", "at boot": "1 2"}
    assert sysctl.observe(host, "vm.y") == {"is": "no such setting", "now": "", "at boot": ""}


def test_a_file_that_is_read_after_ours_and_sets_the_same_is_named(host: FakeHost) -> None:
    host.write("/usr/lib/sysctl.d/99-x.conf", "vm.x = 1\n")
    host.write("/etc/sysctl.d/99-x.conf", "# vm.x = 2\n-vm/x=3\n")
    host.write("/etc/sysctl.d/10-early.conf", "vm.x = 4\n")
    seen = sysctl.observe(host, "vm.x")
    assert (seen["later"], seen["set"]) == ("/etc/sysctl.d/99-x.conf", "3")
    assert "later" not in sysctl.observe(host, "vm.y")


def test_linux_swap_is_observed_now_and_in_fstab(host: FakeHost) -> None:
    host.write("/etc/fstab", "# /a none swap sw 0 0\n/b none swap sw 0 0\n/c / ext4 x 0 1\n\n")
    host.write("/proc/swaps", "Filename Type Size\n/dev/zram0 partition 8\n")
    assert linux_swap.observe(host, "swap") == {"now": "/dev/zram0", "at boot": "/b"}


def test_packages_are_installed_and_held_by_what_dpkg_lists(host: FakeHost) -> None:
    host.printed = "nvidia-a ii \nnvidia-b hi \nnvidia-c rc \nnvidia-d un \n\n"
    assert hold.observe(host, "nvidia-*") == {"held": "nvidia-b", "free": "nvidia-a"}
    assert host.commands[0][0] == "dpkg-query"
    assert package.observe(host, "nvidia-a") == {"is": "installed"}
    host.printed = "htop rc \n"
    assert package.observe(host, "htop") == {"is": "absent"}


@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        ("LoadState=loaded\nUnitFileState=enabled\nActiveState=active\n", ("enabled", "active", "")),
        (
            "LoadState=loaded\nUnitFileState=enabled-runtime\nActiveState=failed\n",
            ("enabled", "inactive", ""),
        ),
        ("LoadState=not-found\nUnitFileState=\nActiveState=inactive\n", ("disabled", "inactive", "missing")),
        ("", ("disabled", "inactive", "")),
    ],
)
def test_a_unit_runs_or_not_now_and_at_boot(host: FakeHost, printed: str, seen: tuple[str, str, str]) -> None:
    host.printed = printed
    found = service.observe(host, "x.service")
    assert (found["at boot"], found["now"], found.get("unit", "")) == seen


def test_the_gpus_settings_at_boot_are_read_from_our_unit(host: FakeHost) -> None:
    assert gpu.observe(host, "gpu") == {"is": "absent"}
    host.printed = "UnitFileState=enabled\nActiveState=active\n"
    smi = "ExecStart=/usr/bin/env nvidia-smi"
    host.write(f"/etc/systemd/system/{gpu.UNIT}", f"[Service]\n{smi} -pm 1\n{smi} -lgc 300,900\n")
    assert gpu.observe(host, "gpu") == {
        "persistence": "1", "power limit": "", "clocks": "300,900", "unit": "enabled active",
    }  # fmt: skip


def test_the_rule_of_a_valve_user_is_read_without_comments(host: FakeHost) -> None:
    assert sudoers.rule_path("a.b") == "/etc/sudoers.d/spark-valve-a_b"
    assert sudoers.observe(host, "worker") == {"is": "absent", "rule": ""}
    host.write(sudoers.rule_path("worker"), "# Written\nworker ALL=x\n\nworker ALL=y\n")
    assert sudoers.observe(host, "worker")["rule"] == "worker ALL=x; worker ALL=y"


def test_a_secret_leaves_the_spark_as_a_salted_hash_alone(host: FakeHost) -> None:
    host.write("/var/lib/sparkfleet/prepared.json", json.dumps({"salt": "ab" * 16}))
    host.write("/token", "hf_secret\n")
    seen = hub_token.observe(host, "/token")
    assert seen["hash"] == resources.digest(b"hf_secret", bytes.fromhex("ab" * 16))
    assert "hf_secret" not in json.dumps(seen)
    assert "sha256" not in seen  # without salt it could be guessed
    assert hub_token.observe(host, "/nothing") == {"is": "absent"}


def test_without_a_salt_of_the_spark_each_probe_makes_one(host: FakeHost) -> None:
    host.write("/token", "hf_secret")
    assert hub_token.observe(host, "/token")["salt"] != hub_token.observe(host, "/token")["salt"]


def test_a_login_is_read_where_it_is_stored(host: FakeHost) -> None:
    assert login.observe(host, "nvcr.io", "") == {"is": "absent"}
    auths = {"nvcr.io": {"auth": base64.b64encode(b"u:key").decode()}}
    host.write(login.CONFIG, json.dumps({"auths": auths}))
    seen = login.observe(host, "nvcr.io", "")
    assert (seen["secret"], seen["helper"]) == ("there", "")
    assert seen["hash"] == resources.digest(b"u:key", bytes.fromhex(seen["salt"]))
    assert login.observe(host, "nvcr.io", "pass")["secret"] == "kept by the file"
    host.write(login.CONFIG, json.dumps({"credHelpers": {"nvcr.io": "pass"}}))
    assert login.observe(host, "nvcr.io", "pass") == {"is": "absent"}
    host.commands.clear()
    host.printed = json.dumps({"Username": "u", "Secret": "key"})
    seen = login.observe(host, "nvcr.io", "pass")
    assert host.commands == [("docker-credential-pass", "get", "nvcr.io")]
    assert seen["hash"] == resources.digest(b"u:key", bytes.fromhex(seen["salt"]))
    assert login.observe(host, "nvcr.io", "")["secret"] == "kept by pass"


def test_docker_hub_is_found_under_its_own_name(host: FakeHost) -> None:
    auths = {"https://index.docker.io/v1/": {"auth": base64.b64encode(b"u:k").decode()}}
    host.write(login.CONFIG, json.dumps({"auths": auths}))
    assert login.observe(host, "docker.io", "")["is"] == "login"


def test_caches_have_size_last_change_and_whether_a_service_needs_them(
    host: FakeHost, tmp_path: Path
) -> None:
    used, old = tmp_path / "cache" / ("a" * 12), tmp_path / "cache" / ("b" * 12)
    for path in (used, old, tmp_path / "cache" / "not-a-cache"):
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"x" * 5000)
        os.utime(path / "file", (1000, 1000))
        os.utime(path, (500, 500))
    (tmp_path / "cache" / ("c" * 12)).symlink_to(old)
    host.write("/var/lib/sparkfleet/services/nano/current.json", f'["/cache/{used.name}"]')
    found = compile_caches.observe(host, "/cache")["caches"]
    assert list(found) == ["a" * 12, "b" * 12]
    assert found["a" * 12][1:] == [1000, True]
    assert found["b" * 12][1:] == [1000, False]
    assert found["b" * 12][0] >= 5000
    assert compile_caches.observe(host, "/nothing")["caches"] == {}


def test_a_membership_is_that_of_the_group_or_the_users_own(host: FakeHost) -> None:
    own = grp.getgrgid(os.getgid()).gr_name
    assert group.observe(host, f"{own} {ME}") == {"member": "yes"}
    assert group.observe(host, f"no-such-group {ME}")["missing"]
    assert group.observe(host, f"{own} no-such-user")["member"] == "no"


def state(tmp_path: Path, document: dict[str, Any]) -> None:
    folder = tmp_path / "var/lib/sparkfleet"
    folder.mkdir(parents=True)
    (folder / "prepared.json").write_text(json.dumps(document))


def test_requested_and_recorded_resources_are_observed_and_one_failure_is_its_own(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"kind": "file", "key": "/no/x", "arg": "", "before": {}, "applied": {}}
    state(tmp_path, {"version": 2, "salt": "00", "resources": {"file /no/x": entry}})

    def broken(*_: object) -> dict[str, str]:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(directory, "observe", broken)
    seen = resources.observe_all([["directory", "~/d", "@login 5"], ["file", "/no/y", ""]], "u", "/home/u")
    assert seen["record"]["resources"] == {"file /no/x": entry}
    assert list(seen["live"]) == ["file /no/x", "directory /home/u/d", "file /no/y"]
    assert seen["live"]["directory /home/u/d"]["error"].startswith("PermissionError")
    assert seen["live"]["file /no/y"] == {"is": "absent"}


def test_a_kind_that_is_not_known_is_an_error_of_that_resource(host: FakeHost) -> None:
    seen = resources.observe_all([["magic", "x", ""]], "u", "/home/u")
    assert seen["live"]["magic x"] == {"error": "ValueError: unknown kind of resource 'magic'"}


def test_a_program_that_is_not_installed_prints_nothing() -> None:
    host = resources.ObservedHost()
    assert host.output("no-such-program-of-this-name") == ""
    assert host.output("cat", stdin="hi") == "hi"


@pytest.mark.parametrize("kind", registry.names())
def test_the_probe_carries_of_a_kind_what_its_observe_needs_without_slow_imports(kind: str) -> None:
    text = observers.observer(kind)
    assert "sparkfleet" not in [
        line.split()[1].split(".")[0] for line in text.splitlines() if "import" in line
    ]
    for slow in ("dataclasses", "pathlib", "typing", "json", "hashlib", "subprocess"):
        assert f"\nimport {slow}" not in text
        assert f"\nfrom {slow}" not in text
    loaded: dict[str, Any] = {}
    exec(compile(text, kind, "exec"), loaded)
    functions = [one for one in loaded.values() if isinstance(one, FunctionType)]
    used = {
        found.argval
        for function in functions
        for found in dis.get_instructions(function)
        if found.opname == "LOAD_GLOBAL"
    }
    assert not {name for name in used if name not in loaded and not hasattr(builtins, name)}


def test_a_module_that_does_not_say_what_the_probe_carries_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observers.observer.cache_clear()
    monkeypatch.setattr(registry, "source", lambda _: "def observe(): ...\n")
    with pytest.raises(ValueError, match="lacks the line"):
        observers.observer("group")
    observers.observer.cache_clear()
