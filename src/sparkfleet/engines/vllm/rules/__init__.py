"""Lint rules for Spark and vLLM beyond single flags: checks of a resolved service, one module per topic."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sparkfleet.config.resolved import Host, Service
from sparkfleet.engines.vllm.findings import Level
from sparkfleet.engines.vllm.memory import TOTAL_GIB, Estimate, Measured
from sparkfleet.engines.vllm.rules import (
    backends,
    context,
    image,
    memory,
    parsers,
    quantization,
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
)
"""All rules decided by these modules, by topic."""


@dataclass(frozen=True)
class Verdict:
    """The result of one rule for one service."""

    id: str
    level: Level
    text: str
    source: str
    """Source of the rule."""
    remedy: str = ""


def check(
    service: Service,
    host: Host,
    *,
    schema: Schema | None = None,
    total_gib: float = TOTAL_GIB,
    measured: Measured | None = None,
) -> tuple[Verdict, ...]:
    """Return the results of the rules for a service, without those that the host file ignores.

    ``schema`` is the image's own, where it was read out; else the nearest bundled one. ``total_gib`` is the
    Spark's memory, where it was looked at; ``measured`` what the engine said of its own at its last start.
    """
    case = replace(case_of(service, host, total_gib, schema), measured=measured)
    allowed = dict(host.ignore_rules)
    verdicts = ((rule, rule.decide(case)) for rule in RULES if rule.id not in allowed)
    return tuple(
        Verdict(rule.id, statement.level, statement.text, rule.source, statement.remedy)
        for rule, statement in verdicts
        if statement is not None
    )


def estimate(
    service: Service,
    host: Host,
    *,
    schema: Schema | None = None,
    total_gib: float = TOTAL_GIB,
    measured: Measured | None = None,
) -> Estimate | None:
    """Return the memory that the service needs; None when the size of its weights is not locked."""
    return memory.estimate(replace(case_of(service, host, total_gib, schema), measured=measured))


__all__ = ["EXTERNAL_CHECKS", "RULES", "Case", "Rule", "Verdict", "check", "estimate"]
