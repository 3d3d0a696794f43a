"""3,000 command lines, made from sound ones by damage: the checks and argparse agree on each of them."""

import json

import pytest

from sparkfleet.engines.vllm import args, schema
from sparkfleet.engines.vllm.arg_parser import group
from sparkfleet.engines.vllm.check import check_flags
from tests.unit.engines.vllm.flexible_parser import RefusedError, build
from tests.unit.engines.vllm.generated_lines import generated, is_the_parsers

RELEASES = ("0.12.0", "0.19.0", "0.24.0", "0.28.0", "0.33.0")
PER_RELEASE = 600


@pytest.mark.provokes(
    "ambiguous", "json-not-object", "json-unknown-name", "needs-other-flag", "no-value-allowed"
)
@pytest.mark.parametrize("release", RELEASES)
def test_checks_and_argparse_agree_on_every_generated_line(release: str) -> None:
    known = schema.load(release)
    parser = build(known)
    disagreements: list[object] = []
    refused = 0
    for argv in generated(known, PER_RELEASE):
        try:
            namespace, error = parser.parse_args(list(argv)), ""
        except RefusedError as refusal:
            namespace, error = None, str(refusal)
        except SystemExit:
            continue
        refused += bool(error)
        found = [f for f in check_flags(argv, known) if is_the_parsers(f, known)]
        if bool(error) != bool(found):
            disagreements.append((argv, error, [f.message for f in found]))
        elif namespace is not None:
            disagreements += values_that_differ(argv, namespace, known)
    assert disagreements == []
    assert PER_RELEASE * 0.3 < refused < PER_RELEASE * 0.9


def values_that_differ(argv: list[str], namespace: object, known: schema.Schema) -> list[object]:
    """Compare the meaning of an accepted line, flag by flag, with what argparse made of it."""
    parsed = args.parse(argv, known)
    flags_set = {option.name for option in group(argv, known).options}
    differing: list[object] = []
    for name in flags_set:
        mine = parsed.values.get(name, parsed.model if name == "--model" else None)
        theirs = getattr(namespace, name.lstrip("-").replace("-", "_"))
        if known.flags[name].takes_json and isinstance(theirs, dict):
            mine, theirs = json.dumps(mine, sort_keys=True), json.dumps(theirs, sort_keys=True)
        if mine != theirs and known.flags[name].nargs != "?" and name != "--model":
            differing.append((argv, name, mine, theirs))
    return differing
