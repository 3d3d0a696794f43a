"""Runs the command in argv and prints one JSON line about it. A small process of its own: the kernel's peak
memory of a program includes that of the process which started it, and the benchmark is not small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

began = time.perf_counter()
process = subprocess.Popen(
    sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
)
assert process.stdout is not None  # noqa: S101  (it is a pipe)
first = process.stdout.read(1)
first_byte = time.perf_counter() - began
text = first + process.stdout.read()
_, status, usage = os.wait4(process.pid, 0)
print(
    json.dumps(
        {
            "wall_s": time.perf_counter() - began,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "rss_mib": usage.ru_maxrss / 1024,
            "first_byte_s": first_byte,
            "code": os.waitstatus_to_exitcode(status),
            "text": text.decode(errors="replace"),
        }
    )
)
process.returncode = 0
