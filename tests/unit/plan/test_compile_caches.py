"""Compile caches of former images: what goes by age, what by size, and what is never touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.config.items import Item
from sparkfleet.config.resolved import Host
from sparkfleet.plan import compile_caches, desired
from tests.unit.plan.nano import HOST

DAY = 86400
NOW = 1000 * DAY
CACHES = {
    "a" * 12: [5 << 30, NOW - 50 * DAY, False],
    "b" * 12: [3 << 30, NOW - 40 * DAY, True],
    "c" * 12: [2 << 30, NOW - 10 * DAY, False],
}


def gone(limits: dict[str, str], caches: dict[str, Any] | None = None, host: Host | None = None) -> list[str]:
    item = Item("caches", "/cache", tuple(limits.items()))
    live = {"caches": CACHES if caches is None else caches, "now": NOW}
    return [one.path for one in compile_caches.removals(host or Host("x", ()), item, live)]


def test_those_not_written_to_for_so_long_go_unless_a_service_needs_them() -> None:
    assert gone({"max_age_days": "40"}) == ["/cache/" + "a" * 12]
    assert gone({"max_age_days": "51"}) == []


@pytest.mark.parametrize(("gib", "left"), [("10", ""), ("9", "a"), ("5", "a"), ("4.9", "ac"), ("1", "ac")])
def test_the_oldest_go_until_all_take_no_more_than_declared(gib: str, left: str) -> None:
    assert gone({"max_gib": gib}) == [f"/cache/{letter * 12}" for letter in left]


def test_the_cache_of_what_will_serve_stays_though_no_record_names_it_yet() -> None:
    (service,) = HOST.services
    name = desired.cache_directory(HOST, service).rsplit("/", 1)[-1]
    caches = {name: [1 << 30, 0, False]}
    assert gone({"max_age_days": "1"}, caches, HOST) == []
    assert gone({"max_age_days": "1"}, caches) == [f"/cache/{name}"]


def test_the_row_says_how_much_and_how_old() -> None:
    item = Item("caches", "/cache", (("max_age_days", "40"),))
    (removal,) = compile_caches.removals(Host("x", ()), item, {"caches": CACHES, "now": NOW})
    (row,) = removal.fields()
    assert row.note == "5.0 GiB, not written to for 50 days"


@given(
    st.dictionaries(
        st.text("0123456789abcdef", min_size=12, max_size=12),
        st.tuples(st.integers(0, 1 << 40), st.integers(0, NOW), st.booleans()),
        max_size=8,
    ),
    st.integers(1, 2000),
    st.floats(0.1, 2000),
)
def test_none_in_use_ever_goes_and_a_second_run_has_nothing_to_remove(
    caches: dict[str, Any], days: int, gib: float
) -> None:
    limits = {"max_age_days": str(days), "max_gib": f"{gib:g}"}
    removed = {path.rsplit("/", 1)[-1] for path in gone(limits, caches)}
    assert not any(caches[name][2] for name in removed)
    assert gone(limits, {name: seen for name, seen in caches.items() if name not in removed}) == []
