"""Costs of libraries that a plan does not pay. Each in a process of its own: what is imported stays imported.

The last line of each test is about the library alone: when it fails, the library has fixed it, and the
function in ``operations/edge/pyinfra_patches.py`` can go.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COUNT = """
from importlib import metadata
asked = []
original = metadata.Distribution.discover.__func__
def discover(cls, **kwargs):
    asked.append(kwargs)
    return original(cls, **kwargs)
metadata.Distribution.discover = classmethod(discover)
"""

IMPORT = "from sparkfleet.fleet.connection import pyinfra_patches"


def output(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_patching_for_gevent_reads_the_installed_packages_once() -> None:
    ours = f"{IMPORT}; pyinfra_patches.patch_for_gevent(); print(len(asked))"
    theirs = "from gevent import monkey; monkey.patch_all(); print(len(asked))"
    assert output(COUNT + ours) == "1"
    assert int(output(COUNT + theirs)) > 20


def test_after_patching_the_standard_library_is_as_it_was_but_cooperative() -> None:
    program = """
from importlib import metadata
before = metadata.entry_points
from sparkfleet.fleet.connection import pyinfra_patches
pyinfra_patches.patch_for_gevent()
from gevent.monkey import is_module_patched
print(metadata.entry_points is before, is_module_patched("socket"), is_module_patched("threading"))
"""
    assert output(program) == "True True True"


def test_a_postponed_module_is_loaded_at_its_first_use_and_works() -> None:
    program = """
import sys
from pathlib import Path
from sparkfleet.fleet.connection import pyinfra_patches
pyinfra_patches.postpone("invoke")
import paramiko.config
before = "invoke.runners" in sys.modules
config = paramiko.SSHConfig.from_text('Match exec "true"\\n  Port 2222\\n')
print(before, config.lookup("spark-01")["port"], "invoke.runners" in sys.modules)
"""
    assert output(program) == "False 2222 True"
    assert output("import sys, paramiko.config; print('invoke.runners' in sys.modules)") == "True"


def test_a_module_that_is_not_there_is_still_not_there() -> None:
    program = """
from sparkfleet.fleet.connection import pyinfra_patches
pyinfra_patches.postpone("no_such_module_here")
try:
    import no_such_module_here
except ImportError:
    print("no")
"""
    assert output(program) == "no"


def test_an_inventory_searches_once_for_connectors() -> None:
    program = """
from pyinfra.api import Inventory
from sparkfleet.fleet.connection import pyinfra_patches
{}
asked.clear()
Inventory((["spark-01", "@local"], {{}}))
Inventory((["spark-01", "spark-02"], {{}}))
print(len(asked))
"""
    assert (
        output(
            COUNT
            + program.format("pyinfra_patches.remember_connectors(); pyinfra_patches.remember_connectors()")
        )
        == "1"
    )
    assert int(output(COUNT + program.format(""))) > 2


ORDER = """
import sys, inspect
from types import SimpleNamespace
import pyinfra, pyinfra.api.operation
from sparkfleet.fleet.connection import pyinfra_patches
module = sys.modules["pyinfra.api.operation"]
theirs = module.get_operation_order_from_stack
pyinfra_patches.order_operations_by_frames()
ours = module.get_operation_order_from_stack
read = []
getframeinfo = inspect.getframeinfo
inspect.getframeinfo = lambda *args, **kwargs: read.append(args) or getframeinfo(*args, **kwargs)

def pair(state):
    return ours(state), theirs(state)

def deep(state, depth):
    return pair(state) if not depth else deep(state, depth - 1)
for cli in (False, True):
    pyinfra.is_cli = cli
    for file in (__file__, None, "/other/deploy.py"):
        state = SimpleNamespace(current_deploy_filename=file, current_op_file_number=3)
        a, b = deep(state, 4)
        assert a == b, (file, a, b)
        print(len(a), end=" ")
read.clear(); ours(state); print(len(read), end=" ")
theirs(state); print(len(read) > 0)
"""


def test_operations_stand_in_the_order_that_pyinfra_gives_them(tmp_path: Path) -> None:
    file = tmp_path / "deploy.py"
    file.write_text(ORDER)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *_, own, theirs = done.stdout.split()
    assert (own, theirs) == ("0", "True")


_PACKET = """
import sys
from paramiko import packet, util
def lines():
    # Lines of Python that comparing two codes takes, as the packets' own code calls it.
    seen = 0
    def trace(frame, event, _):
        nonlocal seen
        seen += event == "line"
        return trace
    sys.settrace(trace)
    equal = packet.util.constant_time_bytes_eq(b"a" * 32, b"a" * 32)
    sys.settrace(None)
    assert equal and not util.constant_time_bytes_eq(b"a" * 32, b"a" * 31 + b"b")
    return seen
"""


def test_the_code_of_a_packet_is_compared_at_once() -> None:
    ours = f"{IMPORT}; pyinfra_patches.compare_macs_at_once(); print(lines())"
    assert int(output(_PACKET + ours)) <= 2
    assert int(output(_PACKET + "print(lines())")) > 60
