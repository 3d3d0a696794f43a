"""Sparks that are a table, for commands in processes of their own.

``sitecustomize`` of such a process calls ``install``. Every remote command has a word: the program on the
host that it runs, or what it is. At a chosen word the host does not respond any more, and the test knows it.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "TEST_REMOTE_SPARKS"
STEPS = ("begin", "load", "gate", "promote")
"""What a rollout reports, one event for each question."""
USER_COMMAND = "a-command-of-the-user"


@dataclass(frozen=True)
class Script:
    """What the Sparks do."""

    states: Mapping[str, str] = field(default_factory=dict)
    """By host: fresh (the default), converged, drifted or in-progress."""
    word: str = ""
    """The remote command that does not end."""
    count: int = 1
    """Which one of each host, the first is 1."""
    host: str = ""
    """At which host; "": at each."""
    pipe: int = -1
    """Gets a byte for each host that does not respond any more."""

    def environment(self, directory: Path) -> dict[str, str]:
        """Return the variables of a process in which these Sparks are installed."""
        (directory / "sitecustomize.py").write_text(
            "from tests.unit import remote_sparks\nremote_sparks.install()\n"
        )
        root = Path(__file__).parents[2]
        return {"PYTHONPATH": f"{directory}:{root}", VARIABLE: json.dumps(asdict(self))}


class _Hooks(importlib.abc.MetaPathFinder):
    """Calls a function with a module after its import."""

    def __init__(self, hooks: dict[str, Callable[[Any], None]]) -> None:
        self.hooks = hooks

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> Any:
        del path, target
        hook = self.hooks.pop(fullname, None)
        spec = importlib.util.find_spec(fullname) if hook else None
        if hook is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            hook(module)

        setattr(spec.loader, "exec_module", exec_module)  # noqa: B010
        return spec


def install() -> None:
    """Replace what connects to hosts by the table; each module when it is imported."""
    script = Script(**json.loads(os.environ[VARIABLE]))
    declared: dict[str, Any] = {}

    def connector(module: Any) -> None:
        counts: Counter[tuple[str, str]] = Counter()

        def run(self: Any, command: Any, **more: Any) -> tuple[bool, Any]:
            from pyinfra.connectors.util import CommandOutput, OutputLine  # noqa: PLC0415

            text, name = command.get_raw_value(), self.host.name
            word = word_of(text)
            counts[name, word] += 1
            if (word, counts[name, word]) == (script.word, script.count) and script.host in {"", name}:
                os.write(script.pipe, b".")
                time.sleep(600)
            stdin = "".join(more.get("_stdin") or ())
            lines = _response(text, _output(name, word, text, stdin))
            return True, CommandOutput([OutputLine("stdout", line) for line in lines])

        module.SSHConnector.connect = lambda _: None
        module.SSHConnector.run_shell_command = run

    def probe(module: Any) -> None:
        module.read_response = lambda name, _: observed(declared[name], script.states.get(name, "fresh"))

    def plans(module: Any) -> None:
        original = module.declared

        def remember(host: Any) -> Any:
            declared[host.name] = original(host)
            return declared[host.name]

        module.declared = remember

    sys.meta_path.insert(
        0,
        _Hooks(
            {
                "pyinfra.connectors.ssh": connector,
                "sparkfleet.fleet.connection.probe": probe,
                "sparkfleet.fleet.run.spark_plan": plans,
            }
        ),
    )


def word_of(text: str) -> str:
    """Return the word of a remote command."""
    if "sparkfleet-no-python3" in text:
        return "probe"
    if USER_COMMAND in text:
        return USER_COMMAND
    program = re.search(r"sparkfleet\.pyz ([a-z-]+)", text)
    if program:
        return program[1]
    return "login" if "getent passwd" in text else "script" if "/bin/sh -s" in text else "other"


def _response(text: str, output: str) -> list[str]:
    from tests.unit import frames  # noqa: PLC0415  (it imports sparkfleet)

    return frames.response(text, output) if re.search(r"sparkfleet-[0-9a-f]{16}", text) else []


def _output(name: str, word: str, text: str, stdin: str) -> str:
    """Return what a program on a host prints."""
    from sparkfleet.contract import codec, rollout, stage, transfer  # noqa: PLC0415

    request = json.loads(stdin) if stdin.startswith("{") else {}
    since = int(next(iter(re.findall(r"--since (\d+)", text)), 0))
    outputs: dict[str, Callable[[], codec.Document]] = {
        "rollout": lambda: rollout.RolloutStarted(request["id"], "started"),
        "stage": lambda: rollout.JobStarted(request["id"]),
        "fabric": lambda: rollout.JobStarted(request["id"]),
        "stage-follow": lambda: rollout.Event(
            since,
            rollout.RESULT,
            result=stage.StageResult(
                stage.STAGED, exported=stage.ExportedImage("/image.tar", 9, "f" * 64)
            ).to_json(),
        ),
        "fabric-follow": lambda: rollout.Event(
            since, rollout.RESULT, result={"version": 2, "outcome": "linked"}
        ),
        "follow": lambda: (
            rollout.Event(since, rollout.PHASE, phase=STEPS[since])
            if since < len(STEPS)
            else rollout.Event(
                since, rollout.RESULT, result=rollout.RolloutResult(rollout.PROMOTED).to_json()
            )
        ),
        "copy-places": lambda: transfer.Places(
            (transfer.Place("eth0", f"10.0.0.{int(name[-2:])}/24", transfer.LAN),)
        ),
        "copy-serve": lambda: transfer.SenderListens(
            tuple((address, 40000) for address in request["addresses"])
        ),
    }
    if word == "login":
        return "nvidia:x:1000:1000::/home/nvidia:/bin/bash\nnvidia"
    if word == "run-program":
        return '{"ok": true, "version": "0.19.0"}'
    return codec.dumps(outputs[word]()) if word in outputs else "{}"


def observed(host: Any, state: str) -> Any:
    """Return a host in a state."""
    from tests.unit.plan import fake_spark  # noqa: PLC0415
    from tests.unit.plan.fabric.fabric_fixtures import seen as cabled  # noqa: PLC0415

    found = fake_spark.fresh(host) if state == "fresh" else fake_spark.converged(host)
    if state == "drifted":
        units = {
            name: replace(unit, text=f"{unit.text}# changed by hand\n") if "sparkfleet-nano" in name else unit
            for name, unit in found.units.items()
        }
        found = replace(found, units=units)
    if state == "in-progress":
        found = replace(found, rollout="nano-0123abcd")
    return replace(found, fabric=cabled()) if host.member else found
