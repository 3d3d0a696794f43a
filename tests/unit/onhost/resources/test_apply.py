"""Resources applied and reverted, with a kind made up for the test: checked first, recorded before they are
changed, completed after a kill.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparkfleet.contract import codec
from sparkfleet.contract.resources import Applied, ResourceRequest, ResourceResult, ResourceToApply
from sparkfleet.onhost.resources import apply, record
from sparkfleet.onhost.resources.access import HostAccess
from sparkfleet.onhost.state import store
from sparkfleet.resources import registry
from sparkfleet.resources.base import Host, ObservedHost, ResourceError, ResourceKind, Target
from tests.unit.onhost.world import Killed, World

Values = dict[str, str]


class Knobs(ResourceKind):
    """A machine of knobs, each with a value; "bad" is refused, "stuck" has no effect."""

    name = "knob"
    order = 1

    def __init__(self, world: World) -> None:
        self.world = world
        self.values: Values = {}

    def observe(self, _: ObservedHost, key: str, __: str = "") -> dict[str, str]:
        return {"value": self.values.get(key, "0")}

    def check(self, _: Host, target: Target) -> None:
        if target.fields["value"] == "bad":
            raise ResourceError(f"{target.key} cannot be bad", "a number", "correct it")

    def apply(self, _: Host, target: Target) -> None:
        value = target.fields["value"]
        if value == "late":
            raise ResourceError("refused while it was applied")
        if value == "full":
            raise OSError(28, "No space left on device", "/etc/x")
        if value != "stuck":
            self.turn(target.key, value)

    def revert(self, _: Host, entry: Applied, names: tuple[str, ...]) -> None:
        assert names == ("value",)
        self.turn(entry.key, entry.before["value"])

    def turn(self, key: str, value: str) -> None:
        self.world.point()
        self.values[key] = value
        self.world.point()


@pytest.fixture
def knobs(world: World, monkeypatch: pytest.MonkeyPatch) -> Knobs:
    kind, module = Knobs(world), ModuleType("sparkfleet.resources.kinds.knob")
    module.observe = kind.observe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.kinds(), "knob", kind)
    return kind


def run(world: World, *revert: str, **values: str) -> ResourceResult:
    """Apply values to knobs, and revert resources."""
    targets = tuple(ResourceToApply("knob", key, {"value": value}) for key, value in values.items())
    return apply.apply(HostAccess(world), ResourceRequest(targets, revert))


def recorded(world: World) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((world.paths.state / record.FILE).read_text())
    return data


def test_a_resource_is_applied_and_the_state_of_before_is_recorded_for_root_alone(
    world: World, knobs: Knobs
) -> None:
    assert run(world, a="1") == ResourceResult(("knob a",))
    assert knobs.values == {"a": "1"}
    assert recorded(world)["resources"] == {
        "knob a": {"kind": "knob", "key": "a", "arg": "", "before": {"value": "0"}, "applied": {"value": "1"}}
    }
    assert (world.paths.state / record.FILE).stat().st_mode & 0o777 == 0o600


def test_request_and_result_travel_as_json(world: World, knobs: Knobs) -> None:
    request = ResourceRequest((ResourceToApply("knob", "a", {"value": "bad"}),), declared=("knob a",))
    result = apply.run(world, codec.loads(ResourceRequest, codec.dumps(request)))
    (refused,) = codec.loads(ResourceResult, codec.dumps(result)).refused
    assert (refused.location, refused.expected, refused.hint) == ("knob a", "a number", "correct it")


def test_applied_twice_it_is_still_reverted_to_the_state_before_the_first_run(
    world: World, knobs: Knobs
) -> None:
    for value in ("1", "2"):
        run(world, a=value)
    assert run(world, "knob a").done == ("knob a",)
    assert knobs.values == {"a": "0"}
    assert recorded(world)["resources"] == {}


def test_one_that_is_refused_keeps_all_from_being_applied_and_every_reason_is_reported(
    world: World, knobs: Knobs
) -> None:
    run(world, z="1")
    result = run(world, "knob z", a="1", b="bad", c="bad")
    assert [one.location for one in result.refused] == ["knob b", "knob c"]
    assert result.done == ()
    assert knobs.values == {"z": "1"}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("late", "refused while it was applied"),
        ("full", "/etc/x: No space left on device"),
        ("stuck", "it had no effect: value is '0'"),
    ],
)
@pytest.mark.provokes("host-change-failed")
def test_one_that_fails_is_named_with_what_was_done_before_it(
    world: World, knobs: Knobs, value: str, found: str
) -> None:
    result = run(world, a="1", b=value, c="1")
    assert result.done == ("knob a",)
    assert [(one.location, one.message) for one in result.refused] == [("knob b", found)]
    assert knobs.values == {"a": "1"}


def test_a_resource_changed_by_hand_is_only_forgotten(world: World, knobs: Knobs) -> None:
    run(world, a="1")
    knobs.values["a"] = "by hand"
    run(world, "knob a", "knob never applied")
    assert knobs.values == {"a": "by hand"}
    assert recorded(world)["resources"] == {}


def test_during_a_rollout_nothing_is_applied(world: World, knobs: Knobs) -> None:
    request = world.paths.state / "rollouts" / "20261121-1" / "request.json"
    request.parent.mkdir(parents=True)
    request.write_text("{}")
    with pytest.raises(store.BusyError):
        run(world, a="1")
    assert knobs.values == {}


def test_an_unknown_kind_is_an_error_and_no_guess(world: World) -> None:
    request = ResourceRequest((ResourceToApply("magic", "x", {}),))
    with pytest.raises(ValueError, match="unknown kind of resource 'magic'"):
        apply.apply(HostAccess(world), request)


def test_the_salt_stays_the_same(world: World, knobs: Knobs) -> None:
    run(world, a="1")
    salt = recorded(world)["salt"]
    run(world, a="2")
    assert len(bytes.fromhex(salt)) == 16
    assert recorded(world)["salt"] == salt


def test_the_record_of_an_earlier_version_is_read_and_written_in_the_present_one(
    world: World, knobs: Knobs
) -> None:
    """Version 1 as f014667 wrote it."""
    linux_swap = {"now": "/swapfile", "at boot": "/swapfile"}
    token = {"secret": "as declared", "mode": "0600", "owner": "u", "hash": "h"}
    items = {
        "knob a": {"kind": "knob", "key": "a", "arg": "", "before": {"value": "7"}, "put": {"value": "1"}},
        "swap swap": {"kind": "swap", "key": "swap", "arg": "", "before": linux_swap, "put": {"now": ""}},
        "token /t": {"kind": "token", "key": "/t", "arg": "", "before": {"is": "absent"}, "put": token},
    }
    world.paths.state.mkdir()
    (world.paths.state / record.FILE).write_text(json.dumps({"schema": 1, "salt": "ab" * 16, "items": items}))
    knobs.values["a"] = "1"
    run(world, "knob a")
    assert knobs.values == {"a": "7"}
    found = recorded(world)
    assert (found["version"], found["salt"]) == (2, "ab" * 16)
    assert set(found["resources"]) == {"linux_swap swap", "hub_token /t"}
    assert found["resources"]["hub_token /t"]["applied"] == token
    assert found["resources"]["linux_swap swap"]["before"] == linux_swap


def test_the_record_of_a_newer_version_is_refused_and_left_alone(world: World, knobs: Knobs) -> None:
    world.paths.state.mkdir()
    path = world.paths.state / record.FILE
    path.write_text('{"version": 99}')
    with pytest.raises(ValueError, match="version 99, written by a newer sparkfleet"):
        run(world, a="1")
    assert (path.read_text(), knobs.values) == ('{"version": 99}', {})


def test_a_damaged_record_is_refused_and_left_alone(world: World, knobs: Knobs) -> None:
    world.paths.state.mkdir()
    path = world.paths.state / record.FILE
    path.write_text('{"version": 2, "resou')
    with pytest.raises(ValueError, match=r"prepared\.json: is not JSON"):
        run(world, a="1")
    assert (path.read_text(), knobs.values) == ('{"version": 2, "resou', {})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("123"), max_size=3), max_size=4),
    st.integers(0, 40),
)
def test_killed_anywhere_the_next_runs_complete_it_and_all_is_reverted_in_the_end(
    world: World, knobs: Knobs, declarations: list[Values], kill_at: int
) -> None:
    knobs.values, world.points, world.kill_at = {"a": "by hand"}, 0, kill_at
    (world.paths.state / record.FILE).unlink(missing_ok=True)
    for declared in [*declarations, {}]:
        for _ in range(2):  # the second one after a kill, or with nothing left to do
            known = recorded(world)["resources"] if (world.paths.state / record.FILE).exists() else {}
            reverted = [name for name in known if name.removeprefix("knob ") not in declared]
            differ = {key: value for key, value in declared.items() if knobs.values.get(key, "0") != value}
            try:
                run(world, *reverted, **differ)
            except Killed:
                continue
        assert {key: knobs.values[key] for key in declared} == declared
    assert {key: value for key, value in knobs.values.items() if value != "0"} == {"a": "by hand"}
