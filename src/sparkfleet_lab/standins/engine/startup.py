"""The start of the engine, phase by phase, in the real engine's order and wording."""

from __future__ import annotations

import argparse
import time

from . import log, memory, release
from . import model as models
from .model import Model
from .modes import Settings

_BAR = (
    "Loading safetensors checkpoint shards: {percent:3}% Completed | {done}/{all} [{spent}<{left}, {rate}]\n"
)


def run(args: argparse.Namespace, model: Model, length: int, settings: Settings) -> memory.Pool:
    """Load, compile, capture; return the KV cache's size. Ends the program if a mode requires it."""
    core = log.core
    started = time.monotonic()
    core(
        f"Initializing a V1 LLM engine (v{release.load().version}) with config: model='{model.name}', "
        f"speculative_config={_config_text(args.speculative_config)}, revision={args.revision}, "
        f"trust_remote_code={args.trust_remote_code}, dtype=torch.bfloat16, max_seq_len={length}, "
        f"tensor_parallel_size={args.tensor_parallel_size}, "
        f"pipeline_parallel_size={args.pipeline_parallel_size}, "
        f"quantization={args.quantization or model.quantization or None}, "
        f"enforce_eager={args.enforce_eager}, kv_cache_dtype={args.kv_cache_dtype}, "
        f"served_model_name={(args.served_model_name or [model.name])[0]}",
        "core.py:133",
    )
    core("world_size=1 rank=0 local_rank=0 distributed_init_method=tcp://127.0.0.1:43117 backend=nccl",
         "parallel_state.py:1906")  # fmt: skip
    memory.check_free(args, settings)
    core(f"Starting to load model {model.name}...", "gpu_model_runner.py:4879")
    weights = _load(model, settings)
    if "crash-after-load" in settings:
        final = "torch.AcceleratorError: CUDA error: unspecified launch failure"
        log.die_in_core(final, int(settings.value("crash-after-load", 0, 1)))
    compiled = 0.0 if args.enforce_eager else _compile(settings)
    if "nv-illegal-instruction" in settings:
        log.die_in_core(
            "torch.AcceleratorError: CUDA error: an illegal instruction was encountered\n"
            "Search for `cudaErrorIllegalInstruction' in "
            "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information."
        )
    memory.measure(settings)
    pool = memory.pool(model, args, weights / memory.GIB, length, settings)
    core(f"Available KV cache memory: {pool.gib:.2f} GiB", "gpu_worker.py:466")
    core(f"GPU KV cache size: {pool.tokens:,} tokens", "kv_cache_utils.py:1733")
    core(
        f"Maximum concurrency for {length:,} tokens per request: {pool.concurrency:.2f}x",
        "kv_cache_utils.py:1734",
    )
    if not args.enforce_eager:
        _capture(settings)
    took = f"{time.monotonic() - started:.2f} s"
    took += f" (compilation: {compiled:.2f} s)" if compiled and release.load().at_least(0, 20) else ""
    core(f"init engine (profile, create kv cache, warmup model) took {took}", "core.py:302")
    return pool


def _load(model: Model, settings: Settings) -> int:
    """Read every shard's header, with progress; return the bytes of all tensors."""
    started = time.monotonic()
    files = models.shards(model)
    _progress(0, len(files), started)
    if "hangs-loading" in settings:
        time.sleep(10**8)
    if "eats-memory" in settings:
        _eat(settings.eat_mib)
    total = 0
    for done, file in enumerate(files, 1):
        total += models.read_shard(file)
        time.sleep(settings.start_s * 0.4 / len(files))
        _progress(done, len(files), started)
    took = time.monotonic() - started
    log.bar("\n")
    log.core(f"Loading weights took {took:.2f} seconds", "default_loader.py:397")
    log.core(
        f"Model loading took {total / memory.GIB:.2f} GiB memory and {took:.6f} seconds",
        "gpu_model_runner.py:5132",
    )
    return total


def _progress(done: int, count: int, started: float) -> None:
    spent = time.monotonic() - started
    left = spent / done * (count - done) if done else 0.0
    rate = f"{done / spent:.2f}it/s" if done and spent else "?it/s"
    shown = _clock(left) if done else "?"
    log.bar(
        "\r"
        + _BAR.format(
            percent=round(100 * done / count),
            done=done,
            all=count,
            spent=_clock(spent),
            left=shown,
            rate=rate,
        )
    )


def _compile(settings: Settings) -> float:
    started = time.monotonic()
    cache = "/root/.cache/vllm/torch_compile_cache/0d712c7e8f/rank_0_0/backbone"
    log.core(f"Using cache directory: {cache} for vLLM's torch.compile", "backends.py:1089")
    time.sleep(settings.start_s * 0.1)
    log.core(f"Dynamo bytecode transform time: {time.monotonic() - started:.2f} s", "backends.py:1148")
    time.sleep(settings.start_s * 0.2)
    took = time.monotonic() - started
    log.core(f"Compiling a graph for compile range (1, 8192) takes {took:.2f} s", "backends.py:393")
    verb = "took" if release.load().at_least(0, 17) else "takes"
    log.core(f"torch.compile {verb} {took:.2f} s in total", "monitor.py:53")
    return took


def _capture(settings: Settings) -> None:
    started = time.monotonic()
    for name, count in (("mixed prefill-decode, PIECEWISE", 5), ("decode, FULL", 3)):
        for done in range(count + 1):
            percent = 100 * done // count
            filled = "█" * (percent // 10)
            log.bar(
                f"\rCapturing CUDA graphs ({name}): {percent:3}%|{filled:<10}| {done}/{count} [00:00<00:00]"
            )
            time.sleep(settings.start_s * 0.3 / 10)
            if "cuda-oom" in settings and done:
                log.bar("\n")
                log.die_in_core(
                    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. "
                    f"GPU 0 has a total capacity of {settings.total_gib:.2f} GiB of which 1.12 GiB is free."
                )
        log.bar("\n")
    took = time.monotonic() - started
    log.core(f"Graph capturing finished in {took:.0f} secs, took 0.38 GiB", "gpu_model_runner.py:6456")


def _eat(limit_mib: int) -> None:
    """Allocate and touch memory up to a limit, then hold it and never become ready."""
    blocks = []
    for _ in range(0, limit_mib, 64):
        blocks.append(b"x" * (64 * 1024 * 1024))
        time.sleep(0.05)
    while blocks:
        time.sleep(3600)


def _config_text(config: object) -> str:
    return "None" if not isinstance(config, dict) else f"SpeculativeConfig({config})"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"
