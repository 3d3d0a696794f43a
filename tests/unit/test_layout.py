"""What people see on terminals of 80, 100 and 160 columns.

``python -m tests.unit.test_layout`` writes the golden files.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkfleet import layout, terminal
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import paragraph
from sparkfleet.plan.preflight.model import Check, HostPreflight, failed, incomplete, warned
from sparkfleet.plan.preflight.parity import FleetPreflight
from sparkfleet.plan.preflight.report import preflight_text
from sparkfleet.plan.report import plan_text
from tests.unit.plan.test_report import fleet

GOLDEN = Path(__file__).parents[1] / "golden" / "terminal"
RECIPES = [
    ("recipe", "parameters", "quantization", "weights", "context", "status", "requires"),
    ("nemotron-3-nano-30b-a3b-nvfp4", "31.6B-A3.6B", "nvfp4", "18.8 GiB", "1024K", "tested", "vLLM >=0.12.0"),
    (
        *("qwen3.8-flash-next-fp4-local-dflash2-256k", "300B-A12B", "nvfp4", "155.4 GiB", "256K", "derived"),
        "vLLM >=0.21.0, HF token, 2 Sparks, scipy",
    ),
]
CHECKED = FleetPreflight(
    (
        HostPreflight(
            "spark-01",
            (
                Check("sudo", "the login user may use sudo"),
                failed(
                    "container toolkit",
                    "neither the toolkit nor a CDI file was found on this Spark",
                    "one of them",
                    "sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure"
                    "; sudo systemctl restart docker; then run this again",
                    code="gpu-toolkit-missing",
                ),
                warned("swap", "3 GiB are in use", "no swap in use", "sudo swapoff -a", code="swap-in-use"),
                incomplete("clock", "the time could not be read"),
            ),
        ),
        HostPreflight("spark-02", (Check("sudo", "the login user may use sudo"), Check("clock", "+0.1 s"))),
    )
)


def folded(text: str, width: int) -> str:
    return "".join(f"{part}\n" for line in text.splitlines() for part in terminal.fold_report(line, width))


def catalog(width: int) -> str:
    return "".join(f"{layout.line_text(line)}\n" for row in layout.table(RECIPES, width) for line in row)


SCREENS = {
    "plan": lambda width: folded(plan_text(fleet()), width),
    "preflight": lambda width: folded(preflight_text(CHECKED, show_all=False), width),
    "preflight-all": lambda width: folded(preflight_text(CHECKED, show_all=True), width),
    "catalog": catalog,
}


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_equals_its_golden_file(screen: str, width: int) -> None:
    assert SCREENS[screen](width) == (GOLDEN / f"{screen}-{width}.txt").read_text()


@pytest.mark.parametrize("width", [40, 80, 100, 160])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_line_is_longer_than_the_terminal_only_where_it_has_one_word_or_a_command(
    screen: str, width: int
) -> None:
    for line in SCREENS[screen](width).splitlines():
        parts = line.removeprefix("do: ").split()
        assert len(line) <= width or len(parts) == 1 or "sudo " in line or "docker " in line, line


@pytest.mark.parametrize("width", [10, 40, 80, 100, 160])
def test_a_table_has_every_word_in_one_piece_at_every_width(width: int) -> None:
    shown = catalog(width).split()
    for row in RECIPES:
        for cell in row:
            for word in cell.split():
                assert word in shown


def test_columns_that_do_not_fit_continue_on_the_next_line_below_each_other() -> None:
    rows = [("name", "state", "found"), ("spark-01", "ok", "abc"), ("spark-02", "unknown", "d")]
    text = [[layout.line_text(line) for line in row] for row in layout.table(rows, 18)]
    assert text == [
        ["name      state", "    found"],
        ["spark-01  ok", "    abc"],
        ["spark-02  unknown", "    d"],
    ]


def test_a_folded_cell_stays_in_its_column() -> None:
    rows = [("spark-01", "one two three four five six seven eight")]
    (lines,) = layout.table(rows, 32)
    assert [layout.line_text(line) for line in lines] == [
        "spark-01  one two three four",
        "          five six seven eight",
    ]


def test_a_field_folds_at_spaces_with_a_hanging_indent() -> None:
    line = "  + weights     nvidia/Nano   18.0 GiB to download, 3000.0 GiB free, 2982.0 GiB after"
    assert terminal.fold_report(line, 60) == [
        "  + weights     nvidia/Nano   18.0 GiB to download, 3000.0",
        "               GiB free, 2982.0 GiB after",
    ]


def test_each_part_of_a_remedy_has_a_line_and_a_command_stays_in_one_piece() -> None:
    command = "sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure"
    diagnostic = Diagnostic("spark-01", "no toolkit", hint=f"{command}; then run again", code="test")
    _, remedy = paragraph(diagnostic).splitlines()
    assert terminal.fold_paragraph(remedy, 60) == [f"    do: {command};", "        then run again"]
    assert terminal.fold_paragraph(remedy, 160) == [remedy]


def test_a_remedy_without_a_command_folds() -> None:
    line = "    do: set max-model-len to 190272 or less, or use another kv-cache-dtype"
    assert terminal.fold_paragraph(line, 50) == [
        "    do: set max-model-len to 190272 or less, or",
        "        use another kv-cache-dtype",
    ]


if __name__ == "__main__":
    for name, render in SCREENS.items():
        for columns in (80, 100, 160):
            (GOLDEN / f"{name}-{columns}.txt").write_text(render(columns))
