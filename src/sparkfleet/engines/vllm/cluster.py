"""One vLLM over several Sparks: by Ray, or by vLLM's own multi-node mode (mp)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from sparkfleet.engines.base import ClusterEngine, Rank
from sparkfleet.engines.vllm import images, parallelism
from sparkfleet.engines.vllm.onhost import ENGINE
from sparkfleet.engines.vllm.packages import RAY

if TYPE_CHECKING:
    from sparkfleet.contract.diagnostic import Diagnostic
    from sparkfleet.desired_state import FlagValue, ImageRef, Service

SPREAD = '{"placement_group_options":{"strategy":"SPREAD"}}'
"""One bundle a Spark: Ray's default (PACK) looks for all GPUs where the engine runs."""


class VllmCluster(ClusterEngine):
    """How ranks of vLLM are started."""

    reserved_flags: Mapping[str, str] = {
        "nnodes": "the number of 'hosts:'",
        "node-rank": "the order of 'hosts:'",
        "master-addr": "the first of 'hosts:'",
        "master-port": "nothing: a port of the fabric that sparkfleet chooses",
        "headless": "the order of 'hosts:'",
        "distributed-executor-backend": "the field 'executor:'",
    }
    address_env = "VLLM_HOST_IP"
    shared_caches = ("vllm/flashinfer_autotune_cache",)
    """Ranks with different entries wait for each other for ever."""

    def packages(self, executor: str) -> Mapping[str, str]:
        """See ``ClusterEngine``."""
        return {RAY: ""} if executor == "ray" else {}

    def split(
        self, flags: Mapping[str, FlagValue], written: frozenset[str], sparks: int
    ) -> Mapping[str, FlagValue]:
        """Return tensor parallelism over all Sparks where the flags ask for one GPU."""
        if written & set(parallelism.SIZES) or parallelism.gpus(flags) != 1:
            return {}
        return {parallelism.TENSOR: sparks}

    def diagnostics(self, service: Service, sparks: int) -> list[Diagnostic]:
        """See ``ClusterEngine``."""
        return parallelism.diagnostics(service, sparks)

    def flags(self, rank: Rank) -> Mapping[str, FlagValue]:
        """See ``ClusterEngine``."""
        flags: dict[str, FlagValue] = {"distributed-executor-backend": rank.executor}
        if rank.executor == "ray":
            return flags
        flags |= {
            "nnodes": len(rank.hosts),
            "node-rank": rank.number,
            "master-addr": rank.addresses[0],
            "master-port": ENGINE.cluster_starts[rank.executor].head_port,
        }
        return flags | ({"headless": True} if rank.number else {})

    def environment(self, rank: Rank) -> Mapping[str, str]:
        """See ``ClusterEngine``. Ray knows a node by one address: that at which the containers join it."""
        if rank.executor != "ray":
            return {}
        address = {self.address_env: rank.addresses[rank.number]} if rank.has_links else {}
        own = {"RAY_memory_monitor_refresh_ms": "0", "VLLM_DISTRIBUTED_EXECUTOR_CONFIG": SPREAD}
        return {**address, **own}

    def entrypoint(self, rank: Rank, image: ImageRef) -> str:
        """Return ``python3`` where the image's own entrypoint runs ``vllm`` and nothing else."""
        own = rank.executor == "ray" and images.serve_prefix(image.entrypoint) != images.SERVE
        return "python3" if own else ""

    def command(self, rank: Rank, entrypoint: str, serve: tuple[str, ...]) -> tuple[str, ...]:
        """See ``ClusterEngine``."""
        if rank.executor != "ray":
            return serve
        python = () if entrypoint else ("python3",)
        hosts = (",".join(rank.addresses), ",".join(rank.hosts), str(rank.number))
        return (*python, "-c", _ray_program(), *hosts, *serve)


@cache
def _ray_program() -> str:
    return resources.files("sparkfleet.engines.vllm").joinpath("data/ray_rank.py").read_text(encoding="utf-8")
