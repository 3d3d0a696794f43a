"""Every field of a service: set, repeated, changed, unset. The plan lists that field, then nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fields import NO_CHANGE, SETTINGS, Field, folders, parts
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.shared_spark import NANO, Row, SharedSpark, converge_spark, merged


@pytest.fixture(scope="module")
def shared_spark(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> SharedSpark:
    return converge_spark(lab, lab_state, tmp_path_factory.mktemp("fields"))


@pytest.fixture
def nano(shared_spark: SharedSpark) -> SharedSpark:
    """A converged Spark that serves nemotron-3-nano as its recipe declares."""
    shared_spark.restore()
    return shared_spark


@pytest.fixture(scope="module")
def digests(lab_state: State) -> dict[str, str]:
    return {ref.rpartition(":")[2]: digest for ref, digest in lab_state.images}


@dataclass(frozen=True)
class HostAliases:
    """One Spark under many host names: one plan compares it with a host file for each."""

    fleet: FleetDirectory
    spark: Machine

    def plans(self, services: Mapping[str, Mapping[str, Any]]) -> dict[str, set[Row]]:
        """Return what one plan lists for each service, each declared by a host file of its own."""
        names = {f"as-{number}": text for number, text in enumerate(services)}
        config = self.fleet.root / "ssh_config"
        config.write_text(self.spark.lab.ssh_config.read_text().replace("Host spark-01", "Host as-*"))
        # By default sshd drops connections when many arrive at once.
        self.spark.sh("echo MaxStartups 100 > /etc/ssh/sshd_config.d/many.conf; systemctl reload ssh")
        for host, text in names.items():
            ssh = {"config_file": str(config)}
            self.fleet.host(host, {"ssh": ssh, "serve": [{**NANO, **services[text]}]})
        self.fleet.lock()
        found = {}
        for host in self.fleet.plan_data()["hosts"]:
            assert host["unknown"] is None, host
            operations = (one for own in host["change_sets"] for one in own["operations"])
            changes = [field for operation in operations for field in operation["fields"]]
            found[names[host["host"]]] = {(c["name"], c["key"], c["old"], c["new"]) for c in changes}
        return found


@pytest.fixture
def aliases(nano: SharedSpark, lab: Lab, tmp_path: Path) -> HostAliases:
    return HostAliases(FleetDirectory(tmp_path / "aliases", lab), nano.spark)


@pytest.mark.parametrize("state", [1, 2])
def test_the_plan_of_each_field_lists_that_field_alone_with_old_and_new(
    aliases: HostAliases, digests: dict[str, str], state: int
) -> None:
    fields = [field for field in (*SETTINGS, *parts(digests)) if field.of == "service"]
    found = aliases.plans({field.name: field.declaration(state) for field in fields})
    assert found == {field.name: field.between(0, state, aliases.spark) for field in fields}


def test_other_spellings_of_the_same_value_are_no_change(aliases: HostAliases) -> None:
    assert aliases.plans(NO_CHANGE) == {name: set() for name in NO_CHANGE}


def test_all_settings_set_again_changed_and_unset_are_listed_and_converge(
    nano: SharedSpark, digests: dict[str, str]
) -> None:
    apply_each_state(nano, (*SETTINGS, *folders(digests)))


def test_all_fields_that_a_service_consists_of_are_changed_and_restored(
    nano: SharedSpark, digests: dict[str, str]
) -> None:
    apply_each_state(nano, parts(digests))


ALL_NAMES = [field.name for field in (*SETTINGS, *folders({"26.04-py3": ""}))] + [
    "image", "revision", "name", "container.network", "a second service, then its recipe"
]  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("name", ALL_NAMES)
def test_a_field_set_again_changed_and_unset_is_listed_and_converges(
    nano: SharedSpark, digests: dict[str, str], name: str
) -> None:
    fields = (*SETTINGS, *folders(digests), *parts(digests))
    apply_each_state(nano, tuple(field for field in fields if field.name == name))


def apply_each_state(nano: SharedSpark, fields: tuple[Field, ...]) -> None:
    """Set fields to their first value, to their second, and unset them; run and plan each time."""
    assert fields
    for old, new in ((0, 1), (1, 2), (2, 0)):
        declare(nano, fields, new)
        nano.fleet.lock()
        expected = set().union(*(field.between(old, new, nano.spark) for field in fields))
        assert set(nano.changes()) == expected
        nano.fleet.run().expect(0)
        nano.expect_empty_plan()


def declare(nano: SharedSpark, fields: tuple[Field, ...], state: int) -> None:
    """Write host file and group_data with the fields in this state."""
    service: dict[str, Any] = {}
    group: dict[str, Any] = {}
    beside: list[dict[str, Any]] = []
    for field in fields:
        declaration = field.declaration(state)
        if field.of == "service":
            service = merged(service, declaration)
        elif field.of == "group":
            group |= declaration
        elif declaration:
            beside.append(dict(declaration))
    ignore_rules = dict.fromkeys(("MEM-06", "MEM-08"), "the lab's engines are small")
    nano.declare(service, beside=beside, ignore_rules=ignore_rules)
    nano.fleet.extra.clear()
    nano.fleet.set_group_data(**group)
