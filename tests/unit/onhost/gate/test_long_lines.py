"""Lines of an engine's log without a limit: only a part of limited length is matched with patterns."""

from __future__ import annotations

from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.onhost.gate import failure_patterns, log_lines
from sparkfleet.onhost.gate.candidate_start import Progress
from sparkfleet.onhost.gate.transport import TCP, UNKNOWN, transport
from tests.unit.onhost.world import World

LONG = 200_000
FILLERS = ("a", "7", " ", "ab ", "1/", "1.5", "=", "%|", "(", "NCCL INFO ")
PHASES = [(name, entry) for name in engines.host_names() for entry in failure_patterns.read(name)["phases"]]


class Events(list[tuple[str, str]]):
    """A journal in memory."""

    def log(self, _kind: str, text: str, **data: Any) -> None:
        self.append((data["phase"], text))


def progress(world: World, engine: str) -> tuple[Progress, Events]:
    events = Events()
    return Progress(world, events, engine), events  # type: ignore[arg-type]


@pytest.mark.parametrize(("engine", "entry"), PHASES, ids=[f"{name}-{entry['re']}" for name, entry in PHASES])
def test_a_long_line_with_or_without_a_phase_costs_no_more_than_a_short_one(
    world: World, engine: str, entry: dict[str, str]
) -> None:
    """A pattern that is quadratic would need minutes for these: the time limit of a test ends it."""
    followed, events = progress(world, engine)
    for filler in FILLERS:
        followed.line(filler * (LONG // len(filler)))
        followed.line(entry["sample"][: len(entry["sample"]) // 2] + filler * (LONG // len(filler)))
    events.clear()
    followed.line(entry["sample"] + " a" * LONG)
    assert [phase for phase, _ in events] in ([entry["phase"]], [])
    assert all(len(text) <= log_lines.MAX_LINE for _, text in events)


def test_a_line_with_the_memory_of_a_long_text_is_kept_in_part(world: World) -> None:
    followed, _ = progress(world, "vllm")
    followed.line("Available KV cache memory: 5.0 GiB" + "x" * LONG)
    (memory_line,) = followed.memory_log
    assert memory_line.startswith("Available KV cache memory: 5.0 GiB")
    assert len(memory_line) < log_lines.MAX_LINE


def test_the_transport_of_a_long_line_is_found_in_its_beginning_alone() -> None:
    text = "NCCL INFO " * (LONG // 10)
    assert transport([text, text + "Using network IBx"]).kind != TCP
    found = transport(["NCCL INFO Using network Socket " + text])
    assert (found.kind, len(found.line)) == (TCP, log_lines.MAX_LINE)
    assert transport([text]).kind == UNKNOWN
