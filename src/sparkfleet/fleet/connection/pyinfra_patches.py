"""Performance patches for libraries. Each docstring has the measurement and the release.

``tests/unit/fleet/test_upstream.py`` fails when a library no longer needs its patch.
"""

from __future__ import annotations

import functools
import hmac
import importlib
import importlib.util
import logging
import sys
from functools import cache
from importlib import metadata
from types import FrameType, ModuleType
from typing import Any

from sparkfleet import interrupts


def before_connections() -> None:
    """Apply the patches that a command needs before its first import of what opens connections.

    pyinfra's own log lines are dropped: the command reports each failed connection, with its remedy.
    """
    logging.getLogger("pyinfra").addHandler(logging.NullHandler())
    patch_for_gevent()
    postpone("invoke")


def patch_for_gevent() -> None:
    """Patch the standard library for gevent, and read the entry points once instead of 31 times.

    gevent 26.9 queries the entry points for every event of ``patch_all``; each query reads the metadata of
    every installed package: 120 of the 650 ms of a plan of one host.
    """
    from gevent import monkey  # noqa: PLC0415  (only for commands that connect)

    interrupts.end_on_interrupt()

    original = metadata.entry_points
    every_entry_point = original()

    def entry_points(**criteria: Any) -> Any:
        return every_entry_point.select(**criteria)

    metadata.entry_points = entry_points
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = original
    interrupts.wake_event_loop()


class _Lazy(ModuleType):
    """Loads a module at the first access to one of its attributes."""

    def __getattr__(self, name: str) -> Any:
        """Load the module and return its attribute."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def postpone(name: str) -> None:
    """Load a top-level module at its first use instead of its import.

    paramiko 4.0 imports ``invoke`` for ``Match exec`` in an ssh_config, and ``invoke`` imports asyncio and
    unittest.mock: 45 ms for a feature that is rarely used. ``importlib.util.LazyLoader`` does not work here:
    the second ``import`` of the module loads it.
    """
    if name in sys.modules or importlib.util.find_spec(name) is None:
        return
    sys.modules[name] = _Lazy(name)


def remember_connectors() -> None:
    """Have pyinfra search for packages with connectors once.

    pyinfra 3.10 searches four times while it creates an inventory, 10 ms each.
    """
    from pyinfra.api import connectors  # noqa: PLC0415  (its import is most of a command's start-up time)

    original = vars(connectors)["entry_points"]  # the module's own name for importlib's
    if not hasattr(original, "cache_clear"):
        setattr(connectors, "entry_points", cache(original))  # noqa: B010


def decode_any_bytes() -> None:
    """Have pyinfra replace bytes that are not UTF-8 in the output of a host.

    pyinfra 3.10 and paramiko 4.0 decode strictly: one Latin-1 letter of a login shell ends the reader, and
    with it the rest of the output.
    """
    from pyinfra.connectors import util  # noqa: PLC0415

    original = util.read_buffer

    def read_buffer(name: str, io: Any, *args: Any, **more: Any) -> None:
        if hasattr(io, "FLAG_BINARY"):
            io._flags |= io.FLAG_BINARY  # noqa: SLF001  (paramiko's own decoding is strict)
        lines = (line.decode("utf-8", "replace") if isinstance(line, bytes) else line for line in io)
        original(name, lines, *args, **more)

    if not hasattr(original, "__wrapped__"):
        setattr(util, "read_buffer", functools.wraps(original)(read_buffer))  # noqa: B010


def compare_macs_at_once() -> None:
    """Have paramiko compare the authentication code of each packet with ``hmac.compare_digest``.

    paramiko 4.0 compares byte by byte in Python: 0.2 ms per packet, 12 packets for a plan of one host.
    """
    from paramiko import util  # noqa: PLC0415

    setattr(util, "constant_time_bytes_eq", hmac.compare_digest)  # noqa: B010


def _order(state: Any) -> list[int]:
    """Return the line numbers of the calls between the deploy file and pyinfra, outermost first."""
    from pyinfra import is_cli  # noqa: PLC0415
    from pyinfra.api.util import PYINFRA_INSTALL_DIR  # noqa: PLC0415

    calls = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  (as inspect does)
    while frame is not None:
        calls.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    calls.reverse()
    files = [file for file, _ in calls]
    if state.current_deploy_filename in files:
        calls = calls[files.index(state.current_deploy_filename) :]
    elif state.current_deploy_filename:
        calls = []
    lines = [line for file, line in calls if not file.startswith(PYINFRA_INSTALL_DIR)]
    return [state.current_op_file_number, *lines] if is_cli else lines


def order_operations_by_frames() -> None:
    """Have pyinfra order operations without reading the source of every function on the stack.

    pyinfra 3.10 calls ``inspect.stack`` for each operation of each host: 1.3 of its 1.5 ms.
    """
    import pyinfra.api.operation  # noqa: F401, PLC0415

    # By name: ``pyinfra.api.operation`` as an attribute is the decorator.
    setattr(sys.modules["pyinfra.api.operation"], "get_operation_order_from_stack", _order)  # noqa: B010
