"""The inventory of a command that connects: all errors at once, with pins only where they are needed.

In processes of their own: pyinfra's modules patch the standard library for gevent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.config.fleet_files import SMALL, FleetFiles, write

INVENTORY = "from sparkfleet.inventory import load\nsparks = load(__file__)\n"
NOWHERE = "ssh: {hostname: 127.0.0.1, port: 1}\n"
MAIN = "from sparkfleet.cli import main; main()"


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], FleetFiles]:
    """Write a fleet into the current directory, with the file that pyinfra executes."""
    monkeypatch.chdir(tmp_path)
    return lambda files: write(tmp_path, {"inventories/lab.py": INVENTORY, **files})


def sparkfleet(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", MAIN, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_missing_lock_file_does_not_hide_an_unknown_limit(
    fleet: Callable[[dict[str, str]], FleetFiles],
) -> None:
    fleet({"spark-03.yaml": f"{NOWHERE}serve: {SMALL}\n"})
    done = sparkfleet("plan", "inventories/lab.py", "--limit", "spark-99", "--limit", "spark-0*")
    assert done.returncode == 1
    assert "inventories/lab/fleet.lock: the lock file does not exist" in done.stderr
    assert done.stderr.endswith(
        "--limit spark-99: no host matches [host-unknown]\n    expected: one of: spark-03\n"
    )


def test_status_needs_no_lock_file(fleet: Callable[[dict[str, str]], FleetFiles]) -> None:
    fleet({"spark-03.yaml": f"{NOWHERE}serve: {SMALL}\n"})
    done = sparkfleet("status", "inventories/lab.py", "--json")
    (host,) = json.loads(done.stdout)["hosts"]
    assert (done.returncode, host["host"]) == (1, "spark-03")
    assert host["unknown"]["code"] == "ssh-unreachable"
    assert "fleet.lock" not in done.stderr


def test_prune_refuses_an_unknown_host_before_it_connects(
    fleet: Callable[[dict[str, str]], FleetFiles],
) -> None:
    fleet({"spark-03.yaml": f"{NOWHERE}serve: {SMALL}\n"})
    done = sparkfleet("prune", "inventories/lab.py", "--exclude-host", "spark-99")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == "--exclude-host spark-99: no host matches [host-unknown]\n    expected: one of: spark-03\n"
    )


def test_an_inventory_that_does_not_exist_is_an_error_and_no_change(
    fleet: Callable[[dict[str, str]], FleetFiles],
) -> None:
    fleet({"spark-03.yaml": "serve: null\n"})
    done = sparkfleet("plan", "inventories/labs.py")
    assert done.returncode == 1
    assert done.stderr.startswith("inventories/labs.py: the fleet does not exist [fleet-unknown]\n")
    assert "did you mean inventories/lab.py?" in done.stderr
    Path("inventories/lab.py").unlink()
    done = sparkfleet("plan", "inventories/lab")
    assert done.returncode == 1
    assert done.stderr.startswith("inventories/lab.py: the inventory file does not exist [fleet-unknown]\n")


def test_an_invalid_command_line_has_a_code_of_its_own(
    fleet: Callable[[dict[str, str]], FleetFiles],
) -> None:
    fleet({"spark-03.yaml": "serve: null\n"})
    assert sparkfleet("plan", "inventories/lab.py", "--limt", "x").returncode == 64
