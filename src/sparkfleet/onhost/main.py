"""The commands of the one file on a Spark. Requests come as JSON on stdin, responses go as JSON to stdout.

Everything is imported at the top: the file may be replaced while a supervisor or a rollout runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import traceback
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sparkfleet import engines
from sparkfleet.contract.ask import AskRequest
from sparkfleet.contract.codec import SHAPE, ContractError
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.contract.logs import MAX_LINES, SOURCES, LogLine
from sparkfleet.contract.resources import ResourceRequest
from sparkfleet.contract.rollout import (
    SUCCEEDED,
    CommandRefused,
    Event,
    JobStarted,
    Recovered,
    RepairRequest,
    RolloutStarted,
)
from sparkfleet.contract.stage import StageRequest
from sparkfleet.contract.transfer import Places, SendRequest
from sparkfleet.onhost.artifacts import stage
from sparkfleet.onhost.artifacts.copy import job as copy_job
from sparkfleet.onhost.artifacts.copy import places, unit
from sparkfleet.onhost.artifacts.fetch import http_download
from sparkfleet.onhost.artifacts.image import copy_image
from sparkfleet.onhost.fabric import commands as fabric_commands
from sparkfleet.onhost.fabric import fabric
from sparkfleet.onhost.gate import diagnosis
from sparkfleet.onhost.machine import host, programs, runtime_wait, valve
from sparkfleet.onhost.machine.stdio import OK, PROBLEM, read, write
from sparkfleet.onhost.machine.system import System, runtime_of
from sparkfleet.onhost.resources import apply
from sparkfleet.onhost.rollout import follow, rollout, services, snapshot, transient_unit
from sparkfleet.onhost.service import ask, logs
from sparkfleet.onhost.service.logs import LogQuery
from sparkfleet.onhost.state import store
from sparkfleet.onhost.supervisor import supervisor
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import Instance, RuntimeRefusedError, RuntimeUnavailableError

RENAMED = {"guard": "supervise", "swap-run": "rollout-run"}
"""Commands in units that an earlier version wrote: they start these programs until they are replaced."""


def main(argv: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args([*(RENAMED.get(name, name) for name in argv[:1]), *argv[1:]])
    run: Callable[[System, argparse.Namespace], int] = options.run
    system = host.Spark()
    try:
        return run(system, options)
    except SparkfleetError as error:
        write(CommandRefused(error.diagnostic))
        sys.stderr.write(f"sparkfleet: {error}\n")
        return PROBLEM
    except (
        store.BusyError,
        RuntimeRefusedError,
        RuntimeUnavailableError,
        ValueError,
        FileNotFoundError,
    ) as error:
        write(CommandRefused(_refusal(system, error)))
        sys.stderr.write(f"sparkfleet: {error}\n")
        return transient_unit.BUSY if isinstance(error, store.BusyError) else PROBLEM


def _refusal(system: System, error: Exception) -> Diagnostic:
    """Return the diagnostic of an error that has none of its own."""
    if isinstance(error, store.BusyError):
        hint = "wait for its end, then run again"
        return Diagnostic("", str(error), hint=hint, code="rollout-in-progress")
    if isinstance(error, RuntimeUnavailableError):
        return runtime_wait.unavailable(runtime_of(system), error)
    if isinstance(error, RuntimeRefusedError):
        return Diagnostic("", str(error), hint="run again", code="runtime-refused")
    code = "job-lost" if isinstance(error, FileNotFoundError) else SHAPE
    return Diagnostic("", str(error), hint="run again", code=code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sparkfleet.pyz", description="sparkfleet's programs on a Spark")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[System, argparse.Namespace], int], text: str) -> Any:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("rollout", _rollout, "start the rollout of the request on stdin; return at once")
    command("rollout-run", _rollout_run, "run a rollout, or finish it").add_argument("id")
    command("resume", _resume, "continue a rollout whose program does not run").add_argument("id")
    command("recover", _recover, "at boot: finish what a reboot interrupted")
    for name, events, subject in (
        ("follow", follow.follow, "a rollout"),
        ("stage-follow", stage.follow, "a fetch"),
        ("fabric-follow", fabric.follow, "a change of fabric links"),
    ):
        following = command(name, partial(_follow, events), f"print the events of {subject}, its result last")
        following.add_argument("id")
        following.add_argument("--since", type=int, default=0, help="number of the first event")
        following.add_argument("--wait", type=float, default=0.0, help="seconds to wait for new events")
    command("status", _status, "print services, containers, units and memory")
    command("ask", _ask, "ask a service the question on stdin; print the answer as it is generated")
    reading = command("logs", _logs, "print the log of a service, with secrets masked")
    reading.add_argument("service", nargs="?", default="")
    reading.add_argument("--source", choices=SOURCES, required=True)
    reading.add_argument("--tail", type=int, default=MAX_LINES, help="number of lines, at most")
    reading.add_argument("--age", type=float, default=0.0, help="only lines of the last seconds")
    reading.add_argument("--follow", action="store_true")
    supervising = command("supervise", _supervise, "supervise a service's container (ExecStart of its unit)")
    supervising.add_argument("service")
    supervising.add_argument("--floor-mib", type=int, required=True)
    supervising.add_argument("--stop-timeout", type=int, default=60)
    flushing = command("valve", _valve, "drop the page cache before an engine starts")
    flushing.add_argument("--unless-running", metavar="SERVICE", default="")
    command("repair", _repair, "write the unit on stdin").add_argument("service")
    _add_stop(command("stop", _stop, "stop a service until its next start, also over reboots"))
    command("remove", _remove, "stop a service and remove its container, unit and record").add_argument(
        "service"
    )
    command(
        "rollback", _rollback, "print the request that rolls back to the previous generation"
    ).add_argument("service")
    command("prepare", _prepare, "apply or revert the resources on stdin")
    command("stage", _stage, "start the fetch that is on stdin; return at once")
    command("stage-run", _stage_run, "run a fetch").add_argument("id")
    command("hub-download", _hub_download, "download files of a model repository")
    command("copy-places", _copy_places, "print the addresses of this Spark on fabric and LAN")
    command("copy-serve", _copy_serve, "start the sender of the copy on stdin; print where it listens")
    command("copy-send", _copy_send, "serve one copy").add_argument("id")
    command("copy-stop", _copy_stop, "end a copy's sender").add_argument("id")
    forgetting = command("copy-forget", _copy_forget, "remove the file that an image was sent from")
    forgetting.add_argument("image")
    running = command(
        "run-program", _run_program, "run the program on stdin with an engine's files, without network"
    )
    running.add_argument("runtime")
    running.add_argument("artifact", help="what an instance runs from: for docker the image")
    running.add_argument("interpreter")
    running.add_argument("args", nargs=argparse.REMAINDER)
    command("copy-receive", _copy_receive, "fetch the files of the copy on stdin")
    fabric_commands.add(command)
    return parser


def _add_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service")
    parser.add_argument("--operator", default="root", help="who stops it, for its record")
    parser.add_argument("--reason", default="", help="for its record")


def _rollout(system: System, _: argparse.Namespace) -> int:
    code, response = transient_unit.request(system, read(RolloutRequest))
    write(response)
    return code


def _rollout_run(system: System, options: argparse.Namespace) -> int:
    if not store.was_requested(system.paths.state, options.id):
        raise FileNotFoundError(f"there is no rollout {options.id} on this Spark")
    host.stay_in_memory()
    for engine in engines.host_names():
        diagnosis.reader(engine)  # reads the patterns now, before the file can be replaced
    try:
        with store.lock(system.paths.state):
            result = rollout.run(system, options.id)
    except ContractError:
        raise  # of a newer version: another attempt of these programs would end in the same way
    except Exception:
        traceback.print_exc()
        return transient_unit.INTERNAL
    write(result)
    return OK if result.outcome in SUCCEEDED else PROBLEM


def _hub_download(_: System, __: argparse.Namespace) -> int:
    return http_download.main()


def _resume(system: System, options: argparse.Namespace) -> int:
    if options.id not in store.unfinished(system.paths.state):
        return OK
    transient_unit.require_not_newer(system, options.id)
    problem = transient_unit.resume(system, options.id)
    if problem:
        raise SparkfleetError(transient_unit.not_started(options.id, problem))
    write(RolloutStarted(options.id, "continues"))
    return OK


def _recover(system: System, _: argparse.Namespace) -> int:
    for job in fabric.recover(system):
        write(Recovered(job=job, text="was interrupted by a reboot and was reverted"))
    for rollout_id in transient_unit.recover(system):
        write(Recovered(rollout_id, text="was interrupted by a reboot and continues"))
    return OK


def _follow(
    events: Callable[[System, str, int, float], list[Event]], system: System, options: argparse.Namespace
) -> int:
    for event in events(system, options.id, options.since, options.wait):
        write(event)
    return OK


def _status(system: System, _: argparse.Namespace) -> int:
    write(follow.status(system))
    return OK


def _ask(system: System, _: argparse.Namespace) -> int:
    ask.ask(system, read(AskRequest), write)
    return OK


def _logs(system: System, options: argparse.Namespace) -> int:
    def show(line: LogLine | None) -> None:
        if line is not None:
            write(line)
            return
        sys.stdout.write("\n")
        sys.stdout.flush()

    since = system.now() - options.age if options.age else 0.0
    query = LogQuery(options.source, options.service, options.tail, since, options.follow)
    try:
        logs.show(system, query, show)
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _supervise(system: System, options: argparse.Namespace) -> int:
    host.stay_in_memory()
    supervised = supervisor.Supervisor(
        system,
        options.service,
        options.floor_mib,
        options.stop_timeout,
        supervisor.print_line,
        _notify,
        programs.identity(),
    )
    signal.signal(signal.SIGTERM, lambda *_: supervised.stop.set())
    signal.signal(signal.SIGINT, lambda *_: supervised.stop.set())
    signal.signal(signal.SIGUSR1, lambda *_: supervised.leave.set())
    return supervised.run()


def _notify(text: str) -> None:
    """Tell systemd (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return


def _current(system: System, service: str) -> Instance | None:
    return snapshot.current_runtime(system, service).find(service)


def _valve(system: System, options: argparse.Namespace) -> int:
    if options.unless_running:
        container = _current(system, store.check_service(options.unless_running))
        if container and container.running:
            return OK
    sys.stdout.write(valve.before_start(system) + "\n")
    return OK


def _repair(system: System, options: argparse.Namespace) -> int:
    generation = read(RepairRequest).generation
    if generation.service != options.service:
        raise ValueError(f"stdin is a generation of {generation.service}, not of {options.service}")
    write(services.repair(system, generation, programs.identity()))
    return OK


def _stop(system: System, options: argparse.Namespace) -> int:
    service = store.check_service(options.service)
    write(services.stop(system, service, options.operator, options.reason))
    return OK


def _remove(system: System, options: argparse.Namespace) -> int:
    write(services.remove(system, store.check_service(options.service)))
    return OK


def _rollback(system: System, options: argparse.Namespace) -> int:
    name = f"back-{uuid.uuid4().hex[:12]}"
    write(services.rollback(system, store.check_service(options.service), name))
    return OK


def _prepare(system: System, _: argparse.Namespace) -> int:
    result = apply.run(system, read(ResourceRequest))
    write(result)
    return PROBLEM if result.refused else OK


def _stage(system: System, _: argparse.Namespace) -> int:
    job = stage.begin(read(StageRequest), system.paths)
    write(JobStarted(job))
    return OK


def _stage_run(system: System, options: argparse.Namespace) -> int:
    onhost.images()  # imports it now, before the file can be replaced
    return stage.run(options.id, system.paths, lambda: valve.flush(system).text)


def _copy_places(_: System, __: argparse.Namespace) -> int:
    write(Places(places.places()))
    return OK


def _copy_serve(_: System, __: argparse.Namespace) -> int:
    write(unit.begin(read(SendRequest)))
    return OK


def _copy_send(_: System, options: argparse.Namespace) -> int:
    return unit.run(options.id)


def _copy_stop(_: System, options: argparse.Namespace) -> int:
    unit.end(options.id)
    return OK


def _copy_forget(system: System, options: argparse.Namespace) -> int:
    copy_image.forget(system.paths.state, options.image)
    return OK


def _run_program(system: System, options: argparse.Namespace) -> int:
    runtime = system.runtime(options.runtime)
    argv = runtime.program_command(options.artifact, options.interpreter, tuple(options.args))
    os.execvp(argv[0], argv)  # noqa: S606  (stdin is the program's)


def _copy_receive(_: System, __: argparse.Namespace) -> int:
    return copy_job.receive()
