"""Several nodes as one engine by Ray: each rank has a bundle of a placement group, as in the real one."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from . import log

READY_S = 60.0
"""Seconds in which Ray must place all ranks."""
_POLL_S = 1.0


def join(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> None:
    """Return when every rank runs on a node; after that the engine ends when one of them does."""
    size = args.tensor_parallel_size * args.pipeline_parallel_size * (args.data_parallel_size or 1)
    if args.distributed_executor_backend != "ray" or size == 1:
        return
    import ray.util.scheduling_strategies  # type: ignore[import-not-found]  # noqa: PLC0415  (not in all images)

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    config = json.loads(environ.get("VLLM_DISTRIBUTED_EXECUTOR_CONFIG") or "{}")
    options = {"strategy": "PACK", **config.get("placement_group_options", {})}
    group = ray.util.placement_group([{"GPU": 1}] * size, **options)
    if not group.wait(READY_S):
        log.die_in_core("ValueError: Current node has no GPU available. current_node_resource={}")
    ranks = [_start(ray, group, rank) for rank in range(size)]
    for rank, address in enumerate(ray.get([one.address.remote() for one in ranks])):
        log.core(f"rank {rank} of {size} on {address} ({options['strategy']})", "ray_executor.py:231")
    threading.Thread(target=_watch, args=(ray, ranks), daemon=True).start()


def _start(ray: Any, group: Any, rank: int) -> Any:
    class Rank:
        """One rank of the engine, on the node of its bundle."""

        def address(self) -> str:
            """Return the node's address."""
            return str(ray.util.get_node_ip_address())

    strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
    placement = strategy(placement_group=group, placement_group_bundle_index=rank)
    return ray.remote(num_gpus=1, num_cpus=0)(Rank).options(scheduling_strategy=placement).remote()


def _watch(ray: Any, ranks: list[Any]) -> None:
    while True:
        try:
            ray.get([one.address.remote() for one in ranks], timeout=20)
        except Exception as error:  # noqa: BLE001  (whatever the error, a rank has failed)
            final = f"ray.exceptions.ActorDiedError: {type(error).__name__}: a rank died"
            log.core(log.trace(final).rstrip(), "core.py:1145", "ERROR")
            os._exit(1)
        time.sleep(_POLL_S)
