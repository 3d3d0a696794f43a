"""``llama-server``: parse the arguments, listen, load the model, serve."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from sparkfleet_lab.standins.engine import modes
from sparkfleet_lab.standins.engine.modes import Settings
from sparkfleet_lab.standins.llama_server import arguments, gguf, log
from sparkfleet_lab.standins.llama_server.arguments import Options, Release
from sparkfleet_lab.standins.llama_server.metrics import Metrics
from sparkfleet_lab.standins.llama_server.server import ServedModel, Server

SLOTS = 4
MIB = 1024 * 1024
FILE_TYPES = {0: "all F32", 1: "F16", 7: "Q8_0", 15: "Q4_K - Medium"}


class StopSignal(Exception):  # noqa: N818 - not an error
    """SIGTERM or SIGINT arrived."""


def main() -> None:
    """Run until stopped, or end like llama-server if it cannot serve."""
    release = arguments.load_release()
    options = arguments.parse(sys.argv[1:], release)
    settings = modes.settings()
    log.srv("llama_server", "initializing ...")
    log.common(
        "common_params_print_info",
        "common_params_print_info: verbosity = 3 (adjust with the `-lv N` CLI arg)",
    )
    if "crash-at-start" in settings:
        log.line("ggml_cuda_init: failed to initialize CUDA: system not yet initialized", "E")
        raise SystemExit(int(settings.value("crash-at-start", 0, 1)))
    path = options.text("--model")
    served_model = _served_model(options, release, path, settings)
    if options.text("--cors-origins", "*") == "*" and not served_model.api_keys:
        log.srv(
            "llama_server",
            "security: no API key is set and CORS allows all origins "
            "(see https://github.com/ggml-org/llama.cpp/pull/25655)",
            "W",
        )
    server = _listen(options, served_model, settings)
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    _load(served_model, options, Path(path), settings)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "ignores-sigterm" in settings else _stop)
    try:
        log.srv("llama_server", "model loaded")
        host, port = server.server_address[:2]
        log.srv("llama_server", f"listening on http://{host!s}:{port}")
        served_model.ready.set()
        _wait(settings)
    except StopSignal:
        _exit()


def _served_model(options: Options, release: Release, path: str, settings: Settings) -> ServedModel:
    names = [name.strip() for name in options.text("--alias").split(",") if name.strip()]
    aliases = sorted(names or [path])  # a set in llama-server
    name = "some-other-model" if "wrong-name" in settings else aliases[0]
    keys = [key for key in options.text("--api-key").split(",") if key]
    if options.text("--api-key-file"):
        keys += [line for line in Path(options.text("--api-key-file")).read_text().splitlines() if line]
    return ServedModel(
        name=name,
        aliases=tuple(aliases),
        build=f"b0-{release.commit[:7]}",
        api_keys=tuple(keys),
        has_metrics=options.on("--metrics"),
        metrics=Metrics(frozen="no-tokens" in settings),
        settings=settings,
    )


def _listen(options: Options, served_model: ServedModel, settings: Settings) -> Server:
    host, port = options.text("--host", "127.0.0.1"), options.number("--port", 8080)
    try:
        if "port-taken" in settings:
            raise OSError  # noqa: TRY301
        return Server((host, port), served_model)
    except OSError:
        log.srv("start", f"couldn't bind HTTP server socket, hostname: {host}, port: {port}", "E")
        log.srv("operator()", "operator(): cleaning up before exit...")
        log.srv("llama_server", "exiting due to HTTP server error", "E")
        raise SystemExit(1) from None


def _load(served_model: ServedModel, options: Options, path: Path, settings: Settings) -> None:
    log.srv("load_model", f"loading model '{path}'")
    try:
        model = gguf.read(path)
    except gguf.GgufError as error:
        log.line(str(error), "E")
        _fail(path, f"llama_model_loader: {error.cause or f'failed to load model from {path}'}")
    time.sleep(settings.start_s * 0.6)
    if "hangs-loading" in settings:
        time.sleep(10**8)
    if "eats-memory" in settings:
        _eat(settings.eat_mib)
    if "cuda-oom" in settings:
        size = model.bytes / MIB
        log.line(
            f"ggml_backend_cuda_buffer_type_alloc_buffer: allocating {size:.2f} MiB on device 0: "
            "cudaMalloc failed: out of memory",
            "E",
        )
        _fail(path, "unable to allocate CUDA0 buffer")
    if "crash-after-load" in settings:
        log.line("CUDA error: an illegal memory access was encountered", "E")
        raise SystemExit(int(settings.value("crash-after-load", 0, 1)))
    log.common("init", f"llama threadpool init, n_threads = {os.cpu_count() or 1}")
    draft = options.text("--spec-draft-model")
    if draft and not Path(draft).is_file():
        log.line(f"gguf_init_from_file: failed to open GGUF file '{draft}' (No such file or directory)", "E")
        log.srv("load_model", f"failed to load draft model, '{draft}'", "E")
        _end_loading()
    time.sleep(settings.start_s * 0.4)
    trained = model.number("context_length", 2048)
    slots = options.number("--parallel", -1)
    context = (options.number("--ctx-size", 0) or trained) // max(1, slots)
    served_model.context = context
    served_model.meta = {
        "vocab_type": 1,
        "n_vocab": len(model.metadata.get("tokenizer.ggml.tokens", ())),
        "n_ctx_train": trained,
        "n_embd": model.number("embedding_length"),
        "n_params": model.bytes // 4,
        "size": model.bytes,
        "ftype": FILE_TYPES.get(int(model.metadata.get("general.file_type", 0)), "unknown"),
    }
    log.srv(
        "load_model",
        f"initializing, n_slots = {slots if slots > 0 else SLOTS}, n_ctx_slot = {context}, kv_unified = "
        f"'{'false' if slots > 0 else 'true'}'",
    )


def _fail(path: Path, cause: str) -> NoReturn:
    log.line(f"llama_model_load: error loading model: {cause}", "E")
    log.line("llama_model_load_from_file_impl: failed to load model", "E")
    log.line(
        "common_fit_params: encountered an error while trying to fit params to free device memory: "
        "failed to load model",
        "E",
    )
    log.common("common_init_from_params", f"failed to load model '{path}'", "E")
    log.srv("load_model", f"failed to load model, '{path}'", "E")
    _end_loading()


def _end_loading() -> NoReturn:
    log.srv("operator()", "operator(): cleaning up before exit...")
    log.srv("llama_server", "exiting due to model loading error", "E")
    os._exit(1)


def _wait(settings: Settings) -> None:
    if "crash-later" not in settings:
        while True:
            time.sleep(3600)
    time.sleep(settings.value("crash-later", 0, 5))
    code = int(settings.value("crash-later", 1, 1))
    if code == 128 + signal.SIGKILL:
        os.kill(os.getpid(), signal.SIGKILL)
    log.line("CUDA error: unspecified launch failure", "E")
    os._exit(code)


def _eat(limit_mib: int) -> None:
    """Allocate and touch memory up to a limit, then hold it and never become ready."""
    blocks = []
    for _ in range(0, limit_mib, 64):
        blocks.append(b"x" * (64 * MIB))
        time.sleep(0.05)
    while blocks:
        time.sleep(3600)


def _stop(_signal: int, _frame: object) -> NoReturn:
    raise StopSignal


def _exit() -> NoReturn:
    with contextlib.suppress(StopSignal):
        log.srv("operator()", "operator(): cleaning up before exit...")
    os._exit(0)  # do not wait for threads with an open request


if __name__ == "__main__":
    main()
