"""Rules for files and secrets: what the engine reads must be in its container."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import CACHE_IN_CONTAINER
from sparkfleet.desired_state import MODELS_IN_CONTAINER
from sparkfleet.engines.vllm.adapters import is_of_hub
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, info, rule, warning

ALWAYS_MOUNTED = (MODELS_IN_CONTAINER, CACHE_IN_CONTAINER)
"""What every container of ours has: the model store and the compile cache."""
_FILES = (
    "--reasoning-parser-plugin",
    "--tool-parser-plugin",
    "--chat-template",
    "--config",
    "--ssl-certfile",
    "--ssl-keyfile",
)
LORA = "--lora-modules"
DEFAULT_RANK = 16
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of --max-lora-rank."""
_KNOWN_IMAGES = ("vllm/vllm-openai", "nvcr.io/nvidia/vllm")
"""Images whose files are known: of others it is not certain that they lack a file."""
_IN_STOCK = re.compile(r"(?:/vllm-workspace/)?examples/")
"""Templates in vllm/vllm-openai, whose working directory is /vllm-workspace."""
_IN_PACKAGE = re.compile(r"/(?:dist|site)-packages/")
_HUB_CACHES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE")


@rule("P-02", "files that flags name are mounted", "dgx-vllm 7.3.1: the plugin file of nano_v3")
def files_mounted(case: Case) -> Diagnostic | None:
    """VLLM ends the start when a plugin, a template or an adapter is not there."""
    for flag, path in _files(case):
        if path.startswith("/") and _inside(case, path):
            continue
        repository = case.image.repository
        is_known = repository.endswith(_KNOWN_IMAGES)
        if _IN_PACKAGE.search(path) or (repository.endswith(_KNOWN_IMAGES[0]) and _IN_STOCK.match(path)):
            continue
        name = path.rpartition("/")[2]
        hint = f"add a mount under container.mounts; a file of the model's repository is {{snapshot}}/{name}"
        if not is_known:
            return warning(f"{flag} {path}: nothing is mounted there; only the image can have it", hint, flag)
        text = f"{flag} {path}: nothing is mounted there"
        if not path.startswith("/"):
            text = f"{flag} {path} is relative, and nothing puts it into the container's working directory"
        return error(text, hint, flag)
    return None


def _files(case: Case) -> Iterator[tuple[str, str]]:
    for flag in _FILES:
        path = case.text(flag)
        is_inline = flag == "--chat-template" and any(mark in path for mark in "{}\n")
        if path and not is_inline:
            yield flag, path
    for _, path in adapters(case):
        if path.startswith("/"):
            yield LORA, path


def adapters(case: Case) -> Iterator[tuple[str, str]]:
    """Return name and path of every adapter of --lora-modules, as vLLM reads them."""
    value = case.values.get(LORA)
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            continue
        if "=" in text and "," not in text:
            name, _, path = text.partition("=")
            yield name, path
            continue
        try:
            read = json.loads(text)
        except ValueError:
            continue
        if isinstance(read, Mapping):
            yield str(read.get("name", "")), str(read.get("path", ""))


@rule(
    "P-17",
    "LoRA adapters are files on the Spark, or repositories of the hub",
    "vLLM: engines start offline, and load adapters at the start",
)
def adapter_of_the_hub(case: Case) -> Diagnostic | None:
    """Anything else would be looked for by the engine, which has no network access."""
    for name, path in adapters(case):
        if path and not path.startswith("/") and not is_of_hub(path):
            text = f"{LORA}: {name or path} is {path}, which is no file on the Spark: engines start offline"
            hint = (
                "write OWNER/NAME of a repository of the hub; or mount a directory under container.mounts, "
                "and give its path in the container"
            )
            return error(text, hint, LORA)
    return None


@rule("P-21", "a LoRA adapter's rank is within --max-lora-rank", "vLLM: add_lora refuses a higher rank")
def adapter_rank(case: Case) -> Diagnostic | None:
    """Known of adapters of the hub, from their adapter_config.json."""
    limit = case.values.get("--max-lora-rank") or DEFAULT_RANK
    for repo, config in _adapters_of_hub(case):
        rank = config.get("r")
        if isinstance(rank, int) and isinstance(limit, int) and rank > limit:
            enough = next((one for one in RANKS if one >= rank), rank)
            text = f"{LORA}: {repo} has rank {rank}, and --max-lora-rank is {limit}: the start fails"
            return error(text, f"set max-lora-rank: {enough}", LORA)
    return None


@rule("P-22", "a LoRA adapter was trained for the model", "peft: base_model_name_or_path of the adapter")
def adapter_base(case: Case) -> Diagnostic | None:
    """A quantized copy has the name of its base model within its own."""
    own = _plain(case.service.weights.repo)
    for repo, config in _adapters_of_hub(case):
        base = str(config.get("base_model_name_or_path") or "")
        if base and _plain(base) not in own and own not in _plain(base):
            text = f"{LORA}: {repo} was trained for {base}, and the model is {case.service.weights.repo}"
            return warning(text, "use an adapter of this model, or serve that one", LORA)
    return None


def _adapters_of_hub(case: Case) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for weights in case.service.drafters:
        config = dict(weights.config)
        if "peft_type" in config or "base_model_name_or_path" in config:
            yield weights.repo, config


def _plain(repo: str) -> str:
    return re.sub(r"[^a-z0-9]", "", repo.rpartition("/")[2].lower())


@rule("P-16", "--lora-modules needs --enable-lora", "vLLM: add_lora refuses adapters without it")
def adapters_off(case: Case) -> Diagnostic | None:
    """The adapters are loaded at the start, which fails."""
    if LORA not in case.values or case.on("--enable-lora"):
        return None
    return error(f"{LORA} without --enable-lora: the start fails", "add enable-lora: true", LORA)


@rule("H-01", "a gated model needs a token", "dgx-vllm 5, 7.2.1, 7.4.3, 11")
def gated(case: Case) -> Diagnostic | None:
    """And the licence, accepted on the model's page by the token's owner."""
    repos = [weights.repo for weights in (case.service.weights, *case.service.drafters) if weights.gated]
    if not repos or case.host.hf_token:
        return None
    text = f"{' and '.join(repos)}: gated, and no token is declared"
    return error(text, "accept the licence on the model's page, and set hf_token in group_data")


@rule("H-03", "the engine reads its model from the model store", "dgx-vllm 3; engines start offline")
def hub_home(case: Case) -> Diagnostic | None:
    """In another directory there are no staged weights, and the engine does not download any."""
    mounts = case.service.container.mounts
    stores = [MODELS_IN_CONTAINER, *(one.target for one in mounts if one.source == case.host.paths.models)]
    homes = [store.rstrip("/") for store in stores]
    for name in ("HF_HOME", *_HUB_CACHES):
        places = homes if name == "HF_HOME" else [f"{home}/hub" for home in homes]
        value = case.env.get(name, "").rstrip("/")
        if not value or value in places:
            continue
        source = next((one.source for one in mounts if one.target.rstrip("/") == value), "")
        text = f"{name}={value} leads away from the staged weights, and engines start offline"
        hint = "remove it: sparkfleet sets HF_HOME to the model store"
        if name == "HF_HOME":
            other = source or "DIRECTORY"
            hint += (
                f"; to use a store that is on the Spark already, set 'models_dir: {other}' in the host file"
            )
        at = f"env.{name}"
        return warning(text, hint, at) if name == "TRANSFORMERS_CACHE" else error(text, hint, at)
    return None


@rule(
    "H-15", "--download-dir is not set", "vLLM: it names where weights are downloaded; engines start offline"
)
def download_directory(case: Case) -> Diagnostic | None:
    """The weights are in the model store."""
    path = case.text("--download-dir").rstrip("/")
    if path in ("", f"{MODELS_IN_CONTAINER}/hub"):
        return None
    text = f"--download-dir {path}: the weights are in the model store, and the engine downloads nothing"
    return warning(text, "remove it", "--download-dir")


@rule("H-04", "a model given as a directory is mounted", "dgx-vllm 7.2.3")
def model_directory(case: Case) -> Diagnostic | None:
    """The drafter of a bundle, too."""
    drafter = str(case.speculative.get("model", ""))
    for path in (case.service.weights.repo, drafter):
        if path.startswith("/") and not _inside(case, path):
            return error(f"the model {path} is not mounted", "add a mount under container.mounts")
    return None


@rule(
    "H-16",
    "with the Spark's shared memory the engine runs as root",
    "spark-vllm-docker#352, sparkrun#285: logind removes a user's shared memory at logout (RemoveIPC)",
)
def removed_ipc(case: Case) -> Diagnostic | None:
    """Then workers end with `No available shared memory broadcast block`."""
    box = case.service.container
    user = box.user.partition(":")[0]
    if box.ipc != "host" or user in ("", "0", "root"):
        return None
    text = f"user {user} with ipc: host: systemd removes its shared memory when that user logs out"
    hint = "set ipc: private with shm_size: 16g, or on the Spark RemoveIPC=no in logind.conf or lingering"
    return warning(text, hint, "container.user")


@rule("H-17", "engines write no core dumps", "gx10-cluster: a core dump of 41 GB filled the disk")
def core_dumps(case: Case) -> Diagnostic | None:
    """A dump is as large as the engine's memory."""
    if str(case.service.container.ulimits.get("core", 0)) in {"0", "0:0"}:
        return None
    text = "ulimit core: a crash writes a file of the size of the engine's memory"
    return warning(text, "set ulimits: {core: 0}", "container.ulimits")


@rule(
    "CFG-02",
    "browser clients are named by --allowed-origins from vLLM 0.32.0 on",
    'vLLM: the default was ["*"] before, and is [] from 0.32.0 on',
)
def origins(case: Case) -> Diagnostic | None:
    """A page of another origin, as a chat page in the browser, gets no answer. Programs are not concerned."""
    flag = "--allowed-origins"
    known = case.schema.flags.get(flag)
    if flag in case.values or known is None or known.default != [] or not case.since("0.32"):
        return None
    text = "vLLM answers no page of another origin: chat pages that ask from the browser get no answer"
    return info(text, 'add allowed-origins: ["*"], or the origin of the page, if you use one')


@rule(
    "CFG-01", "flags are in the host file, not in a --config file", "vLLM reads further flags from that file"
)
def config_file(case: Case) -> Diagnostic | None:
    """The plan cannot show what it says, nor notice that it changed."""
    if not case.text("--config"):
        return None
    text = "what the file of --config says is neither checked nor compared"
    return info(text, "write its flags under 'flags'", "--config")


def _inside(case: Case, path: str) -> bool:
    targets = [*ALWAYS_MOUNTED, *(mount.target.rstrip("/") for mount in case.service.container.mounts)]
    return any(path == target or path.startswith(f"{target}/") for target in targets)


RULES: tuple[Rule, ...] = (
    files_mounted,
    adapter_of_the_hub,
    adapters_off,
    adapter_rank,
    adapter_base,
    gated,
    hub_home,
    download_directory,
    model_directory,
    removed_ipc,
    core_dumps,
    origins,
    config_file,
)
