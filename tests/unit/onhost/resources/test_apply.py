"""Things put and taken back, by a kind made up for the test: refused first, on record before, put right
after a kill.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.resources import apply, revert
from sparkfleet.onhost.resources.base import RefusedError, Thing
from sparkfleet.onhost.state import store
from tests.unit.onhost.world import Killed, World

Told = dict[str, str]


class Knobs:
    """A machine of knobs, each with a value; a knob called "bad" refuses, "stuck" does not move."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.values: Told = {}

    def look(self, key: str, _: str = "") -> dict[str, str]:
        return {"value": self.values.get(key, "0")}

    def check(self, _: System, thing: Thing) -> None:
        if thing.want["value"] == "bad":
            raise RefusedError(f"{thing.key} cannot be bad", "a number", "mend it")

    def put(self, _: System, thing: Thing) -> None:
        if thing.want["value"] == "late":
            raise RefusedError("refused while it was put")
        if thing.want["value"] == "full":
            raise OSError(28, "No space left on device", "/etc/x")
        if thing.want["value"] != "stuck":
            self.turn(thing.key, thing.want["value"])

    def back(self, _: System, entry: Mapping[str, Any], fields: tuple[str, ...]) -> None:
        assert fields == ("value",)
        self.turn(entry["key"], entry["before"]["value"])

    def turn(self, key: str, value: str) -> None:
        self.world.point()
        self.values[key] = value
        self.world.point()


@pytest.fixture
def knobs(world: World, monkeypatch: pytest.MonkeyPatch) -> Knobs:
    made = Knobs(world)
    monkeypatch.setitem(apply.KINDS, "knob", apply.Kind(made.put, made.back, made.check))
    monkeypatch.setitem(resources.LOOKS, "knob", made.look)
    return made


def asked(**values: str) -> dict[str, Any]:
    return {"put": [{"kind": "knob", "key": key, "want": {"value": value}} for key, value in values.items()]}


def record(world: World) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((world.paths.state / "prepared.json").read_text())
    return data


def test_a_thing_is_put_and_what_was_before_is_on_record_for_root_alone(world: World, knobs: Knobs) -> None:
    assert apply.carry_out(world, asked(a="1")) == {"done": ["knob a"], "refused": []}
    assert knobs.values == {"a": "1"}
    assert record(world)["items"] == {
        "knob a": {"kind": "knob", "key": "a", "arg": "", "before": {"value": "0"}, "put": {"value": "1"}}
    }
    assert (world.paths.state / "prepared.json").stat().st_mode & 0o777 == 0o600


def test_put_again_it_still_goes_back_to_what_was_before_the_first_run(world: World, knobs: Knobs) -> None:
    for value in ("1", "2"):
        apply.carry_out(world, asked(a=value))
    assert apply.carry_out(world, {"take_back": ["knob a"]})["done"] == ["knob a"]
    assert knobs.values == {"a": "0"}
    assert record(world)["items"] == {}


def test_one_that_is_refused_keeps_all_from_being_put_and_every_reason_is_told(
    world: World, knobs: Knobs
) -> None:
    apply.carry_out(world, asked(z="1"))
    answer = apply.carry_out(world, {**asked(a="1", b="bad", c="bad"), "take_back": ["knob z"]})
    assert [one["id"] for one in answer["refused"]] == ["knob b", "knob c"]
    assert answer["refused"][0]["remedy"] == "mend it"
    assert "done" not in answer
    assert knobs.values == {"z": "1"}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("late", "refused while it was put"),
        ("full", "/etc/x: No space left on device"),
        ("stuck", "it did not take: value is '0'"),
    ],
)
def test_one_that_fails_while_it_is_put_is_named_with_what_was_done_before_it(
    world: World, knobs: Knobs, value: str, why: str
) -> None:
    answer = apply.carry_out(world, asked(a="1", b=value, c="1"))
    assert answer["done"] == ["knob a"]
    assert [(one["id"], one["found"]) for one in answer["refused"]] == [("knob b", why)]
    assert knobs.values == {"a": "1"}


def test_what_somebody_changed_since_is_only_forgotten(world: World, knobs: Knobs) -> None:
    apply.carry_out(world, asked(a="1"))
    knobs.values["a"] = "by hand"
    apply.carry_out(world, {"take_back": ["knob a", "knob never put"]})
    assert knobs.values == {"a": "by hand"}
    assert record(world)["items"] == {}


def test_while_a_service_is_being_changed_nothing_else_is(world: World, knobs: Knobs) -> None:
    request = world.paths.state / "swaps" / "20261121-1" / "request.json"
    request.parent.mkdir(parents=True)
    request.write_text("{}")
    with pytest.raises(store.BusyError):
        apply.carry_out(world, asked(a="1"))
    assert knobs.values == {}


def test_an_unknown_kind_is_an_error_and_no_guess(world: World) -> None:
    with pytest.raises(ValueError, match="no kind 'magic'"):
        apply.carry_out(world, {"put": [{"kind": "magic", "key": "x", "want": {}}]})


def test_the_salt_is_kept(world: World, knobs: Knobs) -> None:
    apply.carry_out(world, asked(a="1"))
    salt = record(world)["salt"]
    apply.carry_out(world, asked(a="2"))
    assert len(bytes.fromhex(salt)) == 16
    assert record(world)["salt"] == salt


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("123"), max_size=3), max_size=4),
    st.integers(0, 40),
)
def test_killed_anywhere_the_next_runs_put_it_right_and_all_goes_back_in_the_end(
    world: World, knobs: Knobs, wishes: list[Told], kill_at: int
) -> None:
    knobs.values, world.points, world.kill_at = {"a": "by hand"}, 0, kill_at
    (world.paths.state / "prepared.json").unlink(missing_ok=True)
    for wish in [*wishes, {}]:
        for _ in range(2):  # the second one after a kill, or with nothing left to do
            kept = record(world)["items"] if (world.paths.state / "prepared.json").exists() else {}
            back = [name for name in kept if name.removeprefix("knob ") not in wish]
            put = {key: value for key, value in wish.items() if knobs.look(key)["value"] != value}
            try:
                apply.carry_out(world, {**asked(**put), "take_back": back})
            except Killed:
                continue
        assert {key: knobs.values[key] for key in wish} == wish
    assert {key: value for key, value in knobs.values.items() if value != "0"} == {"a": "by hand"}


def test_every_kind_that_can_be_declared_can_be_put_and_taken_back() -> None:
    assert set(apply.KINDS) == set(resources.LOOKS) - {"caches"}
    assert set(revert.WHOLE) <= set(apply.KINDS)
