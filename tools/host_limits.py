"""Limits of the programs on a Spark: those that the code names, and why other loops, waits and reads end.

Both are found in the syntax trees: a constant by its name, a loop, wait, read or command without a limit by
its form. docs/explanation/limits.md is generated from them; tests/unit/tools/test_host_limits.py
demands a reason for each of the latter.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sparkfleet"
PAGE = ROOT / "docs" / "explanation" / "limits.md"
ON_HOST = ("onhost", "runtimes/docker/onhost", "runtimes/docker/collectors", "contract", "resources")
"""Directories of programs that run on a Spark."""
LIMIT = re.compile(
    r"(_S|_MIB|_RATE|_LINES|_LIMIT|_TRIES|_CONNECTIONS|LONGEST(_[A-Z]+)?|BALLAST|POLL)$|^(MAX|KEPT|LIMIT|MOST|LONGEST|FINISHED)_?"
)
"""Names of constants that limit something."""

REASONS: Mapping[str, Mapping[str, str]] = {
    "onhost/artifacts/copy/job.py": {
        "receive_in_child lines": "with the child, whose reads have limits and a least rate",
        "receive_in_child wait": "its output has ended: the process is ending",
    },
    "onhost/artifacts/copy/places.py": {
        "_default_routes read": "a file of /proc",
    },
    "onhost/artifacts/copy/file.py": {
        "IncomingFile.__init__ loop": "the file has at most its locked size",
    },
    "onhost/artifacts/copy/receive.py": {
        "Receiver._fetch_once recv": "`SILENT_S`; `LEAST_RATE`",
        "Receiver._fetch_once loop": "the locked size of the file; `SILENT_S` a read",
        "Receiver.run queue": "the files of one copy",
        "Receiver._fetch loop": "`TRIES` without progress, `SILENT_S` each",
    },
    "onhost/artifacts/copy/send.py": {
        "Sender._accept accept": "the socket does not block",
        "Sender.serve loop": "with the copy, or `IDLE_S` without a connection",
        "Sender._serve_requests loop": "`SILENT_S` for a request; with the connection",
    },
    "onhost/artifacts/copy/wire.py": {
        "read_exactly recv": "`SILENT_S` of both sides; `LEAST_RATE` of the receiver",
        "read_exactly loop": "`count` bytes; `SILENT_S` a read",
    },
    "onhost/artifacts/fetch/fetch.py": {
        "fetch loop": "with the download, whose reads have limits; serves beside it",
    },
    "onhost/artifacts/fetch/fetch_record.py": {
        "_changing lock": "the lock is held while one file is written",
    },
    "onhost/artifacts/fetch/hash_record.py": {
        "_locked lock": "the lock is held while one file is written",
        "content_is loop": "the end of a file",
    },
    "onhost/artifacts/fetch/verify.py": {
        "hash_files loop": "with the last file; the engine serves meanwhile",
    },
    "onhost/artifacts/image/copy_image.py": {
        "_write loop": "the end of `docker save`; serves beside it",
    },
    "onhost/artifacts/image/install_packages.py": {
        "main command": "`timeout_s` of the derived image: its container",
        "complaints command": "`timeout_s` of the derived image",
    },
    "onhost/artifacts/image/loopback_registry.py": {
        "_handler.Handler.handle recv": "a thread of its own for a connection on loopback; with the job",
        "_handler.Handler._send loop": "the end of a file",
        "serve join": "`shutdown` has returned: the thread is ending",
    },
    "onhost/artifacts/stage.py": {
        "_exclusive lock": "the other fetch; nothing is stopped meanwhile",
    },
    "onhost/cluster/head.py": {
        "Head.open loop": "`DECISION_S`",
        "Head.prove loop": "`SILENT_S` without a report of a member, in `check`",
    },
    "onhost/cluster/member.py": {
        "Member.prove loop": "`LOST_S` without a response of the head, in `check`",
        "Member._wait loop": "`limit_s` without a response of the head, or its decision",
    },
    "onhost/cluster/ranks.py": {
        "Peers.wait loop": "with the other ranks, or a signal: nothing else can serve",
    },
    "onhost/collectors/basics.py": {
        "sha256_of read": "the file of the programs, below 1 MB",
    },
    "onhost/collectors/gpu.py": {
        "collect_load loop": "`SAMPLES`",
    },
    "onhost/collectors/fabric.py": {
        "address_owners recv": "`select` has returned; `ANSWER_S` in all",
    },
    "onhost/collectors/ports.py": {
        "lines_of loop": "the end of a file of /proc",
    },
    "onhost/fabric/bench_stream.py": {
        "sink result": "with its connection; `WAIT_S`, then `SPARE_S`",
        "_receive recv": "the listener's process, by `SPARE_S`",
        "_send recv": "`WAIT_S`",
        "sink loop": "`WAIT_S` for each connection",
        "_receive loop": "the listener's process, by `SPARE_S`",
        "_send loop": "`WAIT_S` a read",
        "sink accept": "`WAIT_S`",
    },
    "onhost/fabric/watch.py": {
        "watch loop": "`wait_s` of the request",
    },
    "onhost/gate/gate.py": {
        "Gate._moved loop": "`COUNTER_S`",
    },
    "onhost/machine/files.py": {
        "write_from loop": "`most` of the caller",
    },
    "onhost/machine/deadline.py": {
        "DeadlineSocket.recv_into recv": "the deadline of the socket",
        "_TlsSocket.recv_into recv": "the deadline of the socket",
    },
    "onhost/machine/host.py": {
        "Spark.every.repeat loop": "with the caller: a background thread",
    },
    "onhost/machine/memory_watchdog.py": {
        "main loop": "with the program that started it: its stdin is closed",
        "kill read": "a file of /proc",
    },
    "onhost/machine/mounts.py": {
        "wait loop": "`limit_s` of the caller: `MOUNTS_S`",
    },
    "onhost/machine/programs.py": {
        "identity read": "the file of the programs, below 1 MB",
    },
    "onhost/machine/runtime_wait.py": {
        "wait loop": "`give_up` of the caller; a rollout that is continued and a service wait for "
        "dockerd: without it nothing serves",
    },
    "onhost/machine/stdio.py": {
        "read read": "a request of the program that started it, on stdin",
    },
    "onhost/prune/hub_cache.py": {
        "sweep_shared lock": "huggingface_hub holds the lock while it renames a file",
    },
    "onhost/rollout/rollout.py": {
        "Rollout.promote loop": "again only when dockerd stopped meanwhile: the engine that passed must be "
        "supervised at the end",
        "Rollout.restore loop": "again only when dockerd stopped meanwhile: an engine must serve at the end",
    },
    "onhost/state/journal.py": {
        "follow_events loop": "`wait_s` of the caller",
    },
    "onhost/service/logs.py": {
        "_engine loop": "when nobody reads any more: writing the empty line of `ALIVE_S` fails",
        "_follow_instance queue": "read with the loop that fills it",
        "_follow_instance loop": "with the instance, or when nobody reads any more",
        "_supervisor loop": "when nobody reads any more",
        "_rollout loop": "with the rollout, or when nobody reads any more",
    },
    "onhost/supervisor/supervisor.py": {
        "Supervisor.run loop": "with the engine, a signal or a refusal: it is the service",
        "Supervisor._wait_for_end loop": "with the engine or a signal: it is the service",
    },
    "resources/kinds/compile_caches.py": {
        "used_caches read": "a record of sparkfleet",
    },
    "resources/kinds/hub_token.py": {
        "observe read": "the login user's file of a token",
    },
    "runtimes/docker/onhost/api.py": {
        "Response.__init__ iter": "the empty line after the headers; dockerd, which root runs",
        "Response.__init__ readline": "dockerd, which root runs; `QUICK_S` a read",
        "Response.read read": (
            "dockerd, which root runs; `QUICK_S` a read; a log is limited by the log options "
            "of the container, 3 files of 50 MB"
        ),
        "EngineApi._ask read": "see `Response.read`",
    },
    "runtimes/docker/onhost/engine.py": {
        "DockerEngine.pull_events lines": "`PULL_SILENCE_S` a read; `LEAST_RATE` of the pull",
        "DockerEngine.pull_events read": "the error of a refused pull",
    },
    "runtimes/docker/onhost/images.py": {
        "DockerImages.export command": "its output is closed: `docker save` ends by that; nothing is stopped",
        "DockerImages.export read": "`docker save` has closed its output",
    },
    "runtimes/docker/onhost/streams.py": {
        "lines_of loop": "with the container; a line has `LINE_LIMIT` bytes",
    },
}
"""Module -> function and form -> why it ends. A name in capitals is a constant of the other table."""


WAITS_AFTER_KILL = {
    *("subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "os.system", "os.popen"),
}
"""Functions that wait without a limit, also with a timeout: after SIGKILL, for a program that hangs in the
kernel. ``contract/command.py`` does not, nor do the probe's ``collectors/commands.py``."""
ENDLESS = {
    *("wait", "join", "communicate", "get", "read", "readline", "readlines", "accept", "serve_forever"),
}
"""Methods that wait or read without an end, when they are called without a limit."""


@dataclass(frozen=True, order=True)
class Place:
    """A loop, wait, read or command without a limit of its own."""

    module: str
    function: str
    form: str
    line: int

    @property
    def key(self) -> tuple[str, str]:
        """Return the keys of ``REASONS``."""
        return self.module, f"{self.function} {self.form}"

    @property
    def reason(self) -> str:
        """Return why it ends, "" for no declared reason."""
        return REASONS.get(self.module, {}).get(self.key[1], "")


def modules() -> Iterator[Path]:
    """Yield the modules of the programs on a Spark."""
    for directory in ON_HOST:
        yield from sorted((SOURCE / directory).rglob("*.py"))


def unlimited(path: Path) -> Iterator[Place]:
    """Yield the places of a module that have no limit of their own."""
    yield from places(path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text(encoding="utf-8")))


def places(module: str, tree: ast.AST, function: str = "") -> Iterator[Place]:
    """Yield the places of a syntax tree that have no limit of their own."""
    for node in ast.iter_child_nodes(tree):
        name = function
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{function}.{node.name}".lstrip(".")
        form = _form(node)
        if form:
            yield Place(module, function, form, _line(node))
        yield from places(module, node, name)


def _line(node: ast.AST) -> int:
    """Return the line of a node; a comprehension's and a ``with`` item's is that of what they use."""
    inner = getattr(node, "iter", None) or getattr(node, "context_expr", None) or node
    return int(getattr(node, "lineno", 0) or getattr(inner, "lineno", 0))


WAITING = {"sleep", "wait", "select", "accept", "read", "pread", "recv", "recv_into"}
"""Methods with which a loop waits for something or reads to an end that another program decides."""


def _is_unlimited(loop: ast.While) -> bool:
    """Return whether a loop waits or reads, and no clock ends it by its test or by a way out of its body."""
    if isinstance(loop.test, ast.Constant):
        return True
    called = {one.func.attr for one in ast.walk(loop) if _is_method_call(one)}  # type: ignore[attr-defined]
    tests = [
        one.test
        for one in ast.walk(loop)
        if isinstance(one, ast.If)
        and any(isinstance(inner, ast.Raise | ast.Return | ast.Break) for inner in ast.walk(one))
    ]
    ends = any("monotonic" in ast.unparse(test) for test in (loop.test, *tests))
    return bool(called & WAITING) and not ends


def _is_method_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)


RECEIVING = {"recv", "recv_into", "recvfrom", "recvmsg"}
STREAMS = re.compile(r"(^|\.)(stdin|stdout|stderr|stream|rfile|response|source|connection)$")
"""Names whose iteration reads lines until another program ends them."""


def _form(node: ast.AST) -> str:
    if isinstance(node, ast.While) and _is_unlimited(node):
        return "loop"
    if isinstance(node, ast.For | ast.comprehension) and STREAMS.search(ast.unparse(node.iter)):
        return "lines"
    if isinstance(node, ast.withitem) and "Popen(" in ast.unparse(node.context_expr):
        return "command"  # it waits for the end
    return _form_of_call(node) if isinstance(node, ast.Call) else ""


def _form_of_call(node: ast.Call) -> str:
    called = ast.unparse(node.func)
    method = called.rpartition(".")[2]
    named = {one.arg for one in node.keywords if ast.unparse(one.value) != "None"}
    arguments = [one for one in node.args if ast.unparse(one) not in {"None", "True"}]
    is_method = isinstance(node.func, ast.Attribute)
    if called in WAITS_AFTER_KILL:
        return "command"
    if called == "iter" and len(node.args) == 2:  # noqa: PLR2004
        return "iter"
    if method in {"wait", "join", "communicate", "get", "result"} and is_method:
        return "" if arguments or named & {"timeout", "timeout_s", "block"} else method
    if method in {"read", "readline", "readlines"} and is_method and not node.args:
        return method
    if method in {"accept", "serve_forever", "select"} and is_method and not arguments and not named:
        return method
    if method in RECEIVING and is_method:
        return "recv"
    if method in {"Queue", "SimpleQueue", "deque"} and "maxlen" not in named and len(node.args) < 2:  # noqa: PLR2004
        return "queue"
    if method == "flock" and "LOCK_NB" not in ast.unparse(node) and "LOCK_UN" not in ast.unparse(node):
        return "lock"
    return ""


@dataclass(frozen=True)
class Limit:
    """A constant that limits something."""

    module: str
    name: str
    value: str
    text: str


def limits() -> Iterator[Limit]:
    """Yield the constants that limit something, with their docstrings."""
    for path in modules():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for number, node in enumerate(body):
            if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                continue
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            after = body[number + 1] if number + 1 < len(body) else None
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for name, value in zip(names, values, strict=False):
                if isinstance(name, ast.Name) and LIMIT.search(name.id) and _is_number(value):
                    module = path.relative_to(SOURCE).as_posix()
                    yield Limit(module, name.id, ast.unparse(value), text)


def _is_number(value: ast.expr) -> bool:
    parts = [one for one in ast.walk(value) if not isinstance(one, ast.BinOp | ast.operator)]
    return all(isinstance(one, ast.Constant) and isinstance(one.value, int | float) for one in parts)


NETWORK = (
    (
        "file of a model by sparkfleet's own client (GGUF), wheel",
        "`TIMEOUT_S` a read; `LEAST_RATE` over `WINDOW_S`, from the look-up of the name on; the locked size",
        "`transfer-too-slow`; the next run continues the file",
    ),
    (
        "model by `hf` of the image",
        "`LEAST_RATE` over `HUB_CLIENT_WINDOW_S`, by the bytes on disk",
        "its instance is ended; `transfer-too-slow`; the next run continues",
    ),
    (
        "image from a registry",
        "`PULL_SILENCE_S` without output of dockerd; `LEAST_RATE` over `WINDOW_S`",
        "`transfer-too-slow`; complete layers are kept",
    ),
    (
        "copy from another Spark or a mirror",
        "`SILENT_S` a read; `LEAST_RATE` over `WINDOW_S` for all streams, while none of them hashes",
        "`transfer-too-slow`; received data is kept, and another source is tried",
    ),
    (
        "access to a model at the hub",
        "`TIMEOUT_S` of `hub_access.py` for the whole response",
        "the download itself shows the error",
    ),
    (
        "response of an engine",
        "one deadline a request; `RESPONSE_LIMIT`",
        "the gate goes on, up to its timeout",
    ),
    (
        "message of another rank",
        "`REQUEST_S` or `PATIENCE_S` for the whole message; `LONGEST`",
        "counts as no answer",
    ),
    (
        "URLs of the preflight",
        "twice `LIMIT_S` for all of them",
        "named as silent",
    ),
)
"""What is read from the network, its limits, and what happens at them."""


def page() -> str:
    """Return docs/explanation/limits.md."""
    rows = [f"| `{one.name}` | {one.value} | {one.text} | `{one.module}` |" for one in limits()]
    endings = [
        f"| `{one.module}` | `{one.function}` | {one.form} | {one.reason} |"
        for one in {one.key: one for path in modules() for one in unlimited(path)}.values()
    ]
    constants = "\n".join(["| name | value | limits | module |", "|---|---|---|---|", *rows])
    endings_table = "\n".join(["| module | function | form | ends |", "|---|---|---|---|", *endings])
    rows = [f"| {' | '.join(row)} |" for row in NETWORK]
    network = "\n".join(["| read | limit | then |", "|---|---|---|", *rows])
    return f"""# Limits on a Spark

A rollout stops one engine before it starts the next one: a wait without a limit in between keeps a service
down. So every loop, wait, retry, buffer and queue of the programs on a Spark has a limit, or a declared
reason to end. A test finds new ones.

Names that end in `_S` are seconds, in `_MIB` mebibytes.

## Named limits

{constants}

## Data from the network

A timeout of a socket restarts with every byte: a sender of one byte a minute would never reach it. So each
read has a deadline for the whole response, or a least rate.

{network}

## Ends by other means

{endings_table}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
