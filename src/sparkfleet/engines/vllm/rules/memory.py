"""Rules for memory and concurrency: CPU and GPU share one memory."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm import memory
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, info, rule, warning
from sparkfleet.engines.vllm.rules.model_names import DIFFUSION_GEMMA

MANY_SEQS = 8
TOO_MANY_SEQS = 16
LARGE_GIB = 30.0
"""About 60 billion parameters at four bits."""
HIGH_SHARE = 0.90
HIGHEST_SHARE = 0.92
LARGEST_SHARE = 0.835
TABLES_GIB = {r"\bQwen3\.8-Flash-Next": 47.7, r"\bDeepSeek-V4\.1-Flash": 188.8}
"""Model -> its embedding tables in FP8: vllm#56757, vllm#57491."""
DIFFUSION_SEQS = 4
DIFFUSION_GIB = 0.25
"""Buffer of one sequence: a canvas of 256 tokens, 262144 vocabulary entries, float32."""
LARGEST_SHM_GIB = 32
LARGEST_FILE_SHARE = 0.5
OFFLOAD_SIZES = ("--kv-offloading-size", "--cpu-offload-gb", "--swap-space")
KV_TRANSFER = "--kv-transfer-config"
SEQS, SHARE = "--max-num-seqs", "--gpu-memory-utilization"

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@rule("MEM-01", "few concurrent sequences on a Spark", "dgx-vllm 2, 8; vLLM's recipes for GB10 use 8")
def many_sequences(case: Case) -> Diagnostic | None:
    """Each sequence slows all others: the memory's bandwidth is shared."""
    seqs = case.number(SEQS)
    if seqs is not None and seqs < 1:
        return error(f"--max-num-seqs {seqs:.0f}: vLLM takes 1 or more", "set it to 4", SEQS)
    if seqs is None or seqs <= MANY_SEQS:
        return None
    text = f"--max-num-seqs {seqs:.0f}: dgx-vllm recommends 1 to 4, vLLM's recipes for GB10 8"
    if seqs > TOO_MANY_SEQS and case.weights_gib > LARGE_GIB:
        return warning(f"{text}; this model is large", "lower max-num-seqs", SEQS)
    return info(text, "lower it if single answers are slow", SEQS)


@rule("MEM-02", "--max-num-seqs is set", "vLLM get_batch_defaults: 1024 on GPUs of 70 GiB or more")
def no_sequences(case: Case) -> Diagnostic | None:
    """The default is made for servers."""
    if SEQS in case.values:
        return None
    text = f"--max-num-seqs is not set: vLLM's default on GB10 is {memory.MAX_NUM_SEQS}"
    return warning(text, "set max-num-seqs, for example 4")


@rule(
    "MEM-03",
    "--gpu-memory-utilization is set",
    "dgx-vllm 2; vLLM's default: 0.9, from 0.20.0 0.92, of the memory that CPU and GPU share; "
    "it must be free at the start also with --kv-cache-memory-bytes (llamastash#80)",
)
def no_share(case: Case) -> Diagnostic | None:
    """The default is made for GPUs with a memory of their own. With explicit bytes, too, it must be free."""
    if SHARE in case.values:
        return None
    default = case.schema.flags[SHARE].default
    text = f"{SHARE} is not set: vLLM's default is {default} of the memory that CPU and GPU share"
    if "--kv-cache-memory-bytes" in case.values:
        text = (
            f"{SHARE} is not set: with --kv-cache-memory-bytes, too, the start needs {default} of the memory"
        )
    beside = [one.name for one in case.host.services if one.name != case.service.name]
    if beside:
        text += f", and {', '.join(beside)} {'runs' if len(beside) == 1 else 'run'} on this Spark, too"
    return warning(text, f"set gpu-memory-utilization, for example {0.4 if beside else 0.85}")


@rule(
    "MEM-04",
    "--gpu-memory-utilization is at most 0.90",
    "dgx-vllm 8; mistral-nemo-spark; dgx-spark-playbooks#97, vllm#56824 (hangs and resets at higher values)",
)
def high_share(case: Case) -> Diagnostic | None:
    """Linux, docker and the page cache live in the same memory."""
    share = case.number(SHARE)
    if share is None or 0 < share <= HIGH_SHARE:
        return None
    hint = "set 0.85 or less; vLLM's recipes for GB10 use 0.5 to 0.8"
    if share > 1:
        return error(f"{SHARE} {share:g} is more than the whole memory (1)", hint, SHARE)
    if share <= 0:
        return error(f"{SHARE} {share:g}: vLLM takes a share above 0 and up to 1", hint, SHARE)
    text = f"{SHARE} {share:g} leaves {(1 - share) * case.total_gib:.1f} GiB for Linux (of {case.total_text})"
    return error(text, hint, SHARE) if share > HIGHEST_SHARE else warning(text, hint, SHARE)


@rule(
    "MEM-06",
    "weights, activations and one sequence fit into the engine's memory share",
    "vLLM's start test (kv_cache_utils.check_enough_kv_cache_memory); dgx-vllm 11",
)
def does_not_fit(case: Case) -> Diagnostic | None:
    """VLLM ends the start when one sequence of max-model-len does not fit."""
    found = estimate(case)
    if found is None or found.verdict not in ("tight", "does not fit"):
        return None
    hint = "lower max-model-len, raise gpu-memory-utilization, or use a smaller checkpoint"
    if found.verdict == "does not fit":
        return error(f"it does not fit: {found.text()}", hint)
    return warning(f"it may not fit: {found.text()}", hint)


@rule(
    "MEM-09", "weights above five sixths of the memory need several Sparks", "dgx-vllm 12: 100 of 119.7 GiB"
)
def too_large(case: Case) -> Diagnostic | None:
    """They leave no room for a KV cache."""
    parallel = memory.settings(case.values, case.schema).parallel
    weights_gib = case.weights_gib - (_tables_gib(case) if _has_tables_on_disk(case) else 0)
    if weights_gib <= LARGEST_SHARE * case.total_gib * parallel:
        return None
    text = f"{weights_gib:.0f} GiB of weights do not fit beside a KV cache ({case.total_text})"
    return error(text, "serve it on a cluster of Sparks, or use a more quantized checkpoint")


@rule(
    "MEM-18",
    "the Spark keeps its reserve beside what an engine takes outside of its share",
    "DeepSeek-v4-Flash-One-DGX-Spark#10: 5.6 GiB outside; GLM-5.3-Flash-EXL3#118: lock-ups at 0.85 to 0.87",
)
def small_reserve(case: Case) -> Diagnostic | None:
    """Without memory for Linux the whole Spark hangs."""
    found = estimate(case)
    if found is None or found.verdict == "does not fit" or found.leaves_reserve:
        return None
    outside = memory.OUTSIDE_SHARE * found.total_gib
    text = (
        f"{found.left_gib:.1f} GiB are left for Linux and everything else, less than reserve_gib "
        f"{found.reserve_gib:g}: an engine takes about {outside:.1f} GiB outside of its share"
    )
    return warning(text, "lower gpu-memory-utilization, or set it with kv-cache-memory-bytes", SHARE)


@rule(
    "MEM-21",
    "tables that are offloaded to the CPU's memory count in the Spark's memory",
    "vllm#57910, vllm#56757: EngramConfig.cpu_offload pins them in host memory, which is the GPU's on GB10",
)
def offloaded_tables(case: Case) -> Diagnostic | None:
    """Offloading frees nothing here."""
    size = _tables_gib(case)
    if not size or _has_tables_on_disk(case) or not _are_offloaded(case):
        return None
    text = f"the embedding tables ({size:.0f} GiB) are pinned beside the engine's share, in the same memory"
    return info(text, "count them when you choose gpu-memory-utilization, or use more Sparks")


@rule("MEM-10", "a container's memory limit is below the Spark's memory", "mistral-small-4-spark 3.1")
def useless_limit(case: Case) -> Diagnostic | None:
    """A higher one limits nothing; and GPU memory is not counted by it on every driver."""
    limit = _size_gib(case.service.container.memory)
    if limit is None or limit < case.total_gib:
        return None
    text = f"the container's memory limit of {limit:.0f} GiB is above the Spark's {case.total_text}"
    return warning(text, "remove container.memory, or lower it", "container.memory")


@rule("MEM-11", "shm_size has no meaning with ipc: host", "docker; dgx-vllm 7.1.3, 7.2.3, 7.2.4 give both")
def needless_shm(case: Case) -> Diagnostic | None:
    """The host's own /dev/shm is used then."""
    box = case.service.container
    if box.ipc != "host" or not box.shm_size:
        return None
    return info("shm_size has no effect with ipc: host", "remove shm_size", "container.shm_size")


@rule(
    "MEM-12",
    "the engine has enough shared memory",
    "dgx-vllm 4; vLLM: Insufficient space in /dev/shm",
)
def no_shm(case: Case) -> Diagnostic | None:
    """Docker gives 64 MB by default."""
    box = case.service.container
    if box.ipc == "host" or box.shm_size:
        return None
    text = "neither ipc: host nor shm_size: /dev/shm has 64 MB"
    return warning(text, "set ipc: host or shm_size: 16g", "container.ipc")


@rule(
    "MEM-14",
    "DiffusionGemma runs with few sequences",
    "dgx-vllm 7.2.4: 4; vLLM's recipe: at most 8; NVIDIA's playbook: 10",
)
def diffusion_sequences(case: Case) -> Diagnostic | None:
    """Its buffers are sequences x canvas x vocabulary: an error only where they exceed the whole memory."""
    if not case.is_model(DIFFUSION_GEMMA):
        return None
    seqs = case.number(SEQS) or memory.MAX_NUM_SEQS
    if seqs <= DIFFUSION_SEQS:
        return None
    buffers = seqs * DIFFUSION_GIB
    text = f"DiffusionGemma with {seqs:.0f} sequences: its buffers take at least {buffers:.1f} GiB"
    hint = f"set max-num-seqs to {DIFFUSION_SEQS}"
    return error(text, hint, SEQS) if buffers > case.total_gib else warning(text, hint, SEQS)


@rule(
    "MEM-15",
    "the shared memory of a container is at most 32 GB",
    "DeepSeek-v4-Flash-Vision-Exp-DSpark#31: `shm_size: 64gb` looked like a dead Spark under load",
)
def large_shm(case: Case) -> Diagnostic | None:
    """It is memory of the same pool that the engine has."""
    box = case.service.container
    size = _size_gib(box.shm_size)
    if box.ipc == "host" or size is None or size <= LARGEST_SHM_GIB:
        return None
    text = f"shm_size {box.shm_size}: what is written to /dev/shm is taken from the engine's memory"
    return warning(text, "set shm_size: 16g or less", "container.shm_size")


@rule(
    "MEM-16",
    "nothing is offloaded to the CPU's memory: it is the GPU's",
    "GLM-5.3-Flash-EXL3-2x-DGX-Sparks PR#58: a Spark wedged six times with KV offloading",
)
def offloading(case: Case) -> Diagnostic | None:
    """On a Spark it moves memory from one account to another, and costs copies."""
    found = [flag for flag in OFFLOAD_SIZES if (case.number(flag) or 0) > 0]
    transfer = case.values.get(KV_TRANSFER)
    connector = str(transfer.get("kv_connector", "")) if isinstance(transfer, Mapping) else ""
    if "offload" in connector.lower():
        found.append(KV_TRANSFER)
    if not found:
        return None
    text = f"{', '.join(found)}: on a Spark the CPU's memory is the GPU's: nothing becomes free"
    if KV_TRANSFER in found and "expandable_segments:True" in case.allocator:
        text += "; and the connector has refused to start with expandable_segments:True"
    return warning(text, "remove it", found[0])


@rule(
    "MEM-19",
    "--enable-sleep-mode is off",
    "vllm#50011: on GB10 wake_up ends the engine, and twice the whole Spark hung",
)
def sleep_mode(case: Case) -> Diagnostic | None:
    """Sleeping works; waking does not."""
    flag = "--enable-sleep-mode"
    if not case.on(flag):
        return None
    return warning(f"{flag}: on GB10 waking up has ended engines, and Sparks have hung", "remove it", flag)


@rule(
    "MEM-20",
    "weights are in files of a few GiB",
    "forum t/380364 (reported): one file of 87 GB exhausts the memory while it is loaded",
)
def large_file(case: Case) -> Diagnostic | None:
    """The file is mapped into memory beside the copy that is made of it."""
    files = [file for file in case.service.weights.files if file.path.endswith(".safetensors")]
    largest = max(files, key=lambda file: file.size, default=None)
    if largest is None or largest.size / 2**30 <= LARGEST_FILE_SHARE * case.total_gib:
        return None
    text = (
        f"{largest.path} has {largest.size / 2**30:.0f} GiB: such files have been reported to exhaust "
        "the memory while they are loaded"
    )
    return warning(text, "use a checkpoint in smaller files, and no load-format: fastsafetensors")


def estimate(case: Case) -> memory.Estimate | None:
    """Return the memory estimate of the case; None when the size of the weights is not locked."""
    if not case.service.weights.files:
        return None
    others_gib = engines.memory_of_others(case.service, case.host, case.total_gib)
    machine = memory.Machine(case.total_gib, case.host.reserve_gib, others_gib, case.total_is_assumed)
    size = sum(weights.size for weights in (case.service.weights, *case.service.drafters))
    settings = memory.settings(case.values, case.schema, case.total_gib)
    tables_gib = _tables_gib(case)
    if _has_tables_on_disk(case):
        size, tables_gib = size - int(tables_gib * 2**30), 0.0
    tables_gib = tables_gib / settings.parallel if _are_offloaded(case) else 0.0
    return memory.estimate(case.shape, size, settings, machine, case.measured, tables_gib=tables_gib)


def _tables_gib(case: Case) -> float:
    """Return the size of a model's n-gram or per-layer embedding tables; 0: it has none."""
    return next((gib for model, gib in TABLES_GIB.items() if case.is_model(model)), 0.0)


def _are_offloaded(case: Case) -> bool:
    """Return whether vLLM keeps the tables in pinned memory of the CPU."""
    config = case.values.get("--engram-config")
    if isinstance(config, Mapping) and isinstance(config.get("cpu_offload"), bool):
        return bool(config["cpu_offload"])
    declared = case.env.get("VLLM_PLE_CPU_OFFLOAD")
    if declared is not None:
        return declared != "0"
    known = case.schema.json_classes.get("EngramConfig")
    return known is not None and known.fields.get("cpu_offload", {}).get("default") is True


def _has_tables_on_disk(case: Case) -> bool:
    """Return whether the fork spark-vllm-b12x keeps the tables on disk; vLLM itself cannot."""
    config = case.values.get("--engram-config")
    place = config.get("table_memory") if isinstance(config, Mapping) else None
    return "disk" in (place, case.env.get("VLLM_PLE_TABLE_MEMORY"))


def _size_gib(text: str) -> float | None:
    """Read a docker size, as 110g."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)b?", text.lower())
    return float(match[1]) * _UNITS[match[2]] / 2**30 if match else None


RULES: tuple[Rule, ...] = (
    many_sequences,
    no_sequences,
    no_share,
    high_share,
    does_not_fit,
    too_large,
    small_reserve,
    offloaded_tables,
    useless_limit,
    needless_shm,
    no_shm,
    diffusion_sequences,
    large_shm,
    offloading,
    sleep_mode,
    large_file,
)
