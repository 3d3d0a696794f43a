"""Lint rules for Spark and vLLM beyond single flags: checks of a resolved service, one module per topic."""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, Service
from sparkfleet.engines.vllm.memory import Estimate, Measured
from sparkfleet.engines.vllm.rules import (
    backends,
    context,
    image,
    memory,
    parsers,
    quantization,
    readiness,
    speculative,
    storage,
)
from sparkfleet.engines.vllm.rules.case import Case, Rule, case_of
from sparkfleet.engines.vllm.rules.external_checks import EXTERNAL_CHECKS
from sparkfleet.engines.vllm.schema import Schema

RULES: tuple[Rule, ...] = (
    *image.RULES,
    *quantization.RULES,
    *context.RULES,
    *memory.RULES,
    *backends.RULES,
    *speculative.RULES,
    *parsers.RULES,
    *storage.RULES,
    *readiness.RULES,
)
"""All rules decided by these modules, by topic."""


def check(
    service: Service,
    host: Host,
    *,
    schema: Schema | None = None,
    total_gib: float | None = None,
    measured: Measured | None = None,
) -> tuple[Diagnostic, ...]:
    """Return what the rules find, without those that the host file ignores.

    ``schema`` is the image's own, where it was read, else the nearest bundled one. ``total_gib`` is the
    Spark's memory, where it was read, else the declared or assumed one counts. ``measured`` is what the
    engine logged at its last start.
    """
    case = replace(case_of(service, host, total_gib, schema), measured=measured)
    ignored = dict(host.ignore_rules)
    diagnostics = (rule.check(case) for rule in RULES if rule.id not in ignored)
    return tuple(one for one in diagnostics if one is not None)


def estimate(
    service: Service,
    host: Host,
    *,
    schema: Schema | None = None,
    total_gib: float | None = None,
    measured: Measured | None = None,
) -> Estimate | None:
    """Return the memory that the service needs; None when the size of its weights is not locked."""
    return memory.estimate(replace(case_of(service, host, total_gib, schema), measured=measured))


__all__ = ["EXTERNAL_CHECKS", "RULES", "Case", "Rule", "check", "estimate"]
