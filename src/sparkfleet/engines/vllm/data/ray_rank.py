"""What a rank's container runs with Ray: ``ray_rank.py ADDRESSES NAMES RANK vllm serve ...``.

The head starts Ray, waits for every node, then becomes the engine. The others are nodes until Ray ends; they
have the engine's words, too, so that a look at any rank tells what is served.
"""

import os
import subprocess
import sys
import time

PORT = "6379"
OBJECT_STORE_BYTES = "1073741824"
QUIET = ("--disable-usage-stats",)


def main() -> None:
    """Run this rank."""
    addresses, names, number, *engine = sys.argv[1:]
    all_addresses, rank = addresses.split(","), int(number)
    named = dict(zip(all_addresses, names.split(","), strict=True))
    node = (f"--node-ip-address={all_addresses[rank]}", "--num-gpus=1", *QUIET)
    store = f"--object-store-memory={OBJECT_STORE_BYTES}"
    if rank:
        words = ["ray", "start", "--block", f"--address={all_addresses[0]}:{PORT}", *node, store]
        os.execvp(words[0], words)  # noqa: S606
    head = ("ray", "start", "--head", f"--port={PORT}", "--include-dashboard=false", *node, store)
    subprocess.run(head, check=True)
    wait_for(f"{all_addresses[0]}:{PORT}", named)
    os.execvp(engine[0], engine)  # noqa: S606


def wait_for(head: str, named: dict[str, str]) -> None:
    """Return when Ray has a living node at every address; say who is missing."""
    import ray  # type: ignore[import-not-found]  # noqa: PLC0415  (in the image, not here)

    ray.init(address=head, log_to_driver=False, logging_level="ERROR")
    told = None
    while True:
        there = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        missing = [f"{name} ({address})" for address, name in named.items() if address not in there]
        if not missing:
            break
        if missing != told:
            sys.stdout.write(f"sparkfleet: Ray waits for {', '.join(missing)}\n")
            sys.stdout.flush()
            told = missing
        time.sleep(1)
    ray.shutdown()


if __name__ == "__main__":
    main()
