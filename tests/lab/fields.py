"""The table of fields: two values of each, and the rows that a plan has for the differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkfleet_lab.standins.hub_models import MODELS
from tests.lab.machine import Machine
from tests.lab.shared_spark import NANO, Row

MODEL = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"
OLD_COMMIT, NEW_COMMIT = next(
    tuple(model.commit(name) for name in model.commits) for model in MODELS if model.repo == MODEL
)
OTHER_MODEL = "openai/gpt-oss-20b"
OTHER_COMMIT = next(model.commit(model.commits[-1]) for model in MODELS if model.repo == OTHER_MODEL)
HOME = "/home/nvidia"
PROMPT = "What is 12*17? Answer with the number only."
SUPERVISE = "/usr/bin/python3 -I -B /usr/local/lib/sparkfleet/sparkfleet.pyz supervise nano"

Step = tuple[int, int]
"""From one state to another: 0 unset, 1 the first value, 2 the second."""


@dataclass(frozen=True)
class Missing:
    """A change that a plan lists while a path is missing on the Spark."""

    path: str
    row: Row


@dataclass(frozen=True)
class Field:
    """One field that a user may declare."""

    name: str
    first: Mapping[str, Any]
    second: Mapping[str, Any]
    rows: tuple[tuple[str, ...], ...] = ()
    """Field and key of the plan's row; its text without the field, with the first value, with the second."""
    also: Mapping[Step, tuple[Row, ...]] = field(default_factory=dict)
    """Changes that the plan shows as a whole step, instead of ``rows``."""
    missing: Mapping[int, tuple[Missing, ...]] = field(default_factory=dict)
    """What has to be fetched or created for a state, unless it is present."""
    hidden: bool = False
    """Whether values are shown as ``(hidden)``."""
    of: str = "service"
    """Where it is declared: ``service``, ``group`` (group_data), or ``beside`` (a second service)."""

    def declaration(self, state: int) -> Mapping[str, Any]:
        """Return the declaration of a state."""
        return ({}, self.first, self.second)[state]

    def between(self, old: int, new: int, spark: Machine | None = None) -> set[Row]:
        """Return the changes from one state to another; those of missing paths need the Spark."""
        missing = self.missing.get(new, ()) if spark is not None else ()
        found = {one.row for one in missing if spark is not None and not spark.ok(f"test -e {one.path}")}
        if (old, new) in self.also:
            return found | set(self.also[old, new])
        texts = ((name, key, (unset, first, second)) for name, key, unset, first, second in self.rows)
        return found | {
            (name, key, self._shown(text[old]), self._shown(text[new]))
            for name, key, text in texts
            if text[old] != text[new]
        }

    def _shown(self, text: str) -> str:
        return "(hidden)" if text and self.hidden else text


def setting(key: str, first: Any, second: Any, *rows: tuple[str, str, str, str, str]) -> Field:
    """Return a field of ``container:``."""
    return Field(f"container.{key}", {"container": {key: first}}, {"container": {key: second}}, rows)


def flag(name: str, first: Any, second: Any, texts: tuple[str, str, str]) -> Field:
    """Return a flag of the engine; texts as in ``Field.rows``."""
    row = ("flag", f"--{name}", *texts)
    return Field(f"flags.{name}", {"flags": {name: first}}, {"flags": {name: second}}, (row,))


def group(name: str, first: Any, second: Any, *rows: tuple[str, ...], **more: Any) -> Field:
    """Return a field of group_data."""
    return Field(name, {name: first}, {name: second}, rows, of="group", **more)


def directory(path: str) -> Missing:
    """Return the plan's row for a missing directory of the login user."""
    return Missing(path.replace("~", HOME), ("directory", path, "", "0755 nvidia:nvidia"))


def weights(models: str, repo: str, commit: str) -> Missing:
    """Return the plan's row for a missing model."""
    path = f"{models}/hub/models--{repo.replace('/', '--')}/snapshots/{commit}"
    return Missing(path, ("weights", "", "", repo))


def supervise(floor_mib: int) -> str:
    """Return the start command in the service's unit."""
    return f"{SUPERVISE} --floor-mib {floor_mib} --stop-timeout 60"


def cache(digest: str, folder: str = "~/vllm-compile-cache") -> str:
    """Return the compile cache of an image."""
    return f"{folder}/{digest.removeprefix('sha256:')[:12]}"


_JSON = '{{"temperature":{},"top_k":20}}'

SETTINGS: tuple[Field, ...] = (
    Field("port", {"port": 8100}, {"port": 8200}, (("port", "", "8000", "8100", "8200"),)),
    Field(
        "served_name",
        {"served_name": "assistant"},
        {"served_name": "helper"},
        (("served name", "", "nano", "assistant", "helper"),),
    ),
    flag("seed", 1, 2, ("", "1", "2")),
    flag("max-num-seqs", 4, 2, ("8", "4", "2")),
    flag("max-model-len", 65536, "128K", ("262144", "65536", "131072")),
    flag("reasoning-parser", None, "qwen3", ("nemotron_v3", "", "qwen3")),
    flag("enable-prefix-caching", True, False, ("", "true", "false")),
    Field(
        "flags.override-generation-config",
        {"flags": {"override-generation-config": {"temperature": 0.5, "top_k": 20}}},
        {"flags": {"override-generation-config": {"temperature": 0.6, "top_k": 20}}},
        (("flag", "--override-generation-config", "", _JSON.format(0.5), _JSON.format(0.6)),),
        also={(1, 2): (("flag", "--override-generation-config", "temperature=0.5", "temperature=0.6"),)},
    ),
    Field(
        "env",
        {"env": {"VLLM_LOGGING_LEVEL": "INFO"}},
        {"env": {"VLLM_LOGGING_LEVEL": "DEBUG"}},
        (("env", "VLLM_LOGGING_LEVEL", "", "INFO", "DEBUG"),),
    ),
    Field(
        "env of a secret's name",
        {"env": {"MY_CREDENTIAL": "first"}},
        {"env": {"MY_CREDENTIAL": "second"}},
        (("env", "MY_CREDENTIAL", "", "first", "second"),),
        hidden=True,
    ),
    Field(
        "container.ipc and shm_size",
        {"container": {"ipc": "private", "shm_size": "1g"}},
        {"container": {"ipc": "shareable", "shm_size": "2g"}},
        (
            ("container", "ipc", "host", "private", "shareable"),
            ("container", "shm", "", str(1 << 30), str(2 << 30)),
        ),
    ),
    setting("gpus", "none", "all", ("container", "gpus", "all", "", "all")),
    setting("user", "1000:1000", "0:0", ("container", "user", "", "1000:1000", "0:0")),
    setting("memory", "2g", "3g", ("container", "memory limit", "", str(2 << 30), str(3 << 30))),
    setting("ulimits", {"nofile": 4096}, {"nofile": 8192}, ("ulimit", "nofile", "", "4096", "8192")),
    setting(
        "devices",
        ["/dev/full"],
        ["/dev/zero:/dev/nought"],
        ("device", "/dev/full", "", "/dev/full", ""),
        ("device", "/dev/zero", "", "", "/dev/nought"),
    ),
    setting(
        "cap_add",
        ["SYS_NICE"],
        ["IPC_LOCK"],
        ("capability", "SYS_NICE", "", "yes", ""),
        ("capability", "IPC_LOCK", "", "", "yes"),
    ),
    setting(
        "mounts",
        [{"source": "/usr/share/doc", "target": "/data"}],
        [{"source": "~", "target": "/data", "read_only": True}],
        ("mount", "/data", "", "/usr/share/doc:/data", f"{HOME}:/data:ro"),
    ),
    Field(
        "gate.timeout",
        {"gate": {"timeout": "90s"}},
        {"gate": {"timeout": 100}},
        (("gate", "timeout", "120", "90", "100"),),
    ),
    Field(
        "gate.prompt and expect",
        {"gate": {"prompt": "What is 3*5?", "expect": "15"}},
        {"gate": {"prompt": "What is 3*5?", "expect": ""}},
        (
            ("gate", "prompt", PROMPT, "What is 3*5?", "What is 3*5?"),
            ("gate", "expect", "204", "15", ""),
        ),
    ),
    group(
        "min_available_gib",
        0.4,
        0.5,
        ("unit", "sparkfleet-nano.service ExecStart", supervise(308), supervise(410), supervise(512)),
    ),
    group(
        "models_dir",
        "~/models",
        "/srv/models",
        (
            "mount",
            "/models",
            f"{HOME}/vllm:/models",
            f"{HOME}/models:/models",
            "/srv/models:/models",
        ),
        missing={
            1: (directory("~/models"), weights(f"{HOME}/models", MODEL, NEW_COMMIT)),
            2: (directory("/srv/models"), weights("/srv/models", MODEL, NEW_COMMIT)),
        },
    ),
)
"""Fields that can be set together."""


def folders(digests: Mapping[str, str]) -> tuple[Field, ...]:
    """Return the fields that contain an image's digest; ``digests`` by tag."""
    names = [
        cache(digests["26.04-py3"], folder) for folder in ("~/vllm-compile-cache", "~/cache", "/srv/cache")
    ]
    return (
        group(
            "cache_dir",
            "~/cache",
            "/srv/cache",
            ("mount", "/compile-cache", *(f"{name.replace('~', HOME)}:/compile-cache" for name in names)),
            missing={
                1: (directory("~/cache"), directory(names[1])),
                2: (directory("/srv/cache"), directory(names[2])),
            },
        ),
    )


def new_service(cache: str) -> tuple[Row, ...]:
    """Return the plan's rows for the second service while it does not exist."""
    return (
        ("image", "", "", "nvcr.io/nvidia/vllm:26.04-py3"),
        ("model", "", "", OTHER_MODEL),
        ("served name", "", "", "other"),
        ("port", "", "", "8001"),
        ("flag", "--host", "", "0.0.0.0"),
        ("flag", "--max-model-len", "", "131072"),
        ("flag", "--gpu-memory-utilization", "", "0.85"),
        ("flag", "--max-num-seqs", "", "4"),
        ("flag", "--enable-auto-tool-choice", "", "true"),
        ("flag", "--tool-call-parser", "", "openai"),
        ("env", "HF_HOME", "", "/models"),
        ("env", "HF_HUB_OFFLINE", "", "1"),
        ("env", "TRITON_CACHE_DIR", "", "/compile-cache/triton"),
        ("env", "VLLM_CACHE_ROOT", "", "/compile-cache/vllm"),
        ("mount", "/compile-cache", "", f"{cache}:/compile-cache"),
        ("mount", "/models", "", f"{HOME}/vllm:/models"),
    )


def parts(digests: Mapping[str, str]) -> tuple[Field, ...]:
    """Return the fields that a service consists of."""
    caches = [cache(digests[tag]) for tag in ("26.04-py3", "26.05-py3", "v0.25.1")]
    in_home = [path.replace("~", HOME) for path in caches]
    return (
        Field(
            "image",
            {"image": "nvcr.io/nvidia/vllm:26.05-py3"},
            {"image": "vllm/vllm-openai:v0.25.1"},
            (
                ("image", "", "nvcr.io/nvidia/vllm:26.04-py3", "nvcr.io/nvidia/vllm:26.05-py3",
                 "vllm/vllm-openai:v0.25.1"),
                ("mount", "/compile-cache", *(f"{path}:/compile-cache" for path in in_home)),
            ),
            missing={1: (directory(caches[1]),), 2: (directory(caches[2]),)},
        ),
        Field(
            "revision",
            {"revision": OLD_COMMIT},
            {"revision": NEW_COMMIT},
            also={
                (0, 1): (("model", "", MODEL, MODEL),),
                (1, 2): (("model", "", MODEL, MODEL),),
                (2, 0): (),  # the lock file has the same commit
            },
            missing={1: (weights(f"{HOME}/vllm", MODEL, OLD_COMMIT),)},
        ),
        Field(
            "name",
            {"name": "nano-2"},
            {"name": "nano-3"},
            (
                ("name", "", "nano", "nano-2", "nano-3"),
                ("served name", "", "nano", "nano-2", "nano-3"),
            ),
        ),
        Field(
            "container.network",
            {"container": {"network": "bridge"}},
            {"container": {"network": "host"}},
            (("container", "network", "host", "bridge", "host"), ("publish", "8000/tcp", "", "8000", "")),
        ),
        Field(
            "a second service, then its recipe",
            {"recipe": "gpt-oss-20b", "name": "other", "port": 8001},
            {**NANO, "name": "other", "port": 8001},
            also={
                (0, 1): new_service(in_home[0]),
                (1, 2): (
                    ("model", "", OTHER_MODEL, MODEL),
                    ("flag", "--max-model-len", "131072", "262144"),
                    ("flag", "--max-num-seqs", "4", "8"),
                    ("flag", "--tool-call-parser", "openai", "qwen3_coder"),
                    ("flag", "--trust-remote-code", "", "true"),
                    ("flag", "--kv-cache-dtype", "", "fp8"),
                    ("flag", "--reasoning-parser", "", "nemotron_v3"),
                ),
                (2, 0): (
                    ("container", "", "other", ""),
                    ("unit", "", "sparkfleet-other.service", ""),
                ),
            },
            missing={1: (weights(f"{HOME}/vllm", OTHER_MODEL, OTHER_COMMIT),)},
            of="beside",
        ),
    )  # fmt: skip


NO_CHANGE: Mapping[str, Mapping[str, Any]] = {
    "flags in another order": {"flags": {"reasoning-parser": "nemotron_v3", "max-num-seqs": 8}},
    "a flag with underscores": {"flags": {"max_num_seqs": 8}},
    "a flag with dashes before it": {"flags": {"--max-num-seqs": 8}},
    "a number with a suffix": {"flags": {"max-model-len": "256K"}},
    "a flag at its default": {"flags": {"load-format": "auto", "seed": 0}},
    "a switch at its default": {"flags": {"enforce-eager": False}},
    "JSON at its default": {"flags": {"override-generation-config": {}}},
    "a fraction with a trailing zero": {"flags": {"gpu-memory-utilization": "0.850"}},
    "the default port": {"port": 8000},
    "the default served name": {"served_name": "nano"},
    "the recipe's own image": {"image": "nvcr.io/nvidia/vllm:26.04-py3"},
    "the model of the recipe": {"model": MODEL},
    "the commit of the lock file": {"revision": NEW_COMMIT},
    "a variable of the image at its value": {"env": {"NVIDIA_VISIBLE_DEVICES": "all"}},
    "a variable that is removed and was never set": {"env": {"VLLM_LOGGING_LEVEL": None}},
    "container settings at their defaults": {
        "container": {"network": "host", "ipc": "host", "gpus": "all", "shm_size": "16g", "mounts": []}
    },
    "the gate at its defaults": {"gate": {"timeout": "120s", "prompt": PROMPT, "expect": "204"}},
    "a time in another unit": {"gate": {"timeout": "2m"}},
    "more memory reserved for other processes": {"reserve_gib": 3},
}
"""Other spellings of what the recipe and the defaults declare."""
