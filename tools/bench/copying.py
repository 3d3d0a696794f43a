"""A copy of model files from Spark to Spark over the fabric, compared with the limits of links and disk and
with one ``rsync`` over SSH: the same files, in one run, in turn.

``python -m tools.bench.copying [--mib N] [--rounds N] [--keep]`` measures this alone.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from tools.bench import sparks
from tools.bench.fleets import ROOT
from tools.bench.sparks import Sparks
from tools.bench.table import Budget

from sparkfleet.contract import codec
from sparkfleet.contract.stage import LoginUser, SenderPlace
from sparkfleet.contract.transfer import (
    FileToReceive,
    ReceiveRequest,
    SenderListens,
    SendRequest,
    SentFile,
)
from sparkfleet_lab import lifecycle

FROM, TO = "/var/tmp/bench-from", "/var/tmp/bench-to"  # noqa: S108  (on lab machines)
FILES = 8
PYZ = "/usr/bin/python3 -I -B /usr/local/lib/sparkfleet/sparkfleet.pyz"
RSYNC_TIMES, OF_THE_LIMIT = 2.5, 0.8
MIB = 1 << 20

RAW = r"""
import os, socket, sys, threading, time
def serve(address):
    with socket.create_server((address, 0)) as server:
        print(server.getsockname()[1], flush=True)
        def send(connection, path):
            with connection, open(path, "rb") as file:
                connection.sendfile(file)
        threads = []
        for name in sorted(os.listdir(sys.argv[3])):
            connection, _ = server.accept()
            threads.append(threading.Thread(target=send, args=(connection, sys.argv[3] + "/" + name)))
            threads[-1].start()
        for thread in threads:
            thread.join()
def take(address, port, count):
    def one():
        buffer = bytearray(1 << 20)
        with socket.create_connection((address, port)) as connection:
            while connection.recv_into(buffer, 1 << 20, socket.MSG_WAITALL):
                pass
    threads = [threading.Thread(target=one) for _ in range(count)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(time.monotonic() - began)
if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    take(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
"""


@dataclass(frozen=True)
class Rates:
    """Bytes a second of each method, measured in each round."""

    samples: Mapping[str, tuple[float, ...]]

    def rate(self, method: str) -> float:
        """Return the median."""
        return median(self.samples[method])


COPY, RSYNC, TCP, DISK, HASH = "copy, hashed", "rsync -e ssh", "raw TCP", "disk write", "SHA-256, all cores"


def measure(machines: Sparks, rounds: int, mib: int, report: Callable[[str], None]) -> Rates:
    """Copy ``mib`` MiB from the first to the second Spark by every method, ``rounds`` times."""
    first, second = machines.names[:2]
    address = machines.state.fabric.address(machines.state.machine(first).last)
    each = mib // FILES
    machines.sh(first, f"rm -rf {FROM}; mkdir -p {FROM}; chmod 755 {FROM}")
    machines.sh(first, f"cd {FROM}; for n in $(seq {FILES}); do head -c {each}M /dev/urandom > f$n; done")
    machines.sh(first, f"chown -R nvidia {FROM}")
    describe = machines.sh(first, f"cd {FROM}; sha256sum *")
    hashes = {name: digest for digest, name in (line.split() for line in describe.splitlines())}
    _authorize(machines, first, second)
    methods: dict[str, Callable[[], float]] = {
        COPY: lambda: _copy(machines, address, hashes, each * MIB),
        RSYNC: lambda: _rsync(machines, second, address),
        TCP: lambda: _tcp(machines, first, second, address),
        DISK: lambda: _disk(machines, second, each),
        HASH: lambda: _hash(machines, first),
    }
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for number in range(rounds):
        report(f"copy of {each * FILES} MiB, round {number + 1} of {rounds}")
        for method, run in methods.items():
            machines.sh(second, f"rm -rf {TO}; install -d -o nvidia {TO}; sync")
            machines.sh(first, f"cat {FROM}/* > /dev/null")  # each method reads from memory
            seconds[method].append(run())
    for name in (first, second):
        machines.sh(name, f"rm -rf {FROM} {TO}")
    total = each * FILES * MIB
    return Rates({method: tuple(total / sample for sample in took) for method, took in seconds.items()})


def _authorize(machines: Sparks, first: str, second: str) -> None:
    """Authorize the second Spark's user to log in on the first."""
    made = "test -e ~/.ssh/bench || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/bench; cat ~/.ssh/bench.pub"
    key = machines.sh(second, f'su nvidia -c "{made}"').strip()
    machines.sh(first, f"echo '{key}' >> /home/nvidia/.ssh/authorized_keys")


def _timed(machines: Sparks, name: str, command: str, stdin: bytes | None = None) -> float:
    started = time.perf_counter()
    machines.sh(name, command, stdin)
    return time.perf_counter() - started


def _copy(machines: Sparks, address: str, hashes: Mapping[str, str], size: int) -> float:
    """Copy as a staging job does; the time is the receiver's, including hashes and fsync."""
    first, second = machines.names[:2]
    key, names = secrets.token_hex(16), sorted(hashes)
    request = SendRequest(
        id=f"send-{secrets.token_hex(4)}",
        addresses=(address,),
        peers=(machines.state.fabric.address(machines.state.machine(second).last),),
        user=LoginUser("nvidia", 1000, 1000, "/home/nvidia"),
        files=tuple(SentFile(f"{FROM}/{name}", size) for name in names),
        transfer_key=key,
    )
    response = machines.sh(first, f"{PYZ} copy-serve", codec.dumps(request).encode())
    listens = codec.loads(SenderListens, response.splitlines()[-1])
    order = ReceiveRequest(
        SenderPlace(first, tuple((0, *listener) for listener in listens.listeners)),
        tuple(FileToReceive(n, size, hashes[name], f"{TO}/{name}", name) for n, name in enumerate(names)),
        transfer_key=key,
    )
    return _timed(machines, second, f"{PYZ} copy-receive", codec.dumps(order).encode())


def _rsync(machines: Sparks, second: str, address: str) -> float:
    ssh = "ssh -i /home/nvidia/.ssh/bench -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    command = f"rsync -a --whole-file -e '{ssh}' nvidia@{address}:{FROM}/ {TO}/"
    return _timed(machines, second, f'su nvidia -c "{command}" 2>/dev/null')


def _tcp(machines: Sparks, first: str, second: str, address: str) -> float:
    """Send the same files in one plain stream each, and discard them."""
    machines.sh(first, f"cat > {FROM}.py", RAW.encode())
    machines.sh(second, f"cat > {TO}.py", RAW.encode())
    listening = f"{FROM}.port"
    serve = f"setsid python3 {FROM}.py serve {address} {FROM} > {listening} 2>&1 < /dev/null &"
    machines.sh(first, f"rm -f {listening}; {serve}")
    port = ""
    while not port:
        port = machines.sh(first, f"cat {listening}").strip()
    return float(machines.sh(second, f"python3 {TO}.py take {address} {port} {FILES}"))


def _disk(machines: Sparks, second: str, each: int) -> float:
    write = f"dd if=/dev/zero of={TO}/$n bs=1M count={each} conv=fsync status=none"
    return _timed(machines, second, f"for n in $(seq {FILES}); do {write} & done; wait")


def _hash(machines: Sparks, first: str) -> float:
    """Hash all files, one process per core, with Python's OpenSSL as a copy does.

    Not with ``sha256sum``: Debian's does not use the CPU's SHA instructions and takes three times as long.
    """
    hashing = "import hashlib,sys; hashlib.file_digest(open(sys.argv[1],'rb'),'sha256')"
    return _timed(machines, first, f'ls {FROM}/* | xargs -P $(nproc) -n 1 python3 -c "{hashing}"')


def describe(rates: Rates) -> list[str]:
    """Return the rates as text."""
    return [
        f"{method}: {rates.rate(method) / 1e9:.2f} GB/s ("
        + ", ".join(f"{sample / 1e9:.2f}" for sample in samples)
        + ")"
        for method, samples in rates.samples.items()
    ]


def budgets(rates: Rates) -> list[Budget]:
    """Return the budgets of the copy."""
    times = rates.rate(COPY) / rates.rate(RSYNC)
    share = rates.rate(COPY) / min(rates.rate(TCP), rates.rate(DISK))
    return [
        Budget(
            "copy over the fabric, compared with one rsync -e ssh",
            f">= {RSYNC_TIMES} x",
            f"{times:.1f} x",
            times >= RSYNC_TIMES,
        ),
        Budget(
            "share of the limit of raw TCP and disk",
            f">= {OF_THE_LIMIT:.0%}",
            f"{share:.0%}",
            share >= OF_THE_LIMIT,
        ),
    ]


def main() -> None:
    """Measure the copy alone, on two Sparks of the lab, and print every rate and both ratios."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.copying", description=main.__doc__)
    parser.add_argument("--mib", type=int, default=4096, help="size of all files in sum")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    options = parser.parse_args()

    def report(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)

    work = ROOT / "build" / "bench-copying"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    machines = sparks.up(2, work, report)
    try:
        rates = measure(machines, options.rounds, options.mib, report)
    finally:
        if not options.keep:
            lifecycle.down(machines.docker, machines.lab, also_images=False, report=report)
    print("\n".join(describe(rates)))
    results = budgets(rates)
    for sample in results:
        print(f"{'holds' if sample.held else 'FAILS'}: {sample.text} {sample.measured}, {sample.limit}")
    sys.exit(0 if all(sample.held for sample in results) else 1)


if __name__ == "__main__":
    main()
