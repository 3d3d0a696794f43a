"""The checks and the real vLLM's own parser, given the same lines: both accept, or both refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sparkfleet.engines.vllm import schema_archive
from sparkfleet.engines.vllm.check import check_flags
from sparkfleet.engines.vllm.image_parser import read_answer
from sparkfleet.engines.vllm.schema import from_dump, load
from tests.real_vllm.conftest import ASK, in_image
from tests.unit.engines.vllm.generated_lines import generated, is_the_parsers

pytestmark = pytest.mark.real_vllm

COUNT = 3000
PARSE_MANY = """
lines = json.loads(LINES)
out = os.dup(1)
os.dup2(2, 1)
parser, serve, _ = command_line()

def refuse(message):
    raise RefusedError(message)

parser.error = serve.error = refuse
errors = []
for words in lines:
    try:
        parser.parse_args(["serve", *words])
        errors.append("")
    except RefusedError as refusal:
        errors.append(str(refusal))
    except (Exception, SystemExit) as error:
        errors.append(f"{type(error).__name__}: {error}")
os.write(out, json.dumps(errors).encode())
"""


@pytest.fixture(scope="module")
def program() -> str:
    """The program without its last lines, which answer for one line alone."""
    return ASK.read_text().partition('if __name__ == "__main__":')[0]


def test_the_bundled_schema_is_what_the_release_says_of_itself(schema: dict[str, Any]) -> None:
    said, bundled = from_dump(schema), load("0.32.0")
    assert said.version == bundled.version
    differing = {name for name in said.flags if said.flags[name] != bundled.flags.get(name)}
    # The CPU build offers no CUDA device here; the bundle has what its neighbours have.
    assert differing == {"--mm-processor-device"}
    assert set(said.flags) == set(bundled.flags)
    assert {name: said.json_classes[name] for name in bundled.json_classes} == bundled.json_classes
    kept = schema_archive.read()["registries"]
    assert {name: set(said.registries[name]) for name in kept} == {
        name: set(bundled.registries[name]) for name in kept
    }


def test_verdicts_on_generated_lines_are_the_real_parsers(
    image: Any, schema: dict[str, Any], program: Any
) -> None:
    known = from_dump(schema)
    lines = [line for line in generated(known, COUNT) if "--config" not in " ".join(line)]
    said = in_image(image, program + PARSE_MANY.replace("LINES", repr(json.dumps(lines))))
    disagreements, refused = [], 0
    for words, error in zip(lines, said, strict=True):
        findings = check_flags(words, known)
        found = [finding for finding in findings if is_the_parsers(finding, known)]
        # The parser builds nested configs as it goes; the others are built later, by the engine.
        nested = [finding for finding in findings if finding.code.startswith("json-")]
        refused += bool(error)
        if bool(error) != bool(found) and not (error and nested):
            disagreements.append((words, error, [finding.message for finding in found]))
    assert disagreements == []
    assert 0.3 * COUNT < refused < 0.9 * COUNT


def test_one_line_is_answered_as_the_plan_asks_it(image: Any) -> None:
    for words, ok in ((("m", "--max-model-len", "64K"), True), (("serve", "m", "--port", "8000"), False)):
        answer = read_answer(json.dumps(in_image(image, ASK.read_text(), "parse", *words)))
        assert answer.ok is ok
        assert answer.version == "0.32.0"
