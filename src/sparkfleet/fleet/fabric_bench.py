"""Benchmark of a cluster's links: pair by pair, one host listens and the other sends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet import interrupts
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.fabric import BenchRequest, BenchResult, BenchTools
from sparkfleet.desired_state import Host
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.probe import observe
from sparkfleet.fleet.run import fleet_plan, fleet_run, spark_plan
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.fabric import bench
from sparkfleet.plan.model import HostState, Step

T = TypeVar("T")
STEPS = (Step.HOST, Step.FABRIC)
SLOW_S = 60
"""Seconds beside those that are measured."""


def fabric_bench(
    inventory: Path, members: Sequence[Host], seconds: int, report: Callable[[str], None]
) -> list[tuple[str, BenchResult]]:
    """Return each sender with its measurements. ``report`` gets each pair as it starts.

    Raises SparkfleetError when a member cannot be reached, or its links are not as declared.
    """
    ready = _on(inventory, [host.name for host in members], _ready)
    ends = [ready[host.name] for host in members]
    results = []
    for sender, receiver in bench.pairs(ends):
        report(f"{sender.name} to {receiver.name}")
        sends, listens = bench.requests(sender, receiver, seconds)
        with interrupts.changing(receiver.name, "listens for a measurement"):
            _on(inventory, [receiver.name], partial(_run, command="bench-begin", request=listens))
            measured = _on(inventory, [sender.name], partial(_measure, request=sends))
            results.append((sender.name, measured[sender.name]))
            _on(inventory, [receiver.name], partial(_run, command="bench-end", request=listens))
    return results


def _ready(host: PyinfraHost) -> bench.End:
    spec = spark_plan.declared(host)
    observed = observe(host, probe_request(spec))
    plan = host_plan(spec, observed).within(STEPS)
    if plan.unknown:
        raise SparkfleetError(plan.unknown)
    if isinstance(observed, Diagnostic) or plan.state is not HostState.UNCHANGED:
        remedy = "pyinfra INVENTORY deploys/fabric.py; then run again"
        raise SparkfleetError(
            Diagnostic(host.name, "its links are not as declared", hint=remedy, code="operation-failed")
        )
    assert spec.member is not None and observed.fabric is not None  # noqa: S101, PT018  (it is of a cluster)
    output = remote.run(host, (*remote.PROGRAM, "bench-tools"))
    tools = remote.document(BenchTools, host, output.out).tools
    return bench.End(spec.name, spec.member, observed.fabric, tools)


def _run(host: PyinfraHost, command: str, request: BenchRequest) -> str:
    """Return the output of a command of the benchmark."""
    wait_s = (len(request.lanes) + 1) * request.seconds + SLOW_S
    with interrupts.changing(host.name, "measures its links"):
        output = remote.program(host, command, data=request, timeout=wait_s)
    if not output.ok:
        raise SparkfleetError(remote.refusal(output, host.name, command))
    return output.out


def _measure(host: PyinfraHost, request: BenchRequest) -> BenchResult:
    return remote.document(BenchResult, host, _run(host, "bench-measure", request))


def _on(inventory: Path, names: Sequence[str], one: Callable[[PyinfraHost], T]) -> dict[str, T]:
    """Return an answer of each of these Sparks. Raises SparkfleetError with all that went wrong."""
    results: dict[str, T] = {}
    diagnostics: list[Diagnostic] = []

    def work(host: PyinfraHost) -> None:
        try:
            results[spark_plan.declared(host).name] = one(host)
        except SparkfleetError as error:
            diagnostics.extend(error.diagnostics)
        except remote.ConnectionLostError as error:
            diagnostics.append(
                Diagnostic(host.name, f"connection lost: {error}", hint="run again", code="connection-lost")
            )

    state, _ = fleet_plan.on_each(inventory, names, work)
    diagnostics += fleet_run.run_of(state).unreachable.values()
    if diagnostics:
        raise SparkfleetError(*diagnostics)
    return results
