"""Compile caches of former images: what is removed by age, what by size, and what is never touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.resources.base import Difference, PlanContext, Resource, ResourceError, Target
from sparkfleet.resources.kinds import compile_caches
from tests.unit.resources.fake_host import FakeHost

DAY = 86400
NOW = 1000 * DAY
CACHES = {
    "a" * 12: [5 << 30, NOW - 50 * DAY, False],
    "b" * 12: [3 << 30, NOW - 40 * DAY, True],
    "c" * 12: [2 << 30, NOW - 10 * DAY, False],
}


def differences(limits: dict[str, str], caches: dict[str, Any], needed: set[str]) -> list[Difference]:
    resource = Resource("compile_caches", "/cache", tuple(limits.items()))
    live = {"caches": caches, "now": NOW}
    return compile_caches.KIND.differences(resource, live, PlanContext(frozenset(needed)))


def removed(
    limits: dict[str, str], caches: dict[str, Any] | None = None, needed: set[str] | None = None
) -> list[str]:
    found = differences(limits, CACHES if caches is None else caches, needed or set())
    return [difference.key for difference in found]


def test_those_not_written_to_for_so_long_are_removed_unless_a_service_needs_them() -> None:
    assert removed({"max_age_days": "40"}) == ["/cache/" + "a" * 12]
    assert removed({"max_age_days": "51"}) == []


@pytest.mark.parametrize(("gib", "names"), [("10", ""), ("9", "a"), ("5", "a"), ("4.9", "ac"), ("1", "ac")])
def test_the_oldest_are_removed_until_all_take_no_more_than_declared(gib: str, names: str) -> None:
    assert removed({"max_gib": gib}) == [f"/cache/{letter * 12}" for letter in names]


def test_the_cache_of_a_declared_service_stays_though_no_record_names_it_yet() -> None:
    name = "d" * 12
    caches = {name: [1 << 30, 0, False]}
    assert removed({"max_age_days": "1"}, caches, {name}) == []
    assert removed({"max_age_days": "1"}, caches) == [f"/cache/{name}"]


def test_the_plan_shows_size_and_age() -> None:
    (difference,) = differences({"max_age_days": "40"}, CACHES, set())
    assert difference.note == "5.0 GiB, not written to for 50 days"


@given(
    st.dictionaries(
        st.text("0123456789abcdef", min_size=12, max_size=12),
        st.tuples(st.integers(0, 1 << 40), st.integers(0, NOW), st.booleans()),
        max_size=8,
    ),
    st.integers(1, 2000),
    st.floats(0.1, 2000),
)
def test_none_in_use_is_ever_removed_and_a_second_run_has_nothing_to_remove(
    caches: dict[str, Any], days: int, gib: float
) -> None:
    limits = {"max_age_days": str(days), "max_gib": f"{gib:g}"}
    names = {path.rsplit("/", 1)[-1] for path in removed(limits, caches)}
    assert not any(caches[name][2] for name in names)
    assert removed(limits, {name: seen for name, seen in caches.items() if name not in names}) == []


def apply(host: FakeHost, *paths: str) -> None:
    target = Target("compile_caches", "/cache", {}, content="\n".join(paths))
    compile_caches.KIND.apply(host, target)


@pytest.mark.parametrize("name", ["not-a-cache", "a" * 11, "A" * 12])
def test_a_directory_without_the_name_of_a_compile_cache_is_not_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / "cache" / name).mkdir(parents=True)
    with pytest.raises(ResourceError, match="is no compile cache"):
        apply(FakeHost(tmp_path), f"/cache/{name}")
    assert (tmp_path / "cache" / name).exists()


def test_an_old_cache_is_removed_and_one_that_came_into_use_since_stays(tmp_path: Path) -> None:
    host, old, used = FakeHost(tmp_path), "/cache/" + "a" * 12, "/cache/" + "b" * 12
    for path in (old, used):
        host.write(f"{path}/deep/file", "")
    host.write("/var/lib/sparkfleet/services/nano/current.json", f'"source={used},target=/cache"')
    with pytest.raises(ResourceError, match="is in use"):
        apply(host, old, used)
    assert not Path(host.path(old)).exists()
    assert Path(host.path(used)).exists()
