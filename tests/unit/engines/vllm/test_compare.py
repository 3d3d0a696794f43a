import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkfleet.engines.base import FlagChange
from sparkfleet.engines.vllm import schema
from sparkfleet.engines.vllm.args import render
from sparkfleet.engines.vllm.compare import differences
from tests.unit.engines.vllm.strategies import flags_of

OLD, NEW = schema.load("0.19.0"), schema.load("0.33.0")


def between(
    old: str, new: str, known: schema.Schema | None = NEW
) -> list[tuple[str, str | None, str | None]]:
    return [(c.flag, c.old, c.new) for c in differences(["m", *old.split()], ["m", *new.split()], known)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--port 1 --seed 2", "--seed=2 --port=1"),
        ("--max-model-len 64K", "--max_model_len 65536"),
        ("-tp 2", "--tensor-parallel-size 2"),
        ("--tensor-parallel 2", "-tp=2"),
        ("--gpu-memory-utilization 0.92", ""),
        ("--tensor-parallel-size 1", ""),
        ("--no-enforce-eager", ""),
        ("", "--no-enable-log-requests"),
        ("--allowed-origins []", ""),
        ("--compilation-config {}", ""),
        ('--compilation-config {"backend":""}', ""),
        ('--speculative-config {"a":1,"b":2}', "--speculative-config.b 2 --speculative-config.a=1"),
        ("--dtype auto --dtype auto", ""),
        ("--revision None", ""),
        ("--block-size 16 --block-size 32", "--block-size 32"),
        ("--stream-interval 1.0", "--stream-interval 1.0"),
        ("--cpu-offload-gb 1", "--cpu-offload-gb 1.0"),
    ],
)
def test_two_ways_of_saying_the_same_are_no_difference(old: str, new: str) -> None:
    assert between(old, new) == []
    assert between(new, old) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("--max-model-len 262144", "--max-model-len 64K", ("--max-model-len", "262144", "65536")),
        ("", "--moe-backend marlin", ("--moe-backend", None, "marlin")),
        ("--reasoning-parser-plugin /x", "", ("--reasoning-parser-plugin", "/x", None)),
        ("", "--enforce-eager", ("--enforce-eager", None, "true")),
        ("--enforce-eager", "--no-enforce-eager", ("--enforce-eager", "true", "false")),
        ("", "--async-scheduling", ("--async-scheduling", None, "true")),
        ("", "--no-async-scheduling", ("--async-scheduling", None, "false")),
        ("--served-model-name a b", "--served-model-name b a", ("--served-model-name", "a b", "b a")),
        ("--allowed-origins []", '--allowed-origins ["*"]', ("--allowed-origins", "[]", "*")),
        ("", '--hf-overrides {"a":{"b":1}}', ("--hf-overrides", None, '{"a":{"b":1}}')),
        ("", '--speculative-config {"a":{"b":1}}', ("--speculative-config", None, '{"a":{"b":1}}')),
        (
            '--speculative-config {"method":"mtp","n":2,"gone":1}',
            '--speculative-config {"method":"mtp","n":3,"more":{"x":[1,"y"]}}',
            ("--speculative-config", "n=2 gone=1", "n=3 more.x=1 y"),
        ),
        ("--brand-new 3", "--brand-new 4", ("--brand-new", "3", "4")),
    ],
)
def test_a_difference_names_flag_old_and_new(old: str, new: str, expected: tuple[str, str, str]) -> None:
    assert between(old, new) == [expected]


def test_another_model_is_a_difference_of_its_own() -> None:
    assert differences(["a"], ["b", "--port", "8000"], NEW) == (FlagChange("model", "a", "b"),)
    assert differences([], ["b"], NEW) == (FlagChange("model", None, "b"),)
    assert differences(["--model", "b"], ["b"], NEW) == ()


def test_differences_come_in_the_order_of_the_new_args_with_the_removed_ones_last() -> None:
    changes = between("--seed 1 --block-size 16", "--port 9 --moe-backend marlin")
    assert [flag for flag, _, _ in changes] == ["--port", "--moe-backend", "--seed", "--block-size"]


def test_without_a_schema_order_and_spelling_are_still_no_difference() -> None:
    assert between("--a-b 1 --no-c", "--no-c --a_b=1", None) == []
    assert between("--a 1", "--a 2", None) == [("--a", "1", "2")]


def test_each_side_can_be_read_by_its_own_release() -> None:
    args = ["m", "--gpu-memory-utilization", "0.9"]
    assert differences(args, ["m"], NEW, old_schema=OLD) == (
        FlagChange("--gpu-memory-utilization", "0.9", None),
    )
    swap_space = ["m", "--swap-space", "4"]
    assert differences(swap_space, ["m"], NEW, old_schema=OLD) == (FlagChange("--swap-space", "4", None),)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_shuffled_command_line_is_no_difference(data: st.DataObject) -> None:
    flags = data.draw(flags_of(NEW))
    shuffled = dict(data.draw(st.permutations(list(flags.items()))))
    assert differences(render("m", flags, NEW), render("m", shuffled, NEW), NEW) == ()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_differences_mirror_when_the_sides_are_swapped(data: st.DataObject) -> None:
    old = render("m", data.draw(flags_of(NEW)), NEW)
    new = render("m", data.draw(flags_of(NEW)), NEW)
    found = {(c.flag, c.old, c.new) for c in differences(old, new, NEW)}
    back = {(c.flag, c.new, c.old) for c in differences(new, old, NEW)}
    assert {flag for flag, _, _ in found} == {flag for flag, _, _ in back}
