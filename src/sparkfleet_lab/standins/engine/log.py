"""The engine's output in the real engine's format: log lines, progress bars, tracebacks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from . import release

API = f"APIServer pid={os.getpid()}"
CORE = f"EngineCore pid={os.getpid() + 20}"
"""The real engine runs its core in a process of its own; its log has both prefixes."""

_LOGO = (
    "",
    "       █     █     █▄   ▄█",
    " ▄▄ ▄█ █     █     █ ▀▄▀ █  version {version}",
    "  █▄█▀ █     █     █     █  model   {model}",
    "   ▀▀  ▀▀▀▀▀ ▀▀▀▀▀ ▀     ▀",
    "",
)


def line(text: str, *, who: str = API, level: str = "INFO", where: str = "api_utils.py:286") -> None:
    """Write one log line to stdout."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    for part in text.splitlines() or [""]:
        sys.stdout.write(f"({who}) {level} {stamp} [{where}] {part}".rstrip() + "\n")
    sys.stdout.flush()


def core(text: str, where: str, level: str = "INFO") -> None:
    """Write one log line of the engine core."""
    line(text, who=CORE, level=level, where=where)


def uvicorn(text: str, level: str = "INFO") -> None:
    """Write one line of the HTTP server."""
    prefix = "" if release.load().at_least(0, 30) else f"({API}) "
    sys.stdout.write(f"{prefix}{level + ':':<9} {text}\n")
    sys.stdout.flush()


def logo(version: str, model: str) -> None:
    """Write the banner."""
    for part in _LOGO:
        line(part.format(version=version, model=model), where="api_utils.py:347")


def bar(text: str) -> None:
    """Write a progress bar's state to stderr, as tqdm does without a terminal."""
    sys.stderr.write(text)
    sys.stderr.flush()


def trace(final: str, frames: Sequence[str] = (), prefix: str = "") -> str:
    """Return a traceback that ends with ``final``."""
    calls = (
        "/usr/local/bin/vllm:8 <module>",
        "/usr/local/lib/python3.12/dist-packages/vllm/entrypoints/cli/main.py:120 main",
        "/usr/local/lib/python3.12/dist-packages/vllm/entrypoints/cli/serve.py:156 cmd",
        *frames,
    )
    lines = ["Traceback (most recent call last):"]
    for call in calls:
        place, _, name = call.rpartition(" ")
        path, _, number = place.rpartition(":")
        lines.append(f'  File "{path}", line {number}, in {name}')
    lines += final.splitlines()
    return "".join(f"{prefix}{part}\n" for part in lines)


def die(final: str, code: int = 1) -> NoReturn:
    """End as an uncaught exception of the API server does."""
    sys.stderr.write(trace(final))
    sys.stderr.flush()
    raise SystemExit(code)


def die_in_core(final: str, code: int = 1, frames: Sequence[str] = ()) -> NoReturn:
    """End as the real engine does when its core fails: the cause first, a generic wrapper last."""
    package = "/usr/local/lib/python3.12/dist-packages/vllm/v1/engine/core.py:1119 run_engine_core"
    core("EngineCore failed to start.", "core.py:1145", "ERROR")
    core(trace(final, (package, *frames)).rstrip(), "core.py:1145", "ERROR")
    die(
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", code
    )
