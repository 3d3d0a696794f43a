"""Errors on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sparkfleet import terminal
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import name_inventory, paragraph

PULL = Diagnostic("spark-01", "not pinned", hint="sparkfleet lock INVENTORY", code="lock-entry-missing")


@pytest.fixture
def named() -> Iterator[None]:
    name_inventory("inventories/home.py")
    yield
    name_inventory("")


@pytest.mark.usefixtures("named")
def test_a_command_in_a_message_names_the_inventory(capsys: pytest.CaptureFixture[str]) -> None:
    assert paragraph(PULL).endswith("do: sparkfleet lock inventories/home.py")
    terminal.echo_report("spark-01   blocked\n  do: pyinfra INVENTORY deploys/serve.py")
    assert "pyinfra inventories/home.py deploys/serve.py" in capsys.readouterr().out


def test_without_an_inventory_the_placeholder_stays() -> None:
    assert paragraph(PULL).endswith("do: sparkfleet lock INVENTORY")
