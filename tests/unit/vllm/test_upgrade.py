import itertools

import pytest

from sparkfleet.vllm.schema import Flag, Schema, load, versions
from sparkfleet.vllm.upgrade import DefaultChange, Upgrade, upgrade

OLD, NEW = load("0.19.0"), load("0.33.0")


def test_flags_and_variables_that_are_gone_or_new_are_listed() -> None:
    found = upgrade(OLD, NEW)
    assert "--calculate-kv-scales" in found.flags_gone
    assert "--linear-backend" in found.flags_new
    assert "VLLM_USE_FLASHINFER_MOE_FP4" in found.env_gone
    assert found.env_new
    assert found


def test_a_default_that_changed_silently_is_said() -> None:
    assert DefaultChange("--gpu-memory-utilization", 0.9, 0.92) in upgrade(OLD, load("0.20.0")).defaults


def test_values_that_are_no_longer_taken_are_listed() -> None:
    gone = dict(upgrade(OLD, NEW).values_gone)
    assert "minimax" in gone["--tool-call-parser"]
    assert "gguf" in gone["--load-format"]
    assert "TREE_ATTN" in gone["--attention-backend"]


def test_only_what_the_fleet_uses_concerns_it() -> None:
    found = upgrade(OLD, NEW).touching(
        {"--calculate-kv-scales", "--load-format"}, {"VLLM_USE_FLASHINFER_MOE_FP4"}
    )
    assert found.flags_gone == ("--calculate-kv-scales",)
    assert found.env_gone == ("VLLM_USE_FLASHINFER_MOE_FP4",)
    assert [flag for flag, _ in found.values_gone] == ["--load-format"]
    assert found.flags_new == found.env_new == ()


def test_a_changed_default_concerns_those_who_do_not_give_the_flag() -> None:
    found = upgrade(OLD, NEW)
    flag = "--gpu-memory-utilization"
    assert flag in {change.flag for change in found.touching((), ()).defaults}
    assert flag not in {change.flag for change in found.touching((flag,), ()).defaults}


@pytest.mark.parametrize("version", versions())
def test_a_release_does_not_differ_from_itself(version: str) -> None:
    assert not upgrade(load(version), load(version))


@pytest.mark.parametrize(("old", "new"), list(itertools.pairwise(versions())))
def test_going_back_takes_away_what_going_forward_brought(old: str, new: str) -> None:
    forward, back = upgrade(load(old), load(new)), upgrade(load(new), load(old))
    assert set(forward.env_gone) == set(back.env_new)
    assert set(forward.flags_gone) <= set(load(old).flags)
    assert not set(forward.flags_gone) & set(load(new).options)
    assert {c.flag for c in forward.defaults} == {c.flag for c in back.defaults}


def test_a_flag_that_became_another_ones_alias_is_not_gone() -> None:
    before = Schema("1", {"--a": Flag("--a")})
    after = Schema("2", {"--b": Flag("--b", aliases=("--a",))})
    assert upgrade(before, after) == Upgrade("1", "2", flags_new=("--b",))


def test_a_flag_that_takes_everything_now_has_lost_no_value() -> None:
    before = Schema("1", {"--a": Flag("--a", choices=("x", "y"))})
    assert upgrade(before, Schema("2", {"--a": Flag("--a")})).values_gone == ()
    after = Schema("2", {"--a": Flag("--a", choices=("x",))})
    assert upgrade(before, after).values_gone == (("--a", ("y",)),)
