"""What identifies a Spark, and what members of a cluster are compared for: files in, values out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.onhost.collectors import basics, machine
from sparkfleet.probe.machine import (
    CMDLINE,
    DRIVER,
    HOST_KEYS,
    MACHINE_ID,
    RDMA,
    MachineTexts,
    ObservedMachine,
    boot_parameters,
    driver_flavour,
    driver_version,
    machine_seen,
    shown,
)
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.response import read_response
from tests.unit.plan.preflight.preflight_results import data

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build  (dvs-builder)\n"
PROPRIETARY = "NVRM version: NVIDIA UNIX aarch64 Kernel Module  580.173.02  Tue Sep 23 09:55:41 UTC 2025\n"
COMPILER = "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"


def spark(root: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def seen(root: Path) -> ObservedMachine:
    return machine_seen(codec.read(MachineTexts, machine.collect_machine(str(root)), "machine"))


def test_the_files_of_a_spark_become_values(tmp_path: Path) -> None:
    key = tmp_path / "etc/ssh/ssh_host_ed25519_key"
    key.parent.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    found = seen(
        spark(
            tmp_path,
            {
                MACHINE_ID: "0123456789abcdef0123456789abcdef\n",
                CMDLINE: "BOOT_IMAGE=/boot/vmlinuz-7.0 root=UUID=1 ro kho=off\n",
                DRIVER: OPEN + COMPILER,
                f"{RDMA}/rocep1s0f0/fw_ver": "28.45.4028\n",
                f"{RDMA}/roceP2p1s0f0/fw_ver": "28.45.4028\n",
            },
        )
    )
    printed = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], capture_output=True, text=True, check=True)
    assert found.machine_id == "0123456789abcdef0123456789abcdef"
    assert found.parameters == ("kho=off", "ro")
    assert (found.driver, found.flavour, found.firmware) == ("580.95.05", "open", ("28.45.4028",))
    assert found.host_keys == (("ssh-ed25519", printed.stdout.split()[1]),)
    assert (found.name, found.kernel) == (os.uname().nodename, os.uname().release)
    assert found.unread == {}


def test_a_private_key_is_not_read(tmp_path: Path) -> None:
    spark(tmp_path, {f"{HOST_KEYS}/ssh_host_rsa_key": "canary", f"{HOST_KEYS}/sshd_config": "canary"})
    assert "canary" not in json.dumps(machine.collect_machine(str(tmp_path)))


def test_what_is_absent_is_empty_and_what_is_unreadable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seen(tmp_path).unread == {CMDLINE: "it is empty, or not there"}
    assert seen(tmp_path).driver == seen(tmp_path).machine_id == ""

    def refuse(path: str, *_: int) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(basics, "read_text", refuse)
    (tmp_path / "etc/ssh/ssh_host_x.pub").parent.mkdir(parents=True)
    (tmp_path / "etc/ssh/ssh_host_x.pub").write_text("")
    found = seen(tmp_path)
    for path in (MACHINE_ID, CMDLINE, DRIVER, HOST_KEYS):
        assert "Permission denied" in found.reason(path)
    assert found.reason(RDMA) == ""


@pytest.mark.parametrize("text", [COMPILER, "NVRM version: something of 2027\n"])
def test_a_driver_that_cannot_be_understood_is_unknown_and_not_absent(tmp_path: Path, text: str) -> None:
    found = seen(spark(tmp_path, {DRIVER: text, CMDLINE: "ro"}))
    assert "of an unknown form" in found.reason(DRIVER)
    assert found.reason(CMDLINE) == ""


@pytest.mark.parametrize("text", ["uninitialized\n", "", "0" * 32, "0123", "g" * 32])
def test_an_invalid_machine_id_identifies_no_host(tmp_path: Path, text: str) -> None:
    assert seen(spark(tmp_path, {MACHINE_ID: text})).machine_id == ""


@pytest.mark.parametrize(
    ("text", "version", "flavour"),
    [
        (OPEN + COMPILER, "580.95.05", "open"),
        (PROPRIETARY + COMPILER, "580.173.02", "proprietary"),
        (COMPILER, "", ""),
        ("NVRM version: something of 2027\n", "", ""),
        ("", "", ""),
    ],
)
def test_a_driver_has_a_version_and_a_flavour_or_neither_is_known(
    text: str, version: str, flavour: str
) -> None:
    assert (driver_version(text), driver_flavour(text)) == (version, flavour)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("root=UUID=1 quiet kho=off", "kho=off quiet root=UUID=2", True),
        ("BOOT_IMAGE=/vmlinuz-1 quiet", "BOOT_IMAGE=/vmlinuz-2 quiet", True),
        ("init-on-alloc=0", "init_on_alloc=0", True),
        ("quiet", "quiet kho=off", False),
        ("kho=on kho=off", "kho=off kho=on", False),
        ('dyndbg="file a.c +p" x', 'dyndbg="file b.c +p" x', False),
        ("rootwait", "", False),
    ],
)
def test_boot_parameters_are_equal_by_meaning(one: str, other: str, equal: bool) -> None:
    assert (boot_parameters(one) == boot_parameters(other)) is equal


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("netconsole.password=canary", "netconsole.password=***"),
        ("rd.luks.key=canary", "rd.luks.key=***"),
        ("systemd.set_credential=x:canary", "systemd.set_credential=***"),
        ("systemd.setenv=API_TOKEN=canary", "systemd.setenv=***"),
        ("netroot=iscsi:me:canary@192.0.2.1::::x", "netroot=***"),
        ("keyboard=us", "keyboard=us"),
        ("token", "token"),
        ("kho=off", "kho=off"),
    ],
)
def test_the_value_of_a_secret_parameter_is_not_shown(word: str, text: str) -> None:
    assert shown(word) == text


WRONG: list[Any] = [None, {"error": "OSError: x"}, {"name": 1, "kernel": "k"}]


@pytest.mark.parametrize("part", WRONG)
def test_a_spark_whose_part_is_missing_or_wrong_is_planned_and_not_compared(part: Any) -> None:
    found = read_response("spark-01", json.dumps({"version": 1, **data(machine=part)}))
    assert isinstance(found, Observed)
    assert found.machine.machine_id == ""
    assert all(found.machine.reason(path) for path in (MACHINE_ID, CMDLINE, DRIVER, HOST_KEYS, RDMA))
