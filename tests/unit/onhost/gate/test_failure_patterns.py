"""The patterns as data: each with samples, all samples against all patterns."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.onhost.gate import diagnosis, failure_patterns, log_lines
from sparkfleet.onhost.gate.failure_patterns import CONSEQUENCE, WRAPPER

ENGINES = engines.host_names()


def entries(kind: str) -> list[Any]:
    """Return each entry of a kind with the engine that reads it: shared ones once for every engine."""
    return [
        pytest.param(engine, entry, id=f"{engine}-{entry.get('id', entry.get('re', ''))[:40]}")
        for engine in ENGINES
        for entry in failure_patterns.read(engine)[kind]
    ]


def samples() -> Iterator[Any]:
    for engine in ENGINES:
        for entry in failure_patterns.read(engine)["failures"]:
            for sample in entry["samples"]:
                yield pytest.param(engine, entry, sample["text"], id=f"{engine}-{entry['id']}")


def log_of(entry: dict[str, Any], text: str) -> str:
    """Return a log with the line; before it what the pattern wants there."""
    before = (
        "x cudaMemGetInfo SemLock socketStartConnect: Connect to 10.0.0.1<4> failed x\n"
        if "context" in entry
        else ""
    )
    return f"INFO 11-20 10:00:00 [x.py:1] loads\n{before}{text}\n"


@pytest.mark.parametrize(("engine", "entry", "text"), list(samples()))
def test_a_failure_is_recognised_by_its_samples(engine: str, entry: dict[str, Any], text: str) -> None:
    found = diagnosis.reader(engine).diagnose(log_of(entry, text), entry.get("exit", 1))
    assert found is not None
    assert found.diagnostic.code == entry["id"]
    assert "{" not in found.diagnostic.message
    assert found.diagnostic.message == found.diagnostic.message.strip()
    assert found.diagnostic.hint
    assert found.line


@pytest.mark.parametrize(("engine", "entry", "text"), list(samples()))
def test_no_other_failure_of_that_rank_or_a_better_one_matches(
    engine: str, entry: dict[str, Any], text: str
) -> None:
    (line,) = log_lines.lines(text, engines.on_host(engine).log.prefix)
    other_ranks = [
        (other["id"], other["rank"])
        for other in failure_patterns.read(engine)["failures"]
        if other["id"] != entry["id"] and other["rank"] <= entry["rank"] and "context" not in other
        and re.search(other["re"], line.text)
    ]  # fmt: skip
    assert other_ranks == []


@pytest.mark.parametrize(("engine", "entry"), entries("failures"))
def test_a_failure_is_not_seen_in_its_near_misses(engine: str, entry: dict[str, Any]) -> None:
    assert entry["near_misses"]
    for text in entry["near_misses"]:
        found = diagnosis.reader(engine).diagnose(text)
        assert found is None or found.diagnostic.code != entry["id"] or text not in found.line


@pytest.mark.parametrize(("engine", "entry"), entries("failures"))
def test_a_failure_has_all_that_its_reader_needs(engine: str, entry: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]+", entry["id"])
    assert entry["source"]
    assert 0 <= entry["rank"] <= WRAPPER
    assert all(sample["text"] and sample["source"] for sample in entry["samples"])
    named = set(re.findall(r"(?<!{)\{(\w+)\}", entry["cause"] + entry["remedy"]))
    assert named <= {*re.compile(entry["re"]).groupindex, "more"}


@pytest.mark.parametrize(("engine", "entry"), entries("failures"))
def test_a_consequence_names_the_place_where_the_cause_is(engine: str, entry: dict[str, Any]) -> None:
    if entry["rank"] > failure_patterns.VAGUE:
        assert re.search(r"\blogs?\b|fabric", entry["remedy"])
    assert entry["rank"] <= CONSEQUENCE or entry["id"] == "engine-failed"


@pytest.mark.parametrize(("engine", "entry"), entries("endings"))
def test_an_end_without_a_line_has_cause_and_remedy(engine: str, entry: dict[str, Any]) -> None:
    assert entry["cause"]
    assert entry["remedy"]


@pytest.mark.parametrize("kind", ["harmless", "warnings", "phases", "starts", "progress", "shutdown"])
def test_other_patterns_match_their_samples(kind: str) -> None:
    for engine in ENGINES:
        for entry in failure_patterns.read(engine)[kind]:
            (line,) = log_lines.lines(entry["sample"], engines.on_host(engine).log.prefix)
            assert re.search(entry["re"], line.text), (engine, entry)


def test_wordings_of_one_failure_are_side_by_side() -> None:
    for name in (None, *ENGINES):
        package = f"sparkfleet.engines.{name}" if name else "sparkfleet.onhost.gate"
        content = pkgutil.get_data(package, "failure_patterns.json")
        assert content is not None
        ids = [entry["id"] for entry in json.loads(content)["failures"]]
        assert len(list(dict.fromkeys(ids))) == sum(a != b for a, b in zip(ids, ["", *ids], strict=False))


PARTS = (
    "a", " ", "x: ", "error ", "(((", "[[[", "'x' ", "GiB ", "1.", "0x1 ", "/a/b", "NCCL error ", "ptxas ",
    "Xid (PCI:", "task=", 'exec: "', "Command '[", "expandable_segments ", "KV connector ", "hook ", "sm_12",
    "--gpu-name=sm_121 ", "error: argument --x ", "Error response from daemon: ", "CUDA error: ", "AER: ",
)  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("part", PARTS)
def test_long_lines_cost_no_more_than_short_ones(engine: str, part: str) -> None:
    """A pattern of quadratic or worse cost would need minutes for these: the time limit of a test ends it."""
    text = "\n".join([part * (100_000 // len(part)), f"ValueError: {part * 5000}", part * 3000 + "\x1b["])
    reader = diagnosis.reader(engine)
    reader.diagnose_all(diagnosis.Sources(text, 1, text))
    reader.last_meaningful_lines(text, 3)


KINDS = ("failures", "harmless", "warnings", "phases", "starts", "progress", "shutdown")


@pytest.mark.parametrize(("engine", "entry"), [parameter for kind in KINDS for parameter in entries(kind)])
def test_a_pattern_does_not_begin_with_a_repeat_without_a_limit(engine: str, entry: dict[str, Any]) -> None:
    """It is tried at every character of a line: quadratic, as ``[a-z]+: x`` on a line of letters."""
    for pattern in (entry["re"], entry.get("context", "")):
        assert not re.match(r"(\((\?:|\?P<\w+>)?)*(\[\^?\]?[^\]]*\]|\\?[^\\(])([+*]|\{\d*,\})", pattern), (
            pattern
        )


@pytest.mark.parametrize(("engine", "entry"), entries("failures"))
def test_a_pattern_has_no_repeat_within_a_repeat(engine: str, entry: dict[str, Any]) -> None:
    assert not re.search(r"[+*}]\)[+*]|[+*}]\)\{\d*,\d", entry["re"])
