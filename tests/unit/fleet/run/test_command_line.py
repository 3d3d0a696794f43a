"""pyinfra's own words that would be misunderstood are refused before anything happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkfleet.fleet.run.command_line import diagnostic_of


@pytest.fixture
def inventory(tmp_path: Path) -> str:
    path = tmp_path / "lab.py"
    path.write_text("sparks = []\n")
    return str(path)


def test_an_inventory_that_does_not_exist_is_refused() -> None:
    diagnostic = diagnostic_of(["inventories/nope.py", "deploys/serve.py", "--dry"], interactive=True)
    assert diagnostic is not None
    assert diagnostic.message == "the fleet does not exist"
    assert diagnostic.code == "fleet-unknown"


@pytest.mark.provokes("confirmation-required")
def test_dry_with_yes_is_refused_since_it_would_show_nothing(inventory: str) -> None:
    diagnostic = diagnostic_of([inventory, "deploys/serve.py", "--dry", "-y"], interactive=True)
    assert diagnostic is not None
    assert "--dry together with -y" in diagnostic.message


def test_without_a_terminal_a_run_needs_its_consent_on_the_command_line(inventory: str) -> None:
    assert diagnostic_of([inventory, "deploys/serve.py"], interactive=False) is not None
    for word in ("-y", "--yes", "--dry", "--json"):
        assert diagnostic_of([inventory, "deploys/serve.py", word], interactive=False) is None


def test_valid_args_pass(inventory: str) -> None:
    assert diagnostic_of([inventory, "deploys/serve.py"], interactive=True) is None
    assert diagnostic_of(["--version"], interactive=True) is None


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "spark-01.yaml").write_text("serve: null\n")
    path = tmp_path / "lab.py"
    path.write_text("from sparkfleet.inventory import load\nsparks = load(__file__)\nheads = []\n")
    return str(path)


@pytest.mark.parametrize(
    "limit", [["--limit", "spark-10"], ["--limit=sprak-01"], ["--limit", "all", "--limit", "x"]]
)
def test_a_limit_that_matches_nothing_is_refused(fleet: str, limit: list[str]) -> None:
    diagnostic = diagnostic_of([fleet, "deploys/serve.py", "-y", *limit], interactive=True)
    assert diagnostic is not None
    assert (diagnostic.message, diagnostic.expected) == ("no host matches", "one of: spark-01")


@pytest.mark.parametrize("limit", ["spark-01", "spark-*", "all", "lab", "sparks", "heads", "@local"])
def test_a_limit_that_matches_hosts_or_a_group_is_left_to_pyinfra(fleet: str, limit: str) -> None:
    assert diagnostic_of([fleet, "deploys/serve.py", "-y", "--limit", limit], interactive=True) is None
