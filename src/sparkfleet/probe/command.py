"""The remote command of the probe, and its answer within the command's output: text in, text out."""

from __future__ import annotations

import base64
import re
import shlex
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from sparkfleet import runtimes
from sparkfleet.contract import codec
from sparkfleet.contract.probe import ProbeRequest
from sparkfleet.onhost import collectors
from sparkfleet.probe import frame
from sparkfleet.resources import observers

NO_PYTHON = "<<sparkfleet-no-python3>>"


def more_parts(request: ProbeRequest) -> tuple[str, ...]:
    """Return the modules that a probe needs besides those of every probe."""
    own = [runtimes.get(name).collectors for name in request.runtimes]
    optional = (
        (True, tuple(name for one in own for name in one.probe)),
        (request.preflight, tuple(name for one in own for name in one.preflight)),
        (request.stored, tuple(name for one in own for name in one.storage)),
        (request.preflight, collectors.PREFLIGHT_PARTS),
        (request.stored, collectors.STORAGE_PARTS),
        (request.resources is not None, collectors.RESOURCE_PARTS),
        (request.fabric, collectors.FABRIC_PARTS),
        (request.install, collectors.PACKAGE_PARTS),
    )
    return tuple(part for needed, parts in optional if needed for part in parts)


LOADER = (
    "import sys,zlib,binascii,gc;gc.disable()\n"
    "for p in zlib.decompress(binascii.a2b_base64(sys.stdin.buffer.read())).decode().split('\\0'):\n"
    " n,_,t=p.partition('\\n');m=sys.modules[n]=type(sys)(n);m.__path__=[]\n"
    " exec(t,m.__dict__)\n"
    "m.main();sys.stdout.flush();import os;os._exit(0)"
)
"""Makes modules of the texts, in their order, and runs the main function of the last one.

A third less CPU on the host than in the obvious way: a program this short collects no garbage and frees
nothing at its end, and ``compile`` would first create all types of syntax trees.
"""

_COMMENTS = re.compile(
    r'^ *(?:"""(?:[^"]|"(?!""))*"""|#.*)$|^TYPE_CHECKING = .*\nif TYPE_CHECKING:\n(?: +.*\n)+', re.MULTILINE
)
"""Docstrings, comments on lines of their own, imports for annotations: a quarter of the text."""
_INDENT = re.compile(r"^ +", re.MULTILINE)


def sources(more: Sequence[str] = (), kinds: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return the modules that run on the Spark, those of every probe and ``more``: name and text, in loading
    order. ``kinds``: of the resources that are observed.
    """
    parts = (*collectors.PARTS[:-1], *dict.fromkeys(more), collectors.PARTS[-1])
    names = [part if "." in part else f"{collectors.__name__}.{part}" for part in parts]
    packages = [(name, "") for name in ("sparkfleet", "sparkfleet.onhost", collectors.__name__)]
    texts = [(name, _source(name)) for name in names]
    if kinds:
        texts[-1:-1] = observers.modules(kinds)
    return packages + [(name, minified(text)) for name, text in texts]


def _source(module: str) -> str:
    package, _, name = module.rpartition(".")
    return resources.files(package).joinpath(f"{name}.py").read_text()


def minified(text: str) -> str:
    """Return a program without docstrings and comments, indented by one blank; line numbers stay."""
    bare = _COMMENTS.sub(lambda found: "\n" * found[0].count("\n"), text)
    return _INDENT.sub(lambda found: " " * (len(found[0]) // 4), bare)


@cache
def packed_program(more: tuple[str, ...] = (), kinds: tuple[str, ...] = ()) -> str:
    """Return the modules as LOADER reads them. Base 85 would be smaller, and take 6 ms longer to decode."""
    texts = "\0".join(f"{name}\n{text}" for name, text in sources(more, kinds))
    return base64.b64encode(zlib.compress(texts.encode(), 9)).decode()


def probe_command(request: ProbeRequest, nonce: str, *, password: bool = False) -> str:
    """Return one shell command: the probe by ``sudo -n``, or as the login user if that is refused.

    With a password, ``r`` of ``probe/root_shell.py`` runs it. Its output is in the frame of ``nonce``.
    """
    # By a pipe, not in argv: sudo logs the argv of every command.
    run = f'/bin/sh -c "$f" {nonce} python3 -I -S -B -c "$l" "$q"'
    packed = packed_program(more_parts(request), request.kinds)
    how = (
        f'echo "$p" | r {run}' if password else f'echo "$p" | sudo -n {run} 2>/dev/null || echo "$p" | {run}'
    )
    return (
        f"command -v python3 >/dev/null || {{ echo '{NO_PYTHON}'; exit 0; }}; f={shlex.quote(frame.SCRIPT)}; "
        f"p={shlex.quote(packed)}; l={shlex.quote(LOADER)}; q={shlex.quote(codec.dumps(request))}; "
        f"{how}"
    )


def has_no_python(lines: Sequence[str]) -> bool:
    """Tell whether the Spark reported that it has no python3."""
    return any(NO_PYTHON in line for line in lines)
