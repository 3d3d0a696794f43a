"""A host that an older version prepared is taken over without restarting its engine.

``tests/fixtures/host_state/<commit>`` is the state of a lab Spark after runs of that commit's own code: a
model deployed and changed once, a directory and a sysctl declared. ``docker inspect``, units and the state
directory are as they were there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.generation import CurrentGeneration, PromotedGeneration
from sparkfleet.inventory import load_fleet
from sparkfleet.onhost.collectors import basics, state
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import ChangeKind, HostState
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.response import read_response
from sparkfleet.runtimes.docker.collectors.probe import container_facts

STATES = Path(__file__).parents[2] / "fixtures" / "host_state"
COMMITS = sorted(path.name for path in STATES.iterdir())


def response(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what the probe answers on the Spark of a fixture."""
    root = folder / "root"
    monkeypatch.setattr(basics, "STATE_DIR", str(root / "var/lib/sparkfleet"))
    (container, image) = (
        json.loads((folder / name).read_text()) for name in ("container.json", "image.json")
    )
    seen = {
        "id": image["Id"], "digests": image["RepoDigests"], "entrypoint": image["Config"]["Entrypoint"] or [],
        "env": image["Config"]["Env"], "labels": image["Config"]["Labels"] or {}, "user": "",
        "working_dir": image["Config"]["WorkingDir"], "size": image["Size"],
    }  # fmt: skip
    (name,) = image["RepoDigests"]
    disk = {"path": "/", "total": 1 << 40, "free": 1 << 39, "read_only": False}
    return json.dumps({
        "host": {"arch": "aarch64"},
        "sudo": {"state": "ok"},
        "user": {"name": "nvidia", "home": "/home/nvidia", "uid": 1000, "gid": 1000, "group": "nvidia",
                 "groups": ["nvidia"]},
        "memory": {"total_mib": 24000, "available_mib": 23000},
        "disks": dict.fromkeys(("models", "cache", "images", "state", "units", "programs"), disk),
        "runtimes": {"docker": {"state": "ok", "images": {name: seen, image["Id"]: seen},
                   "containers": [container_facts(container, compared=True)]}},
        "systemd": {"state": "ok", "units": units(folder)},
        "state": state.collect_state(),
        "paths": paths(folder),
        "weights": weights(folder),
        "listeners": {"8000": {"pid": 7, "command": "vllm", "cgroup": f"0::/docker/{container['Id']}"}},
        "toolkit": {"programs": ["nvidia-container-runtime-hook"], "cdi": []},
    })  # fmt: skip


def units(folder: Path) -> dict[str, Any]:
    lines = (folder / "show.txt").read_text().splitlines()
    shown = dict(line.split("=", 1) for line in lines if "=" in line)
    nano, recover = (
        (folder / "root/etc/systemd/system" / name).read_text()
        for name in ("sparkfleet-nano.service", "sparkfleet-recover.service")
    )
    runs = {"active": shown["ActiveState"], "sub": shown["SubState"], "enabled": shown["UnitFileState"]}
    status = {"result": shown["Result"], "status": shown["StatusText"]}
    return {
        "sparkfleet-nano.service": {"text": nano, "drop_ins": {}, "reload": False, **runs, **status},
        "sparkfleet-recover.service": {"text": recover, "drop_ins": {}, "enabled": "enabled"},
    }


def paths(folder: Path) -> dict[str, Any]:
    """Return the program files by their content there, and directories as the run left them."""
    root = folder / "root"
    sha256, path = (folder / "programs.sha256").read_text().split()
    owner = {"user": "root", "group": "root"}
    found = {path: {"kind": "file", "mode": "0755", "sha256": sha256, **owner}}
    for name, mode in (
        ("/usr/local/bin/spark-valve", "0755"),
        ("/etc/systemd/system/sparkfleet-recover.service", "0644"),
    ):
        digest = basics.sha256_of(str(root / name.lstrip("/")))
        found[name] = {"kind": "file", "mode": mode, "sha256": digest, **owner}
    found["/var/lib/sparkfleet"] = {"kind": "directory", "mode": "0755", **owner}
    user = {"user": "nvidia", "group": "nvidia"}
    for path in probe_request(host(folder)).paths:
        absent = {"kind": "absent"} if path.startswith("/") else {"kind": "directory", "mode": "0755", **user}
        found.setdefault(path, absent)
    return found


def weights(folder: Path) -> dict[str, Any]:
    models = {
        f"{one.repo}@{one.revision}": {
            file.path: {"size": file.size, "blob": file.blob} for file in one.files
        }
        for service in host(folder).services
        for one in service.repositories
    }
    return {"models": models}


def host(folder: Path) -> Any:
    (found,) = load_fleet(folder / "fleet" / "lab.py").hosts
    return found


@pytest.mark.parametrize("commit", COMMITS)
def test_the_plan_over_an_older_hosts_state_restarts_no_engine(
    commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = read_response("spark-01", response(STATES / commit, monkeypatch))
    assert isinstance(observed, Observed), observed
    plan = host_plan(host(STATES / commit), observed)
    assert plan.state is HostState.CHANGE
    prepare, nano = plan.change_sets
    assert prepare.kind is ChangeKind.PREPARE
    assert [change.name for change in prepare.fields()] == ["programs", "unit"]
    assert nano.kind is ChangeKind.UPDATE  # the supervisor is replaced, its engine serves on
    assert nano.downtime is None
    assert nano.blocked is None
    assert {change.name for change in nano.fields()} <= {"unit", "supervisor", "gate"}


@pytest.mark.parametrize("commit", COMMITS)
def test_the_records_of_an_older_host_keep_their_generations_ids(commit: str) -> None:
    services = STATES / commit / "root/var/lib/sparkfleet/services"
    for path in sorted(services.glob("*/current.json")) + sorted(services.glob("*/generations/*.json")):
        kind = CurrentGeneration if path.name == "current.json" else PromotedGeneration
        data = json.loads(path.read_text())
        assert kind.from_json(data).id == data["id"]
        container = kind.from_json(data).container
        assert container is not None
        assert container.generation == data["id"]
