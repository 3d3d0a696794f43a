"""How the Spark itself is: each kind of thing as the look tells it, from the system's files and words."""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.collectors import basics, resources

ME = getpass.getuser()


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system whose files are below a directory, and whose programs say nothing."""
    for name, path in {
        "SYSCTL_FILE": "90-sparkfleet.conf",
        "DOCKER_CONFIG": "config.json",
        "FSTAB": "fstab",
    }.items():
        monkeypatch.setattr(resources, name, str(tmp_path / path))
    monkeypatch.setattr(basics, "STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(basics, "UNIT_DIR", str(tmp_path))
    monkeypatch.setattr(resources, "ran", lambda *_, **__: "")
    return tmp_path


def says(monkeypatch: pytest.MonkeyPatch, text: str) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def ran(*words: str, given: str = "") -> str:
        asked.append((*words, given))
        return text

    monkeypatch.setattr(resources, "ran", ran)
    return asked


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("~", "/home/u"), ("~/x", "/home/u/x"), ("/a~/b", "/a~/b"), ("docker @login", "docker u"), ("~x", "~x")],
)
def test_login_user_and_home_are_put_in(text: str, expanded: str) -> None:
    assert resources.expand(text, "u", "/home/u") == expanded


def test_a_path_is_absent_or_has_kind_mode_owner_and_hash(system: Path) -> None:
    path = system / "x"
    assert resources.file(str(path)) == {"is": "absent"}
    assert resources.file(str(path / "deeper")) == {"is": "absent"}
    path.write_text("hi")
    path.chmod(0o640)
    seen = resources.file(str(path))
    assert (seen["is"], seen["mode"], seen["owner"]) == ("file", "0640", ME)
    assert seen["sha256"] == hashlib.sha256(b"hi").hexdigest()
    (system / "link").symlink_to(path)
    assert resources.file(str(system / "link"))["is"] == "link"
    os.mkfifo(system / "fifo")
    assert resources.file(str(system / "fifo"))["is"] == "other"


def test_entries_of_others_are_counted_up_to_the_limit(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = system / "d"
    (path / "deep").mkdir(parents=True)
    for name in ("a", "b", "deep/c"):
        (path / name).touch()
    assert resources.directory(str(path), f"{ME} 10")["others"] == "0"
    assert resources.directory(str(path), "nobody-of-this-name 10")["others"] == "0"
    other = "nobody" if ME != "nobody" else "root"
    assert resources.directory(str(path), f"{other} 10")["others"] == "4"
    assert resources.directory(str(path), f"{other} 4")["others"] == "4"
    assert resources.directory(str(path), f"{other} 3")["others"] == "many"
    monkeypatch.setattr(resources, "MOST_ENTRIES", 2)
    assert resources.directory(str(path), f"{other} 10")["others"] == "3"  # the rest is not looked at
    assert resources.directory(str(path), f"{ME} 10")["empty"] == "no"


def test_sysctls_are_told_as_they_are_now_and_in_our_file(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (system / "vm").mkdir()
    (system / "vm" / "x").write_text("4096\t16384   4194304\n")
    (system / "90-sparkfleet.conf").write_text("# Written\nvm.x = 1  2\nnothing\n")
    monkeypatch.setattr(resources, "sysctl_path", lambda name: str(system / name.replace(".", "/")))
    assert resources.sysctl("vm.x") == {"now": "4096 16384 4194304", "at boot": "1 2"}
    assert resources.sysctl("vm.y") == {"is": "no such setting", "now": "", "at boot": ""}


def test_a_file_that_is_read_after_ours_and_sets_the_same_is_named(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "lib/99-x.conf": "vm.x = 1\n",
        "etc/99-x.conf": "# vm.x = 2\n-vm/x=3\n",
        "etc/10-early.conf": "vm.x = 4\n",
    }.items():
        (system / name).parent.mkdir(exist_ok=True)
        (system / name).write_text(text)
    monkeypatch.setattr(resources, "SYSCTL_DIRS", (f"{system}/lib", f"{system}/etc"))
    seen = resources.sysctl("vm.x")
    assert (seen["later"], seen["set"]) == (f"{system}/etc/99-x.conf", "3")
    assert "later" not in resources.sysctl("vm.y")


def test_swap_at_boot_is_what_fstab_makes(system: Path) -> None:
    (system / "fstab").write_text("# /a none swap sw 0 0\n/b none swap sw 0 0\n/c / ext4 x 0 1\n\n")
    assert resources.swap("swap")["at boot"] == "/b"


def test_packages_are_those_installed_and_held_those_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "nvidia-a ii \nnvidia-b hi \nnvidia-c rc \nnvidia-d un \n\n"
    asked = says(monkeypatch, said)
    assert resources.hold("nvidia-*") == {"held": "nvidia-b", "free": "nvidia-a"}
    assert asked[0][0] == "dpkg-query"
    assert resources.package("nvidia-a") == {"is": "installed"}
    says(monkeypatch, "htop rc \n")
    assert resources.package("htop") == {"is": "absent"}


@pytest.mark.parametrize(
    ("said", "seen"),
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
def test_a_unit_runs_or_not_now_and_at_boot(
    monkeypatch: pytest.MonkeyPatch, said: str, seen: tuple[str, str, str]
) -> None:
    says(monkeypatch, said)
    found = resources.service("x.service")
    assert (found["at boot"], found["now"], found.get("unit", "")) == seen


def test_what_the_gpu_is_told_at_boot_is_read_from_our_unit(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resources.gpu("gpu") == {"is": "absent"}
    says(monkeypatch, "UnitFileState=enabled\nActiveState=active\n")
    smi = "ExecStart=/usr/bin/env nvidia-smi"
    (system / resources.GPU_UNIT).write_text(f"[Service]\n{smi} -pm 1\n{smi} -lgc 300,900\n")
    assert resources.gpu("gpu") == {
        "persistence": "1", "power limit": "", "clocks": "300,900", "unit": "enabled active",
    }  # fmt: skip


def test_the_rule_of_a_valve_user_is_read_without_comments(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resources.sudoers_path("a.b") == "/etc/sudoers.d/spark-valve-a_b"
    monkeypatch.setattr(resources, "sudoers_path", lambda _: str(system / "rule"))
    assert resources.sudoers("worker") == {"is": "absent", "rule": ""}
    (system / "rule").write_text("# Written\nworker ALL=x\n\nworker ALL=y\n")
    assert resources.sudoers("worker")["rule"] == "worker ALL=x; worker ALL=y"


def test_a_secret_is_told_by_a_salted_hash_alone(system: Path) -> None:
    (system / "state").mkdir()
    (system / "state" / "prepared.json").write_text(json.dumps({"salt": "ab" * 16}))
    (system / "token").write_text("hf_secret\n")
    seen = resources.token(str(system / "token"))
    assert seen["hash"] == resources.digest(b"hf_secret", bytes.fromhex("ab" * 16))
    assert "hf_secret" not in json.dumps(seen)
    assert "sha256" not in seen  # without salt it could be guessed at
    assert resources.token(str(system / "nothing")) == {"is": "absent"}


def test_without_a_salt_of_the_spark_each_look_makes_one(system: Path) -> None:
    (system / "token").write_text("hf_secret")
    assert resources.token(str(system / "token"))["salt"] != resources.token(str(system / "token"))["salt"]


def test_a_login_is_read_where_it_is_kept(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resources.login("nvcr.io", "") == {"is": "absent"}
    config = system / "config.json"
    config.write_text(json.dumps({"auths": {"nvcr.io": {"auth": base64.b64encode(b"u:key").decode()}}}))
    seen = resources.login("nvcr.io", "")
    assert (seen["secret"], seen["helper"]) == ("there", "")
    assert seen["hash"] == resources.digest(b"u:key", bytes.fromhex(seen["salt"]))
    assert resources.login("nvcr.io", "pass")["secret"] == "kept by the file"
    config.write_text(json.dumps({"credHelpers": {"nvcr.io": "pass"}}))
    assert resources.login("nvcr.io", "pass") == {"is": "absent"}
    asked = says(monkeypatch, json.dumps({"Username": "u", "Secret": "key"}))
    seen = resources.login("nvcr.io", "pass")
    assert asked == [("docker-credential-pass", "get", "nvcr.io")]
    assert seen["hash"] == resources.digest(b"u:key", bytes.fromhex(seen["salt"]))
    assert resources.login("nvcr.io", "")["secret"] == "kept by pass"


def test_docker_hub_is_found_under_its_own_name(system: Path) -> None:
    auths = {"https://index.docker.io/v1/": {"auth": base64.b64encode(b"u:k").decode()}}
    (system / "config.json").write_text(json.dumps({"auths": auths}))
    assert resources.login("docker.io", "")["is"] == "login"


def test_caches_have_size_last_change_and_whether_a_service_needs_them(system: Path) -> None:
    top = system / "cache"
    used, old = top / ("a" * 12), top / ("b" * 12)
    for path in (used, old, top / "not-a-cache"):
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"x" * 5000)
        os.utime(path / "file", (1000, 1000))
        os.utime(path, (500, 500))
    (top / ("c" * 12)).symlink_to(old)
    (system / "state" / "services" / "nano").mkdir(parents=True)
    (system / "state" / "services" / "nano" / "current.json").write_text(f'["{used}"]')
    found = resources.caches(str(top))["caches"]
    assert list(found) == ["a" * 12, "b" * 12]
    assert found["a" * 12][1:] == [1000, True]
    assert found["b" * 12][1:] == [1000, False]
    assert found["b" * 12][0] >= 5000
    assert resources.caches(str(system / "nothing"))["caches"] == {}


def test_a_membership_is_that_of_the_group_or_the_users_own() -> None:
    import grp  # noqa: PLC0415

    own = grp.getgrgid(os.getgid()).gr_name
    assert resources.group(f"{own} {ME}") == {"member": "yes"}
    assert resources.group(f"no-such-group {ME}")["missing"]
    assert resources.group(f"{own} no-such-user")["member"] == "no"


def test_what_is_asked_and_what_is_on_record_is_looked_at_and_one_failure_is_its_own(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (system / "state").mkdir()
    kept = {"file /etc/x": {"kind": "file", "key": "/etc/x", "arg": "", "before": {}, "put": {}}}
    (system / "state" / "prepared.json").write_text(json.dumps({"salt": "00", "items": kept}))

    def broken(*_: str) -> dict[str, str]:
        raise PermissionError(13, "denied")

    monkeypatch.setitem(resources.LOOKS, "directory", broken)
    seen = resources.look_at_items(
        [["directory", "~/d", "@login 5"], ["package", "htop", ""]], "u", str(system)
    )
    assert seen["record"] == kept
    assert list(seen["live"]) == ["file /etc/x", f"directory {system}/d", "package htop"]
    assert seen["live"][f"directory {system}/d"]["error"].startswith("PermissionError")
    assert seen["live"]["package htop"] == {"is": "absent"}


def test_a_program_that_is_not_there_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert resources.ran("no-such-program-of-this-name") == ""
    assert resources.ran("cat", given="hi") == "hi"
