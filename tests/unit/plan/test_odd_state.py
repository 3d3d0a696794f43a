"""One odd value in a state file or in a part of the probe's response: named, local, never a traceback."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.onhost.collectors import basics, resources, state, weights
from sparkfleet.plan.as_json import plan_data
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import ChangeSet, HostPlan, HostState, Plan, Step
from sparkfleet.plan.prune import PruneOptions, fleet_prune
from sparkfleet.plan.report import host_lines, plan_text
from sparkfleet.plan.status import spark_status
from sparkfleet.plan.verification import verify_plan
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.response import read_response
from sparkfleet.probe.stored import Stored
from tests.unit.plan import test_takeover

FIXTURE = test_takeover.STATES / test_takeover.COMMITS[0]
RECORD = "services/nano/current.json"
FILES = (RECORD, "rates.json", "staged.json", "verified.json", "prepared.json")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@cache
def whole() -> str:
    """Return the answer of the probe on the fixture's Spark."""
    with pytest.MonkeyPatch.context() as patch:
        return test_takeover.response(FIXTURE, patch)


@contextlib.contextmanager
def state_directory() -> Iterator[Path]:
    """Yield a copy of the fixture's state directory, as the collectors read it."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "state")
        shutil.copytree(FIXTURE / "root/var/lib/sparkfleet", path)
        patch.setattr(basics, "STATE_DIR", str(path))
        patch.setattr(resources, "observe", lambda *_: {"is": "present"})
        yield path


def collected() -> Observed:
    """Return the fixture's Spark with the state directory as it is now."""
    data = json.loads(whole())
    data["state"] = state.collect_state()
    data["weights"]["record"] = weights.hashed()[1]
    data["resources"] = resources.observe_all([], "nvidia", "/home/nvidia")
    seen = read_response("spark-01", json.dumps(data))
    assert isinstance(seen, Observed)
    return seen


def plan_of(seen: Observed | Diagnostic) -> HostPlan:
    """Return the plan of the fixture's host; report, JSON, status and verification can be made of it, too."""
    host = test_takeover.host(FIXTURE)
    plan = host_plan(host, seen)
    assert list(host_lines(plan))
    assert json.dumps(plan_data(Plan((plan,))))
    assert spark_status(host.name, seen).host == host.name
    if isinstance(seen, Observed):
        verify_plan(host, seen, plan)
    return plan


def subject(plan: HostPlan, name: str) -> ChangeSet | None:
    return next((one for one in plan.change_sets if one.subject == name), None)


def assert_unknown(plan: HostPlan, file: str) -> None:
    """Check that what depends on a file is unknown, named, and neither created nor unchanged."""
    path = f"/var/lib/sparkfleet/{file}"
    assert plan.unknown is None
    assert path in "\n".join(host_lines(plan))
    if file == RECORD:
        nano = subject(plan, "nano")
        assert nano is not None
        assert nano.blocked is not None
        assert path in nano.blocked.message
        assert not nano.restarts_engine
        assert subject(plan.within((Step.SERVICE,)), "nano") is not None
    elif file == "prepared.json":
        host = subject(plan, "host")
        assert host is not None
        assert host.blocked is not None
        assert path in host.blocked.message
        assert subject(plan.within((Step.HOST,)), "host") is not None
    else:
        assert plan.state is not HostState.UNCHANGED or path in plan.warnings[0].message


def valid(seen: Observed, file: str) -> bool:
    return file not in seen.unreadable


@settings(max_examples=40)
@given(st.sampled_from(FILES), json_values | st.binary(max_size=8))
def test_a_state_file_with_any_content_makes_its_own_part_unknown(file: str, value: Any) -> None:
    with state_directory() as folder:
        path = folder / file
        before = collected()
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        seen = collected()
        plan = plan_of(seen)
        assume(not valid(seen, file))  # an object with fields of other names may be a record without entries
        assert_unknown(plan, file)
        assert set(seen.unreadable) - {file} == set()
        assert (seen.instances, seen.units, seen.paths) == (before.instances, before.units, before.paths)


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container of values within a document, with each key."""
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield data, key
            yield from places(data[key])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (RECORD, "[]"),
        (RECORD, '{"schema": 99}'),
        (RECORD, ""),
        ("rates.json", "[1]"),
        ("staged.json", "null"),
        ("prepared.json", '"x"'),
    ],
)
def test_a_state_file_of_another_shape_is_of_that_host_alone_and_the_fleet_is_planned(
    file: str, text: str
) -> None:
    host = test_takeover.host(FIXTURE)
    with state_directory() as folder:
        other = replace(host_plan(replace(host, name="spark-02"), collected()), host="spark-02")
        (folder / file).write_text(text)
        odd = host_plan(host, collected())
        status = spark_status(host.name, collected())
    report = plan_text(Plan((odd, other)))
    path = f"/var/lib/sparkfleet/{file}"
    assert path in "\n".join(host_lines(odd))
    assert any(path in one.message for one in status.warnings)
    assert "\n".join(host_lines(other)) in report
    assert path not in "\n".join(host_lines(other))
    assert other.state is not HostState.UNKNOWN


@settings(max_examples=40)
@given(st.sampled_from((RECORD, "prepared.json")), st.data())
def test_a_state_file_with_one_odd_value_is_read_or_makes_its_own_part_unknown(
    file: str, data: st.DataObject
) -> None:
    with state_directory() as folder:
        document = json.loads((folder / file).read_text())
        parent, key = data.draw(st.sampled_from(list(places(document))))
        parent[key] = data.draw(json_values)
        (folder / file).write_text(json.dumps(document))
        seen = collected()
        plan = plan_of(seen)
        if not valid(seen, file):
            assert_unknown(plan, file)


@settings(max_examples=40)
@given(st.data())
def test_any_value_in_any_part_of_an_answer_makes_at_most_that_host_unknown(
    data: st.DataObject,
) -> None:
    response = json.loads(whole())
    parent, key = data.draw(st.sampled_from(list(places(response))))
    parent[key] = data.draw(json_values)
    seen = read_response("spark-01", json.dumps(response))
    plan = plan_of(seen)
    if isinstance(seen, Diagnostic):
        assert seen.location == "spark-01"
        assert plan.state is HostState.UNKNOWN


@pytest.mark.parametrize("disks", [{}, {"images": {"path": "/", "total": 9, "free": 9}}])
def test_an_answer_without_a_disk_that_the_plan_needs_makes_that_host_unknown(
    disks: dict[str, object],
) -> None:
    response = {**json.loads(whole()), "disks": disks}
    plan = plan_of(read_response("spark-01", json.dumps(response)))
    assert plan.state is HostState.UNKNOWN
    assert plan.unknown is not None
    assert "disks: models" in plan.unknown.message


@pytest.mark.parametrize("file", FILES)
def test_a_state_file_of_a_newer_version_is_refused_with_version_and_remedy(file: str) -> None:
    with state_directory() as folder:
        (folder / file).write_text('{"version": 99, "files": {}}')
        seen = collected()
        assert seen.unreadable[file].code == codec.NEWER
        text = "\n".join(host_lines(plan_of(seen)))
        assert "version 99, written by a newer sparkfleet" in text
        assert codec.NEWER_HINT in text
        assert_unknown(plan_of(seen), file)


@pytest.mark.parametrize("file", [RECORD, "staged.json"])
def test_a_host_with_a_record_of_needs_that_cannot_be_read_is_not_pruned(file: str) -> None:
    host = test_takeover.host(FIXTURE)
    with state_directory() as folder:
        (folder / file).write_text("[]")
        seen = replace(collected(), stored=Stored())
        plan = fleet_prune([(host, seen)], PruneOptions(0.0))
    (pruned,) = plan.hosts
    assert pruned.diagnostic is not None
    assert file in pruned.diagnostic.message
    assert plan.unknown == (host.name,)
