"""The remote command of the probe, and its answer within the command's output: text in, text out."""

from __future__ import annotations

import base64
import json
import re
import shlex
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from sparkfleet import runtimes
from sparkfleet.onhost import collectors
from sparkfleet.probe import frame
from sparkfleet.resources import observers

NO_PYTHON = "<<sparkfleet-no-python3>>"


@dataclass(frozen=True)
class ProbeRequest:
    """What the probe reads besides the host itself. Paths may begin with ``~`` (the login user's home)."""

    services: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    weights: tuple[tuple[str, str], ...] = ()
    """Repository and commit of each model."""
    paths: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    """Ports whose listeners are needed; (): all."""
    models_dir: str = "~"
    cache_dir: str = "~"
    preflight: bool = False
    """Run the preflight, too: it takes seconds, and requests ``urls`` over the network."""
    urls: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    """Words that start an engine: a preflight searches systemd units and sudo rules for them."""
    directories: tuple[str, ...] = ()
    """Directories of other tools that a preflight reports."""
    stored: bool = False
    """List everything on the disks: for a prune."""
    resources: tuple[tuple[str, str, str], ...] | None = None
    """Kind, key and argument of each declared resource; those that runs applied are observed, too. None:
    neither, for a smaller probe."""
    recorded_kinds: tuple[str, ...] = ()
    """Kinds of resources that runs applied and that are no longer declared."""
    fabric: tuple[str, ...] = ()
    """Addresses that this Spark may get on its fabric links; (): it is in no cluster."""
    runtimes: tuple[str, ...] = (runtimes.DEFAULT,)
    """Runtimes whose instances and images are read; one at least."""
    install: tuple[str, ...] = ()
    """Of ``docker`` and ``toolkit``, what may be installed: apt is simulated if it is missing."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of the resources that are observed."""
        return tuple(sorted({*(kind for kind, _, _ in self.resources or ()), *self.recorded_kinds}))

    @property
    def more_parts(self) -> tuple[str, ...]:
        """Return the modules that this probe needs besides those of every probe."""
        own = [runtimes.get(name).collectors for name in self.runtimes]
        optional = (
            (True, tuple(name for one in own for name in one.probe)),
            (self.preflight, tuple(name for one in own for name in one.preflight)),
            (self.stored, tuple(name for one in own for name in one.storage)),
            (self.preflight, collectors.PREFLIGHT_PARTS),
            (self.stored, collectors.STORAGE_PARTS),
            (self.resources is not None, collectors.RESOURCE_PARTS),
            (bool(self.fabric), collectors.FABRIC_PARTS),
            (bool(self.install), collectors.PACKAGE_PARTS),
        )
        return tuple(part for needed, parts in optional if needed for part in parts)

    def to_json(self) -> str:
        """Return the request as the program reads it."""
        more = {"urls": self.urls, "programs": self.programs, "directories": self.directories}
        preflight = {"preflight": more} if self.preflight else {}
        return json.dumps(
            {
                **preflight,
                **({"stored": True} if self.stored else {}),
                **({} if self.resources is None else {"resources": self.resources}),
                **({"install": self.install} if self.install else {}),
                "runtimes": self.runtimes,
                "services": self.services,
                "images": self.images,
                "weights": self.weights,
                "paths": self.paths,
                "ports": self.ports,
                "models_dir": self.models_dir,
                "cache_dir": self.cache_dir,
                "fabric": self.fabric,
            },
            separators=(",", ":"),
        )


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
    packed = packed_program(request.more_parts, request.kinds)
    how = (
        f'echo "$p" | r {run}' if password else f'echo "$p" | sudo -n {run} 2>/dev/null || echo "$p" | {run}'
    )
    return (
        f"command -v python3 >/dev/null || {{ echo '{NO_PYTHON}'; exit 0; }}; f={shlex.quote(frame.SCRIPT)}; "
        f"p={shlex.quote(packed)}; l={shlex.quote(LOADER)}; q={shlex.quote(request.to_json())}; "
        f"{how}"
    )


def has_no_python(lines: Sequence[str]) -> bool:
    """Tell whether the Spark reported that it has no python3."""
    return any(NO_PYTHON in line for line in lines)
