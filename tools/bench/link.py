"""A TCP relay that adds latency: ``python -m tools.bench.link MS LISTEN:TO ...``; counts its traffic.

For kernels without netem. Each direction takes half of MS, and a new connection takes MS before its first
byte, as a TCP handshake would. On SIGTERM it prints ``{"up": bytes, "down": bytes, "connections": n}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections import Counter

_CHUNK = 1 << 16


class Relay:
    """All connections of all ports, and the sum of their traffic."""

    def __init__(self, delay_s: float) -> None:
        """Use half of the round-trip time for each direction."""
        self.half = delay_s / 2
        self.traffic: Counter[str] = Counter(up=0, down=0, connections=0)

    async def serve(self, port: int, target: int) -> None:
        """Listen on a port of 127.0.0.1, relay to another."""

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.traffic["connections"] += 1
            await asyncio.sleep(2 * self.half)
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target)
            for stream in (writer, target_writer):
                stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(
                self._pump("up", reader, target_writer), self._pump("down", target_reader, writer)
            )

        await asyncio.start_server(accepted, "127.0.0.1", port)

    async def _pump(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        data = b"?"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except ConnectionError:
                data = b""
            self.traffic[direction] += len(data)
            if self.half:
                loop.call_later(self.half, _pass_on, writer, data)
            else:
                _pass_on(writer, data)


def _pass_on(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        if data:
            writer.write(data)
        else:
            writer.close()


async def main() -> None:
    """Relay until SIGTERM, then print the traffic."""
    relay = Relay(float(sys.argv[1]) / 1000)
    for pair in sys.argv[2:]:
        port, target = pair.split(":")
        await relay.serve(int(port), int(target))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    await ended.wait()
    print(json.dumps(relay.traffic), flush=True)
    os._exit(0)  # do not wait for open connections


if __name__ == "__main__":
    asyncio.run(main())
