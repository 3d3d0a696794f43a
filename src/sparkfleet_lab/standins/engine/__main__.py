"""``vllm``: ``vllm serve MODEL [flags]`` and ``vllm --version``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from . import arguments, log, memory, modes, ranks, ray_ranks, refusals, release, startup
from . import model as models
from .metrics import Metrics
from .modes import Settings
from .server import ServedModel, Server


class StopSignal(Exception):  # noqa: N818 - not an error
    """The engine received a signal to stop."""


def main() -> None:
    """Run the command of the command line."""
    parser, serve = arguments.build()
    try:
        args = parser.parse_args()
        arguments.validate_parsed_serve_args(args)
    except TypeError as error:
        log.die(f"TypeError: {error}")
    if args.subparser == "serve":
        _serve(args, serve)
    elif args.subparser is None:
        parser.print_help()
    else:
        sys.exit(f"vllm {args.subparser}: the lab's engine has only `vllm serve`")


def _serve(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    settings = modes.settings()
    name = args.model_tag or args.model
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "ignores-sigterm" in settings else _stop)
    signal.signal(signal.SIGINT, _stop)
    log.logo(release.load().version, name)
    log.line(f"non-default args: {_non_default(args, parser, name)}")
    if "crash-at-start" in settings:
        final = (
            "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"
        )
        log.die(final, int(settings.value("crash-at-start", 0, 1)))
    try:
        refusals.check_front_end(args)
        listener = socket.socket() if args.headless else _bind(args, settings)
        model = models.find(name, args.revision, args.download_dir)
        length = refusals.check_model(args, model)
    except models.ModelError as error:
        log.die(str(error))
    except StopSignal:
        log.die("KeyboardInterrupt: terminated", 130)
    try:
        ranks.join(args)
        ray_ranks.join(args)
        pool = startup.run(args, model, length, settings)
    except models.ModelError as error:
        log.die_in_core(str(error))
    except StopSignal:
        log.die("KeyboardInterrupt: terminated", 130)
    try:
        _serve_requests(args, settings, model, pool, listener)
    except StopSignal:
        _shut_down()


def _bind(args: argparse.Namespace, settings: Settings) -> socket.socket:
    """Bind the port before the model is loaded, as vLLM does."""
    host = args.host or "0.0.0.0"  # noqa: S104 - vLLM's own default
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if "port-taken" in settings:
            raise OSError(98, "Address already in use")  # noqa: TRY301
        listener.bind((host, args.port))
    except OSError as error:
        raise models.ModelError(f"OSError: [Errno {error.errno}] {error.strerror}") from error
    return listener


def _serve_requests(
    args: argparse.Namespace,
    settings: Settings,
    model: models.Model,
    pool: memory.Pool,
    listener: socket.socket,
) -> None:
    names = tuple(args.served_model_name or [model.name])
    if "wrong-name" in settings:
        names = ("some-other-model",)
    keys = tuple(args.api_key or filter(None, [os.environ.get("VLLM_API_KEY")]))
    is_pooling = getattr(args, "runner", "auto") == "pooling"
    dimensions = int(model.text.get("hidden_size", 64)) if is_pooling else 0
    served_model = ServedModel(
        names, model.name, pool.max_model_len, keys, bool(args.reasoning_parser), dimensions
    )
    tasks = ["embed", "token_embed"] if dimensions else ["generate"]
    draft_tokens = 0
    if isinstance(args.speculative_config, dict):
        draft_tokens = int(args.speculative_config.get("num_speculative_tokens") or 1)
    accepts = "spec-none-accepted" not in settings
    labels = _cache_labels(args, pool)
    metrics = Metrics(names[0], labels, drafted=draft_tokens, accepts=accepts, frozen="no-tokens" in settings)
    log.line(f"Supported tasks: {tasks}", where="entry.py:136")
    if args.headless:
        signal.pause()
    scheme = "https" if args.ssl_certfile else "http"
    log.line(
        f"Starting vLLM server on {scheme}://{listener.getsockname()[0]}:{args.port}", where="entry.py:140"
    )
    log.line("Available routes are:", where="launcher.py:186")
    for path, method in served_model.routes:
        log.line(f"Route: {path}, Methods: {method}", where="launcher.py:195")
    server = Server(listener, served_model, metrics, settings)
    if args.ssl_certfile:
        server.use_tls(args.ssl_certfile, args.ssl_keyfile)
    log.uvicorn(f"Started server process [{os.getpid()}]")
    log.uvicorn("Waiting for application startup.")
    log.uvicorn("Application startup complete.")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if "crash-later" not in settings:
        while True:
            time.sleep(3600)
    time.sleep(settings.value("crash-later", 0, 5))
    _crash(int(settings.value("crash-later", 1, 1)))


def _crash(code: int) -> NoReturn:
    if code == 128 + signal.SIGKILL:
        os.kill(os.getpid(), signal.SIGKILL)
    log.core("EngineCore encountered a fatal error.", "core.py:1130", "ERROR")
    final = (
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) "
    )
    log.die(final + "for the root cause.", code)


def _stop(_signal: int, _frame: object) -> NoReturn:
    raise StopSignal


def _shut_down() -> None:
    with contextlib.suppress(StopSignal):
        log.line("[shutdown] API server: shutdown triggered", where="launcher.py:254")
        log.uvicorn("Shutting down")
        log.uvicorn("Waiting for application shutdown.")
        log.uvicorn("Application shutdown complete.")
    os._exit(0)  # do not wait for threads with an open request


def _non_default(args: argparse.Namespace, parser: argparse.ArgumentParser, name: str) -> dict[str, Any]:
    different = {"model_tag": args.model_tag, "model": name} if args.model_tag else {"model": name}
    changed = {key: value for key, value in vars(args).items() if value != parser.get_default(key)}
    for key in ("subparser", "model_tag", "model"):
        changed.pop(key, None)
    return {**different, **changed}


def _cache_labels(args: argparse.Namespace, pool: memory.Pool) -> dict[str, str]:
    block = args.block_size or 16
    values = {
        "block_size": block,
        "cache_dtype": args.kv_cache_dtype,
        "enable_prefix_caching": args.enable_prefix_caching is not False,
        "gpu_memory_utilization": args.gpu_memory_utilization,
        "is_attention_free": False,
        "kv_cache_memory_bytes": args.kv_cache_memory_bytes,
        "mamba_block_size": None,
        "mamba_cache_dtype": "auto",
        "mamba_ssm_cache_dtype": "auto",
        "num_cpu_blocks": None,
        "num_gpu_blocks": pool.tokens // block,
        "num_gpu_blocks_override": None,
        "prefix_caching_hash_algo": "sha256",
        "sliding_window": None,
    }
    return {key: str(value) for key, value in values.items()}


if __name__ == "__main__":
    main()
