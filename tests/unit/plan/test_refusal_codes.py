"""What the run refuses is in the plan with the same code, or the plan cannot know it for a stated reason."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from sparkfleet.contract.codes import CODES
from sparkfleet.resources.base import CONFLICT

REFUSES = (
    "sparkfleet.onhost.rollout.checks",
    "sparkfleet.onhost.rollout.services",
    "sparkfleet.onhost.cluster",
    "sparkfleet.onhost.artifacts",
    "sparkfleet.onhost.resources",
    "sparkfleet.resources",
    "sparkfleet.runtimes.docker.onhost",
    "sparkfleet.contract.hub_access",
    "sparkfleet.contract.registry_credentials",
)
"""Modules and packages whose code refuses a rollout, a fetch or a resource on a Spark."""
PLANS = (
    "sparkfleet.plan.blockers",
    "sparkfleet.plan.cluster",
    "sparkfleet.plan.compute",
    "sparkfleet.plan.docker_install",
    "sparkfleet.plan.rollback",
    "sparkfleet.plan.service_commands",
    "sparkfleet.plan.staging",
    "sparkfleet.plan.verification",
    "sparkfleet.probe.response",
    "sparkfleet.runtimes.docker.operator",
)
"""Those that block a change of the plan, or make the Spark unknown. Kinds of resources use CONFLICT."""

ONLY_IN_THE_RUN = {
    "cluster-rank-alone": "the plan changes all ranks together; only a command on the Spark does not",
    "cluster-rank-silent": "ranks talk over the fabric during a rollout",
    "contract-shape": "the request is not one that the plan makes",
    "dpkg-locked": "another process uses dpkg at any time: each change waits for it",
    "engine-unsupported": "a run updates the programs on the Spark before a rollout",
    "gpu-unresponsive": "only nvidia-smi shows it, which may hang: the preflight runs it, a plan does not",
    "host-change-failed": "the change itself fails, or has no effect",
    "host-changed-since-plan": "the host changes between plan and run",
    "hub-refused": "a plan sends no request to the hub",
    "lock-content-differs": "a plan sends no request to the hub",
    "job-lost": "the program on the Spark ends without a result",
    "registry-credentials-unreadable": "a plan sends no request to a registry, and most images need no login",
    "rollout-interrupted": "the head of a cluster is restarted during a rollout",
    "runtime-refused": "dockerd refuses the request itself",
    "staging-failed": "a transfer, or the content that arrives, is not as locked",
    "transfer-too-slow": "a transfer becomes slow while it runs",
    "unit-failed": "systemd refuses the change of a unit",
}
"""Code of a refusal without a blocker of the plan -> why the plan cannot know it."""


def modules(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        yield name
        for one in pkgutil.walk_packages(getattr(importlib.import_module(name), "__path__", ()), name + "."):
            yield one.name


@cache
def codes(names: tuple[str, ...]) -> set[str]:
    """Return every code that a module has as a literal, or as a constant of its own or imported."""
    found: set[str] = set()
    for name in modules(names):
        module = importlib.import_module(name)
        found |= {value for value in vars(module).values() if isinstance(value, str)}
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        found |= {value for value in constants if isinstance(value, str)}
    return found & CODES.keys()


def test_each_refusal_of_the_run_has_a_blocker_of_the_plan_or_a_reason() -> None:
    assert sorted(codes(REFUSES) - codes(PLANS) - {CONFLICT} - ONLY_IN_THE_RUN.keys()) == []


@pytest.mark.parametrize("code", ONLY_IN_THE_RUN)
def test_a_reason_is_given_only_for_a_refusal_that_the_plan_does_not_have(code: str) -> None:
    assert code in codes(REFUSES)
    assert code not in codes(PLANS)
