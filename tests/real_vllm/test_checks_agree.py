"""The checks and the real vLLM's own parser agree on the same command lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.engines.vllm import schema_archive
from sparkfleet.engines.vllm.check import check_flags
from sparkfleet.engines.vllm.image_parser import read_check
from sparkfleet.engines.vllm.schema import SchemaDump, from_dump, load
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
for args in lines:
    try:
        parser.parse_args(["serve", *args])
        errors.append("")
    except RefusedError as refusal:
        errors.append(str(refusal))
    except (Exception, SystemExit) as error:
        errors.append(f"{type(error).__name__}: {error}")
os.write(out, json.dumps(errors).encode())
"""


@pytest.fixture(scope="module")
def program() -> str:
    """The program without its last lines, which handle a single command line."""
    return ASK.read_text().partition('if __name__ == "__main__":')[0]


def test_the_archived_schema_matches_the_parser_of_the_release(schema: dict[str, Any]) -> None:
    reported, bundled = from_dump(codec.read(SchemaDump, schema, "the image")), load("0.32.0")
    assert reported.version == bundled.version
    differing = {name for name in reported.flags if reported.flags[name] != bundled.flags.get(name)}
    # The CPU build has no CUDA device for this flag; the archive has the value of other releases.
    assert differing == {"--mm-processor-device"}
    assert set(reported.flags) == set(bundled.flags)
    assert {name: reported.json_classes[name] for name in bundled.json_classes} == bundled.json_classes
    archived = schema_archive.read()["registries"]
    assert {name: set(reported.registries[name]) for name in archived} == {
        name: set(bundled.registries[name]) for name in archived
    }


def test_verdicts_on_generated_command_lines_match_the_real_parser(
    image: Any, schema: dict[str, Any], program: Any
) -> None:
    known = from_dump(codec.read(SchemaDump, schema, "the image"))
    lines = [line for line in generated(known, COUNT) if "--config" not in " ".join(line)]
    reported = in_image(image, program + PARSE_MANY.replace("LINES", repr(json.dumps(lines))))
    disagreements, refused = [], 0
    for args, error in zip(lines, reported, strict=True):
        findings = check_flags(args, known)
        found = [finding for finding in findings if is_the_parsers(finding, known)]
        # The parser builds some nested configs; the engine builds the others later.
        nested = [finding for finding in findings if finding.code.startswith("json-")]
        refused += bool(error)
        if bool(error) != bool(found) and not (error and nested):
            disagreements.append((args, error, [finding.message for finding in found]))
    assert disagreements == []
    assert 0.3 * COUNT < refused < 0.9 * COUNT


def test_one_command_line_is_checked_as_the_plan_requests_it(image: Any) -> None:
    for args, ok in ((("m", "--max-model-len", "64K"), True), (("serve", "m", "--port", "8000"), False)):
        check = read_check(json.dumps(in_image(image, ASK.read_text(), "parse", *args)))
        assert check.ok is ok
        assert check.version == "0.32.0"
