"""Whatever a user writes, the answer is a Fleet or a SparkfleetError: never another exception."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparkfleet.config import image
from sparkfleet.config.models import ContainerSpec, GateSpec, HostFile, ServiceSpec, SshSpec
from sparkfleet.config.yaml_file import parse
from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import host_from_json
from tests.unit.config.fleet_files import SMALL, FleetFiles

SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Words that mean something here, so that more than the first check is reached.
KEYS = st.sampled_from(
    sorted(
        {
            *HostFile.model_fields,
            *ServiceSpec.model_fields,
            *ContainerSpec.model_fields,
            *GateSpec.model_fields,
            *SshSpec.model_fields,
            "max-model-len",
            "no-x",
            "tokenizer",
            "speculative-config",
            "HF_TOKEN",
            "",
            "?",
        }
    )
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from([SMALL, "a/b", "x:1", "nvcr.io/nvidia/vllm:26.04-py3", "30m", "~/x", "/x", "abcdef1"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
SERVICES = st.fixed_dictionaries(
    {"recipe": st.sampled_from([SMALL, "nothing"])},
    optional={
        "flags": st.dictionaries(KEYS, VALUES, max_size=3),
        "env": st.dictionaries(KEYS, SCALARS, max_size=3),
        "port": st.integers(-1, 70000),
        "image": st.text(max_size=20) | st.just("vllm/vllm-openai:v0.24.0"),
        "name": st.text(max_size=5),
        "gate": VALUES,
        "container": VALUES,
        "revision": st.text(max_size=10),
        "model": st.text(max_size=10),
    },
)
HOSTS = st.fixed_dictionaries(
    {}, optional={"serve": SERVICES | st.lists(SERVICES, max_size=3), "ssh": VALUES}
)


def outcome(call: Callable[[], Any]) -> tuple[Any, tuple[Diagnostic, ...]]:
    try:
        return call(), ()
    except SparkfleetError as error:
        return None, error.diagnostics


def check_load(files: FleetFiles) -> None:
    found, diagnostics = outcome(files.load)
    if found is None:
        assert diagnostics
        assert all(diagnostic.location and diagnostic.message for diagnostic in diagnostics)
    else:
        for host in found.hosts:
            assert host_from_json(json.loads(json.dumps(codec.plain(host)))) == host


@SETTINGS
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_a_document_or_a_sparkfleet_error(raw: Any) -> None:
    document, diagnostics = outcome(lambda: parse(raw, "f.yaml"))
    if document is None:
        assert all(diagnostic.location.startswith("f.yaml:") for diagnostic in diagnostics)
    else:
        json.dumps(document.data, allow_nan=False).encode()


@SETTINGS
@given(st.text(alphabet="ab:- \t\n[]{}#&*!|>'\"%@`?,0.~", max_size=60))
def test_arbitrary_punctuation_is_a_document_or_a_sparkfleet_error(text: Any) -> None:
    document, diagnostics = outcome(lambda: parse(text.encode(), "f.yaml"))
    assert (document is None) == bool(diagnostics)


@SETTINGS
@given(VALUES)
def test_an_arbitrary_structure_is_a_fleet_or_a_sparkfleet_error(
    fleet: Callable[..., FleetFiles], data: Any
) -> None:
    check_load(fleet({"spark-01.yaml": json.dumps(data)}))


@SETTINGS
@given(HOSTS)
def test_an_almost_right_host_file_is_a_fleet_or_a_sparkfleet_error(
    fleet: Callable[..., FleetFiles], data: Any
) -> None:
    check_load(fleet({"spark-01.yaml": json.dumps(data)}))


@SETTINGS
@given(VALUES)
def test_an_arbitrary_recipe_is_a_fleet_or_a_sparkfleet_error(
    fleet: Callable[..., FleetFiles], data: Any
) -> None:
    text = json.dumps({"recipe": "own", **data} if isinstance(data, dict) else data)
    check_load(fleet({"spark-01.yaml": "serve: own", "recipes/own.yaml": text}))


@SETTINGS
@given(VALUES)
def test_arbitrary_group_data_is_a_fleet_or_a_sparkfleet_error(
    fleet: Callable[..., FleetFiles], data: Any
) -> None:
    check_load(fleet({"spark-01.yaml": f"serve: {SMALL}", "group_data/all.py": f"sparkfleet = {data!r}"}))


@SETTINGS
@given(VALUES)
def test_an_arbitrary_lock_file_is_a_fleet_or_a_sparkfleet_error(
    fleet: Callable[..., FleetFiles], data: Any
) -> None:
    text = json.dumps({"version": 1, **data} if isinstance(data, dict) else data)
    files = fleet({"spark-01.yaml": f"serve: {SMALL}", "fleet.lock": text})
    found, diagnostics = outcome(lambda: files.load(need_lock=True))
    assert (found is None) == bool(diagnostics)


@SETTINGS
@given(st.text(max_size=40) | st.from_regex(r"[a-z./:@-]{1,30}", fullmatch=True))
def test_an_arbitrary_image_is_parsed_or_a_value_error(text: Any) -> None:
    try:
        found = image.parse(text)
    except ValueError:
        return
    assert image.parse(found.pull_ref).repository == found.repository
