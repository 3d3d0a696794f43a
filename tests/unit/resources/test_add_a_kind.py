"""docs/how-to/add-a-kind-of-host-state.md, followed: its module appears in schema, plan, run and revert."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[3]
PAGE = REPO / "docs/how-to/add-a-kind-of-host-state.md"

FOLLOW = '''
import json, pathlib, subprocess, sys
from sparkfleet.resources import kinds
kinds.__path__.append(sys.argv[1])  # stands for src/sparkfleet/resources/kinds/
root = pathlib.Path(sys.argv[2])
out = {}

from sparkfleet.config.json_schema import schema
settings = schema("host")["$defs"]["PrepareSpec"]["properties"]
out["schema"] = settings["kernel_modules"]["description"]
out["pattern"] = settings["kernel_modules"]["anyOf"][0]["items"]["pattern"]
sys.path.insert(0, sys.argv[3])
from tools import generate_reference
section = generate_reference.section("prepare", generate_reference.models.PrepareSpec)
out["page"] = "`kernel_modules`" in section

from sparkfleet.config.merge import Layer
from sparkfleet.config.resources import prepare
from sparkfleet.desired_state import Host
layer = Layer({"prepare": {"kernel_modules": ["nvidia_peermem"]}}, lambda path: "host.yaml:1")
host = Host("spark-01", prepare=prepare([layer], "~/cache", "", []))

from dataclasses import replace
from sparkfleet.contract.resources import AppliedResources
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.report import SIGNS
from sparkfleet.probe.command import more_parts, sources
from sparkfleet.probe.observation import ObservedResources
from tests.unit.plan import fake_spark
request = probe_request(host)
out["requested"] = request.resources
out["sent"] = [name for name, _ in sources(more_parts(request), request.kinds) if "kinds." in name]

from sparkfleet import zipapp
(root / "programs.pyz").write_bytes(zipapp.build())

def observe():
    """The probe's and the run's view of the Spark below root, by the programs that a Spark gets."""
    default = ["kernel_module", "nvidia_peermem", ""]
    return on_spark("observe", request.resources[0] if request.resources else default)

def on_spark(what, data):
    program = root / "on_spark.py"
    program.write_text(ON_SPARK)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", str(program), str(root), what, json.dumps(data)],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

ON_SPARK = """
import json, sys
from pathlib import Path
root, what, data = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, root + "/programs.pyz")
from sparkfleet.contract.resources import ResourceRequest
from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine.system import Paths, CommandResult
from sparkfleet.onhost.resources import apply
from sparkfleet.onhost.resources.access import HostAccess

class System:
    paths = Paths(state=Path(root, "state"), units=Path(root, "units"))
    def run(self, argv, timeout_s=60):
        with open(root + "/commands", "a") as log:
            log.write(" ".join(argv) + "\\\\n")
        return CommandResult(0)

if what == "observe":
    print(json.dumps(resources.observe(HostAccess(System(), root + "/spark"), *data)))
else:
    request = ResourceRequest.from_json(data)
    print(json.dumps(apply.run(System(), request, root + "/spark").to_json()))
"""

def plan(host, live, record):
    bare = fake_spark.converged(replace(host, prepare=replace(host.prepare, resources=())))
    seen = replace(bare, resources=ObservedResources(record, live), recorded=tuple(record))
    found = host_plan(host, seen).change_sets
    rows = [(SIGNS[c.action], c.name, c.key, c.old, c.new) for one in found for c in one.fields()]
    return rows, [operation for one in found for operation in one.operations]

from sparkfleet.fleet.operations import resource_request
name = host.prepare.resources[0].id
rows, operations = plan(host, {name: observe()}, {})
out["plan"] = rows
change = resource_request.request(host, fake_spark.USER, operations)
out["applied"] = on_spark("apply", change.to_json())
out["file"] = (root / "spark/etc/modules-load.d/sparkfleet-nvidia_peermem.conf").read_text()
record = AppliedResources.from_json(json.loads((root / "state/prepared.json").read_text())).resources
out["again"] = plan(host, {name: observe()}, record)[0]

gone = replace(host, prepare=replace(host.prepare, resources=()))
rows, operations = plan(gone, {name: observe()}, record)
out["revert plan"] = rows
change = resource_request.request(gone, fake_spark.USER, operations)
out["reverted"] = on_spark("apply", change.to_json())
out["left"] = sorted(str(path.relative_to(root / "spark")) for path in (root / "spark").rglob("*.conf"))
out["commands"] = (root / "commands").read_text().splitlines()

page = {}
exec(pathlib.Path(sys.argv[4]).read_text(), page)
(test_of_the_page,) = (value for name, value in page.items() if name.startswith("test_"))
test_of_the_page(root / "page")
print(json.dumps(out))
'''


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page's module in a folder of its own, and all that a run does with it."""
    tmp = tmp_path_factory.mktemp("kind")
    module, test = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp / "kinds").mkdir()
    (tmp / "kinds" / "kernel_module.py").write_text(module)
    (tmp / "test_kernel_module.py").write_text(test)
    (tmp / "root" / "spark" / "etc" / "modules-load.d").mkdir(parents=True)
    (tmp / "root" / "state").mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            FOLLOW,
            str(tmp / "kinds"),
            str(tmp / "root"),
            str(REPO),
            str(tmp / "test_kernel_module.py"),
        ],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_setting_is_in_the_schema_and_on_the_reference_page(followed: dict[str, Any]) -> None:
    assert followed["schema"].startswith("Kernel modules that are loaded")
    assert followed["pattern"] == "^[a-z0-9_]+$"
    assert followed["page"]


def test_the_probe_observes_it_and_carries_its_module_alone(followed: dict[str, Any]) -> None:
    assert followed["requested"] == [["kernel_module", "nvidia_peermem", ""]]
    assert followed["sent"] == ["sparkfleet.resources.kinds.kernel_module"]


def test_the_plan_shows_it_the_run_applies_it_and_the_next_plan_is_empty(followed: dict[str, Any]) -> None:
    assert followed["plan"] == [["+", "kernel_module", "nvidia_peermem", "", "loaded at boot"]]
    assert followed["applied"]["done"] == ["kernel_module nvidia_peermem"]
    assert followed["file"] == "# Written by sparkfleet.\nnvidia_peermem\n"
    assert followed["commands"][0] == "modprobe nvidia_peermem"
    assert followed["again"] == []


def test_no_longer_declared_it_is_reverted(followed: dict[str, Any]) -> None:
    assert followed["revert plan"] == [["-", "kernel_module", "nvidia_peermem", "", ""]]
    assert followed["reverted"]["done"] == ["kernel_module nvidia_peermem"]
    assert followed["commands"][1:] == ["modprobe --remove nvidia_peermem"]
    assert followed["left"] == []
