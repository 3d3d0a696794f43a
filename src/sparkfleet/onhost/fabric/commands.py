"""The commands about links: change them, and measure them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from sparkfleet.contract.fabric import BenchRequest, BenchTools, FabricRequest
from sparkfleet.onhost.fabric import bench, bench_stream, fabric
from sparkfleet.onhost.machine.stdio import OK, PROBLEM, read_json, write_json
from sparkfleet.onhost.machine.system import System

Run = Callable[[System, argparse.Namespace], int]


def add(command: Callable[[str, Run, str], Any]) -> None:
    """Add the commands; ``command`` adds one, by name, function and help."""
    command("fabric", _begin, "start the change of the links that is on stdin; return at once")
    command("fabric-run", _run, "carry a change of the links out, or put it back").add_argument("id")
    command("fabric-confirm", _confirm, "say that a new connection works").add_argument("id")
    giving_up = command("fabric-give-up", _give_up, "let a change of the links be put back at once")
    giving_up.add_argument("id")
    giving_up.add_argument("cause")
    command("bench-tools", _tools, "say which programs can measure the links here")
    command("bench-begin", _listen, "listen, detached, for the measurements that are on stdin")
    command("bench-measure", _measure, "send, as stdin says, and print what arrived")
    command("bench-end", _listen_no_more, "listen no more")
    sink = command("bench-sink", _sink, "take a plain TCP stream")
    source = command("bench-source", _source, "send a plain TCP stream, and print what arrived")
    for stream in (sink, source):
        stream.add_argument("own")
        stream.add_argument("peer")
        stream.add_argument("port", type=int)
    source.add_argument("seconds", type=float)


def follow(system: System, options: argparse.Namespace) -> int:
    """Print the events of a change of the links."""
    for event in fabric.follow(system, options.id, options.since, options.wait):
        write_json(event.to_json())
    return OK


def _begin(system: System, _: argparse.Namespace) -> int:
    write_json(fabric.begin(system, FabricRequest.from_json(read_json(), "stdin")))
    return OK


def _run(system: System, options: argparse.Namespace) -> int:
    result = fabric.run(system, options.id)
    write_json(result.to_json())
    return OK if result.outcome in {fabric.LINKED, fabric.REMOVED} else PROBLEM


def _confirm(system: System, options: argparse.Namespace) -> int:
    fabric.confirm(system, options.id)
    return OK


def _give_up(system: System, options: argparse.Namespace) -> int:
    fabric.give_up(system, options.id, options.cause)
    return OK


def _tools(_: System, __: argparse.Namespace) -> int:
    write_json(BenchTools(tuple(bench.tools())).to_json())
    return OK


def _listen(system: System, _: argparse.Namespace) -> int:
    diagnostic = bench.begin(system, BenchRequest.from_json(read_json(), "stdin"))
    if diagnostic:
        sys.stderr.write(f"{diagnostic}\n")
    return PROBLEM if diagnostic else OK


def _listen_no_more(system: System, _: argparse.Namespace) -> int:
    bench.end(system, BenchRequest.from_json(read_json(), "stdin"))
    return OK


def _measure(system: System, _: argparse.Namespace) -> int:
    write_json(bench.measure(system, BenchRequest.from_json(read_json(), "stdin")))
    return OK


def _sink(_: System, options: argparse.Namespace) -> int:
    bench_stream.sink(options.own, options.peer, options.port, bench.STREAMS)
    return OK


def _source(_: System, options: argparse.Namespace) -> int:
    ends = options.own, options.peer, options.port
    write_json({"gbits": bench_stream.source(*ends, bench.STREAMS, options.seconds)})
    return OK
