"""Patches for costs of libraries that a plan need not pay. Each says what was measured, with which release.

``tests/unit/fleet/test_upstream.py`` fails when a library has got rid of such a cost by itself.
"""

from __future__ import annotations

import hmac
import importlib
import importlib.util
import sys
from functools import cache
from importlib import metadata
from types import FrameType, ModuleType
from typing import Any


def patch_for_gevent() -> None:
    """Make the standard library cooperative, and go over the installed packages once instead of 31 times.

    gevent 26.9 asks for the entry points of every event of ``patch_all``; each question reads the metadata of
    every installed package anew. 120 ms of 650 of a plan of one host.
    """
    from gevent import monkey  # noqa: PLC0415  (for the command that talks, and no other)

    asked = metadata.entry_points
    found = asked()

    def entry_points(**criteria: Any) -> Any:
        return found.select(**criteria)

    metadata.entry_points = entry_points
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = asked


class _Later(ModuleType):
    """Stands for a module until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        """Load the module that is meant, and answer for it."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def postpone(name: str) -> None:
    """Have a top-level module loaded when something of it is used, instead of when it is imported.

    paramiko 4.0 imports ``invoke`` for ``Match exec`` in an ssh_config, and ``invoke`` imports asyncio and
    unittest.mock: 45 ms that next to nobody uses. ``importlib.util.LazyLoader`` does not do: the second
    ``import`` of the module loads it.
    """
    if name in sys.modules or importlib.util.find_spec(name) is None:
        return
    sys.modules[name] = _Later(name)


def remember_connectors() -> None:
    """Have pyinfra look once for packages that bring connectors.

    pyinfra 3.10 looks four times while it makes an inventory, 10 ms each.
    """
    from pyinfra.api import connectors  # noqa: PLC0415  (its import is most of a command's start)

    asked = vars(connectors)["entry_points"]  # the module's own name for importlib's
    if not hasattr(asked, "cache_clear"):
        setattr(connectors, "entry_points", cache(asked))  # noqa: B010


def compare_macs_at_once() -> None:
    """Have paramiko compare the code of each packet as a whole.

    paramiko 4.0 does it in Python, byte by byte: 0.2 ms a packet, 12 packets a plan of one host.
    """
    from paramiko import util  # noqa: PLC0415

    setattr(util, "constant_time_bytes_eq", hmac.compare_digest)  # noqa: B010


def _order(state: Any) -> list[int]:
    """Return the line numbers of the calls between the deploy file and pyinfra, outermost first."""
    from pyinfra import is_cli  # noqa: PLC0415
    from pyinfra.api.util import PYINFRA_INSTALL_DIR  # noqa: PLC0415

    calls = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  (what inspect itself does)
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
    """Have pyinfra place an operation without reading the source of every function on the stack.

    pyinfra 3.10 calls ``inspect.stack`` for each operation of each host: 1.3 of its 1.5 ms.
    """
    import pyinfra.api.operation  # noqa: F401, PLC0415

    # By name: ``pyinfra.api.operation`` as an attribute is the decorator.
    setattr(sys.modules["pyinfra.api.operation"], "get_operation_order_from_stack", _order)  # noqa: B010
