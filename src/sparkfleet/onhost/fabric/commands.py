"""Commands about links: change and measure them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from sparkfleet.contract.fabric import BenchRequest, BenchTools, FabricRequest, StreamResult
from sparkfleet.onhost.fabric import bench, bench_stream, fabric
from sparkfleet.onhost.machine.stdio import OK, PROBLEM, read, write
from sparkfleet.onhost.machine.system import System

Run = Callable[[System, argparse.Namespace], int]


def add(command: Callable[[str, Run, str], Any]) -> None:
    """Add the commands; ``command`` adds one, by name, function and help."""
    command("fabric", _begin, "start the change of links on stdin; return at once")
    command("fabric-run", _run, "run a change of links, or revert an interrupted one").add_argument("id")
    command("fabric-confirm", _confirm, "confirm a change of links over a new connection").add_argument("id")
    give_up = command("fabric-give-up", _give_up, "revert a change of links at once")
    give_up.add_argument("id")
    give_up.add_argument("cause")
    command("bench-tools", _tools, "print the programs that can measure links")
    command("bench-begin", _listen, "start detached listeners for the measurements on stdin")
    command("bench-measure", _measure, "run the measurements on stdin and print the result")
    command("bench-end", _stop_listening, "stop the listeners")
    sink = command("bench-sink", _sink, "receive a plain TCP stream")
    source = command("bench-source", _source, "send a plain TCP stream and print the throughput")
    for stream in (sink, source):
        stream.add_argument("own")
        stream.add_argument("peer")
        stream.add_argument("port", type=int)
    source.add_argument("seconds", type=float)


def _begin(system: System, _: argparse.Namespace) -> int:
    write(fabric.begin(system, read(FabricRequest)))
    return OK


def _run(system: System, options: argparse.Namespace) -> int:
    result = fabric.run(system, options.id)
    write(result)
    return OK if result.outcome in {fabric.LINKED, fabric.REMOVED} else PROBLEM


def _confirm(system: System, options: argparse.Namespace) -> int:
    fabric.confirm(system, options.id)
    return OK


def _give_up(system: System, options: argparse.Namespace) -> int:
    fabric.give_up(system, options.id, options.cause)
    return OK


def _tools(_: System, __: argparse.Namespace) -> int:
    write(BenchTools(tuple(bench.tools())))
    return OK


def _listen(system: System, _: argparse.Namespace) -> int:
    bench.begin(system, read(BenchRequest))
    return OK


def _stop_listening(system: System, _: argparse.Namespace) -> int:
    bench.end(system, read(BenchRequest))
    return OK


def _measure(system: System, _: argparse.Namespace) -> int:
    write(bench.measure(system, read(BenchRequest)))
    return OK


def _sink(_: System, options: argparse.Namespace) -> int:
    bench_stream.sink(options.own, options.peer, options.port, bench.STREAMS)
    return OK


def _source(_: System, options: argparse.Namespace) -> int:
    ends = options.own, options.peer, options.port
    write(StreamResult(bench_stream.source(*ends, bench.STREAMS, options.seconds)))
    return OK
