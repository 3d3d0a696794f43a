"""`--json` is as its published schema says."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.as_json import plan_data
from sparkfleet.plan.json_schema import schema
from sparkfleet.plan.model import ChangeSet, HostPlan, Plan
from sparkfleet.plan.operations import OPERATIONS, UserDeploy
from tests.unit.fleet.operations.test_labels import plans
from tests.unit.plan.test_report import fleet

PUBLISHED = Path(__file__).parents[3] / "docs/schema/plan.json"
VALIDATOR = jsonschema.Draft202012Validator(schema())


def document(plan: Plan) -> Any:
    return json.loads(json.dumps(plan_data(plan)))


def test_the_schema_is_valid_and_the_published_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == schema()


def test_plans_with_every_type_of_operation_are_valid() -> None:
    user = HostPlan("spark-01", (ChangeSet("user_deploy.py", (UserDeploy("Files"),)),))
    hosts = (*(plan for _, plan in plans()), user)
    found = document(Plan(hosts))
    VALIDATOR.validate(found)
    sets = [one for host in found["hosts"] for one in host["change_sets"]]
    types = {operation["type"] for one in sets for operation in one["operations"]}
    assert types == {operation.type for operation in OPERATIONS}


def test_blocked_and_unknown_hosts_are_valid() -> None:
    related = Diagnostic("b", "found", related=(Diagnostic("c", "also found", code="test"),), code="test")
    VALIDATOR.validate(document(Plan((*fleet().hosts, HostPlan("x", unknown=related)))))


@pytest.mark.parametrize("where", ["operation", "parameters", "host"])
def test_a_key_that_the_schema_does_not_have_is_refused(where: str) -> None:
    found = copy.deepcopy(document(fleet()))
    host = found["hosts"][0]
    operation = host["change_sets"][0]["operations"][0]
    {"operation": operation, "parameters": operation["parameters"], "host": host}[where]["new"] = 1
    assert not VALIDATOR.is_valid(found)
