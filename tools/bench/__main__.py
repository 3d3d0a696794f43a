"""``python -m tools.bench [--quick] [--keep]``: set up, measure, print, write build/bench.*.

``--write-docs build/bench.json`` writes the results of a run to the documentation instead.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench import copying, document, loopback, plan_rows, relayed_sparks, rivals, sides, sparks, table
from tools.bench.fleets import ROOT, FleetDirectory, python_path
from tools.bench.measure import Row, line, measure
from tools.bench.table import Budget, Count

from sparkfleet_lab import lifecycle

WORK = ROOT / "build" / "bench"


def report(text: str) -> None:
    """Print progress with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and two rounds, to test the benchmark"
    )
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument("--rounds", type=int, default=0, help="runs of each command (default 7, quick 2)")
    parser.add_argument(
        "--write-docs", type=Path, metavar="JSON", help="write the results of a run to the documentation"
    )
    options = parser.parse_args()
    if options.write_docs:
        document.write_into(ROOT / document.PAGE, json.loads(options.write_docs.read_text()))
        return
    rounds = options.rounds or (2 if options.quick else 7)
    # With it, each process would compile this project again, but not what other tools have installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    lab_sizes = (1, 2) if options.quick else (1, 4, 8)
    sizes = (1, 10, 20) if options.quick else (1, 10, 25, 50, 100, 200)
    machines = sparks.up(lab_sizes[-1], WORK, report)
    try:
        rows, counts, notes, extra = measure_all(machines, lab_sizes, sizes, rounds, quick=options.quick)
        copied = copying.measure(machines, min(rounds, 3), 256 if options.quick else 4096, report)
    finally:
        if not options.keep:
            lifecycle.down(machines.docker, machines.lab, also_images=False, report=report)
    budgets = [*evaluate_budgets(rows, counts, extra["sides"], lab_sizes, sizes), *copying.budgets(copied)]
    notes += copying.describe(copied)
    table.show(rows, counts, notes, budgets)
    json_file, text_file = WORK.parent / "bench.json", WORK.parent / "bench.md"
    json_file.write_text(table.as_json(rows, counts, notes, budgets, extra) + "\n")
    text_file.write_text(document.markdown(json.loads(json_file.read_text())))
    report(f"wrote {json_file.relative_to(ROOT)} and {text_file.relative_to(ROOT)}")
    sys.exit(1 if any(row.failed for row in rows) else 0)


def measure_all(
    machines: sparks.Sparks, lab_sizes: Sequence[int], sizes: Sequence[int], rounds: int, *, quick: bool
) -> tuple[list[Row], list[Count], list[str], dict[str, Any]]:
    """Return all measured rows, counts, notes, and further data."""
    rivals.install(machines, report)
    lock = WORK / "fleet.lock"
    everyone = FleetDirectory(WORK / f"sparks-{lab_sizes[-1]}")
    shutil.copy(everyone.lock, lock)
    recording = WORK / "answer.txt"
    recording.write_text(sparks.record_probe(machines, everyone))
    rows: list[Row] = []

    def add_rows(rows_of_group: list[Row], label: str) -> None:
        report(f"{label}: {len(rows_of_group)} commands, {rounds} rounds")
        measure(rows_of_group, rounds, report)
        rows.extend(rows_of_group)

    add_rows(list(plan_rows.of_sparks(machines, lab_sizes, lock)), "Sparks of the lab")
    hosts = loopback.up(machines, max(1000, sizes[-1]) if not quick else sizes[-1], lock, sizes[-1])
    add_rows(list(plan_rows.of_loopback(hosts, sizes)), "SSH hosts on loopback")
    notes, size = linear(rows), sizes[-1]
    report("measuring CPU of controller and hosts")
    both = {
        title: sides.measure_cpu(command, hosts) for title, command in plan_rows.of_both_sides(hosts, size)
    }
    hot = profile_plan(hosts.fleet(min(50, size)))
    add_rows(list(plan_rows.of_played_back(hosts, sizes[-1:], recording)), "replayed probe")
    both[plan_rows.REPLAYED_PROBE] = sides.measure_cpu(plan_rows.plan(hosts.fleet(size)), hosts)
    notes += sides.describe(both, size)
    recorded = (100,) if quick else (200, 1000)
    add_rows(list(plan_rows.of_recorded(hosts, recorded, recording)), "recorded Sparks")
    machines.docker.run("rm", "-f", "-v", hosts.container)
    for delay in (20,) if quick else (20, 100):
        with relayed_sparks.relayed(machines, delay) as relay:
            add_rows(list(plan_rows.of_far(relay, delay, lab_sizes[:2], lock)), f"{delay} ms round trip")
            rivals.close_connections(relay.config, machines.names)
    check = (50,) if quick else (200, 1000)
    check_lock = lock_of_all(machines)
    add_rows(list(plan_rows.of_local_commands(WORK, check, machines.group_data, check_lock)), "without hosts")
    report("counting remote commands and bytes")
    counts = list(count_traffic(machines, lab_sizes[1], lock))
    rivals.close_connections(machines.lab.ssh_config, machines.names)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in list(hot["packages"].items())[:8])
    greatest = ", ".join(f"{name} {share:.1%}" for name, share in list(hot["functions"].items())[:4])
    notes.append(f"controller's CPU for {min(50, sizes[-1])} hosts: {shares}; largest functions: {greatest}")
    per_host = {title: {**vars(each), "hosts": size} for title, each in both.items()}
    return rows, counts, notes, {"profile": hot, "sides": per_host}


def lock_of_all(machines: sparks.Sparks) -> Path:
    """Return a lock file with every recipe that ``check`` is measured with."""
    from tools.bench import fleets  # noqa: PLC0415

    fleet = fleets.make(WORK / "lock", dict(fleets.varied_hosts(len(fleets.RECIPES))), machines.group_data)
    sparks.project(fleet, "sparkfleet", "lock", str(fleet.inventory))
    return fleet.lock


def count_traffic(machines: sparks.Sparks, size: int, lock: Path) -> list[Count]:
    """Return the traffic of each tool to a host."""
    names = machines.names[:size]
    tools = (
        (plan_rows.PLAN, lambda relay: plan_rows.plan(relay.fleet(size, lock)), False),
        ("pyinfra --dry, this project's deploy", lambda relay: plan_rows.dry(relay.fleet(size, lock)), False),
        ("pyinfra, one command", lambda relay: rivals.bare(relay.fleet(size, lock)), False),
        ("pyinfra --dry, stock operations", lambda relay: rivals.stock(relay.fleet(size, lock)), False),
        (
            "ansible-playbook --check --diff, warm",
            lambda relay: rivals.ansible(WORK / "ansible", relay.fleet(size, lock), relay.config, names),
            True,
        ),
    )
    return [relayed_sparks.count(machines, title, size, made, warm) for title, made, warm in tools]


def linear(rows: Sequence[Row]) -> list[str]:
    """Return how time and memory grow with the number of hosts on loopback."""
    plans = [
        row
        for row in rows
        if row.group == plan_rows.SAME_CORES and row.title == plan_rows.PLAN and row.samples
    ]
    notes_of_growth = []
    for label, name, unit, scale in (
        ("wall time", "wall_s", "ms", 1000),
        ("controller's CPU", "cpu_s", "ms", 1000),
        ("memory", "rss_mib", "MiB", 1),
    ):
        start, slope, r2 = line({row.hosts: row.median(name) for row in plans})
        text = f"{label} of a plan of n hosts: {start * scale:.0f} {unit} + n x {slope * scale:.2f} {unit}"
        notes_of_growth.append(f"{text} (r2 = {r2:.3f}, n = {plans[0].hosts}..{plans[-1].hosts})")
    return notes_of_growth


def profile_plan(fleet: FleetDirectory) -> dict[str, dict[str, float]]:
    """Return the distribution of the controller's CPU."""
    argv = [str(sparks.BIN / "python"), "-m", "tools.bench.hot", str(fleet.inventory)]
    env = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(argv, cwd=fleet.root, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        report(f"FAILED profile: {done.stderr[-500:]}")
        return {"packages": {}, "functions": {}}
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def evaluate_budgets(
    rows: Sequence[Row],
    counts: Sequence[Count],
    both: Mapping[str, Mapping[str, float]],
    lab_sizes: Sequence[int],
    sizes: Sequence[int],
) -> list[Budget]:
    """Return the measured budgets, each with its result."""

    def wall(group: str, title: str, hosts: int) -> float:
        found = [
            r for r in rows if r.group.startswith(group) and r.title.startswith(title) and r.hosts == hosts
        ]
        return found[0].median("wall_s") if found else float("nan")

    def at_most(text: str, limit: float, measured: float) -> Budget:
        return Budget(text, f"<= {table.seconds(limit)}", table.seconds(measured), measured <= limit)

    lab, size = "Converged", lab_sizes[1]
    plan, playbook_time = (
        wall(lab, plan_rows.PLAN, size),
        wall(lab, "ansible-playbook --check --diff, tuned", size),
    )
    bare = wall(lab, "pyinfra, one command", size)
    own = counts[0]
    found = [
        at_most("plan of one converged Spark", 0.9, wall(lab, plan_rows.PLAN, 1)),
        Budget(
            "connections and remote commands per host",
            "1 and 1",
            f"{own.connections:g} and {own.commands:g}",
            (own.connections, own.commands) == (1, 1),
        ),
        Budget(
            f"{size} Sparks: Ansible, compared with a plan",
            ">= 10 x",
            f"{playbook_time / plan:.1f} x",
            playbook_time / plan >= 10,  # noqa: PLR2004
        ),
        Budget(
            f"{size} Sparks: compared with a bare command",
            "<= 1.5 x",
            f"{plan / bare:.2f} x",
            plan / bare <= 1.5,  # noqa: PLR2004
        ),
        at_most("import of sparkfleet.cli", 0.15, wall("Without", "import", 0)),
    ]
    if sizes[-1] == 200:  # noqa: PLR2004
        plan200 = both[plan_rows.PLAN]
        played = wall(plan_rows.REPLAYED, plan_rows.PLAN, 200)
        found.append(at_most("200 hosts on loopback, replayed probes", 4, played))
        found.append(at_most("controller's CPU for a plan of 200 hosts", 3, plan200["controller_s"]))
        found.append(at_most("each host's CPU for a plan", 0.07, plan200["hosts_s"] / 200))
        found.append(at_most("check of 200 hosts", 1.5, wall("Without", "sparkfleet check", 200)))
        found.append(at_most("plan of 1,000 recorded hosts", 15, wall("Recorded", plan_rows.PLAN, 1000)))
        thousand = next(r for r in rows if r.hosts == 1000 and r.title == plan_rows.PLAN)  # noqa: PLR2004
        memory = thousand.median("rss_mib")
        found.append(Budget("memory of that plan", "<= 500 MiB", f"{memory:.0f} MiB", memory <= 500))  # noqa: PLR2004
    return found


if __name__ == "__main__":
    main()
