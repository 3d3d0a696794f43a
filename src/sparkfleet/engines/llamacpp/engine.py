"""llama.cpp on the operator's side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.contract.generation import Task
from sparkfleet.engines.base import GIB, Engine, FlagChange, Footprints, ParsedArgs, field_of, total_memory
from sparkfleet.engines.llamacpp import args, check, gguf, images, memory, model_files, schema

if TYPE_CHECKING:
    from sparkfleet.desired_state import FlagValue, Host, ImageRef, Service, WeightFile

MODEL, ALIAS = "--model", "--alias"
MODELS = "/models"
"""Where the models directory is in the container."""
_SNAPSHOT = re.compile(
    r".*/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[^/]*)/(?P<file>.+)"
)


class LlamaCpp(Engine):
    """llama.cpp: flags of a bundled release, GGUF files of a repository."""

    name = "llamacpp"
    title = "llama.cpp"
    takes_file = True
    takes_aliases = True
    hub_client = ""
    header_bytes = gguf.HEADER_BYTES
    reserved_flags: Mapping[str, str] = {
        name.removeprefix("--"): instead for name, instead in check.RESERVED.items()
    }
    secret_flags = frozenset({"api-key", "hf-token"})
    secret_env = frozenset({"LLAMA_API_KEY", "LLAMA_ARG_API_KEY"})
    shown_flags: Mapping[str, str] = {"--port": "port", ALIAS: "served name", "file": "file"}
    model_flags = frozenset({"model", "--revision"})
    entrypoint_hint = "an image whose entrypoint is empty, a wrapper, or llama-server"
    tasks = frozenset({Task.CHAT, Task.COMPLETION, Task.EMBEDDING})
    weights_hint = "GGUF"
    footprints = Footprints(programs=("llama-server",), in_containers=("llama",))

    def load_data(self) -> None:
        """See ``Engine``."""
        for version in schema.versions():
            schema.load(version)

    def image_version(
        self, image: ImageRef, env: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None
    ) -> str:
        """See ``Engine``."""
        del env
        return images.version("", labels or {}) or image.engine_version or images.version(image.tag, {})

    def command_prefix(self, entrypoint: Sequence[str]) -> tuple[str, ...] | None:
        """See ``Engine``."""
        return images.command_prefix(entrypoint)

    def args_of(self, argv: Sequence[str]) -> tuple[str, ...]:
        """See ``Engine``."""
        return images.arguments(argv)

    def flag_names(self) -> Iterable[str]:
        """See ``Engine``."""
        newest = schema.load(schema.versions()[-1])
        return (*newest.options, *newest.variables)

    def flag_facts(self, name: str) -> Mapping[str, str]:
        """See ``Engine``."""
        releases = [schema.load(version) for version in schema.versions()]
        having = [one for one in releases if name in one.options or name in one.variables]
        if not having:
            return {}
        newest = having[-1]
        flag = newest.options.get(name) or newest.variables[name]
        value = flag.hint or flag.type if flag.takes_value else "none"
        facts = {
            "": flag.help,
            "flag": ", ".join((flag.name, *flag.aliases, *flag.negatives)),
            "variable": flag.env,
            "value": ", ".join(flag.choices) or value,
            "default": flag.default,
            "releases": ", ".join(one.version for one in having),
            "removed": flag.removed and f"use {flag.removed}",
        }
        return {label: text for label, text in facts.items() if text}

    def args(self, service: Service) -> tuple[str, ...]:
        """Return the arguments of llama-server: model file, name, address, metrics, then the flags."""
        own: dict[str, FlagValue] = {
            "model": model_path(service),
            "alias": ",".join((service.served_name, *service.served_aliases)),
            "host": "0.0.0.0",  # noqa: S104  (the Spark's own firewall decides who may connect)
            "port": service.port,
            "metrics": True,  # the readiness gate reads the token counter
        }
        return args.render({**own, **dict(service.flags)}, _schema(service.engine_version))

    def parse_args(self, args_: Sequence[str], version: str) -> ParsedArgs:
        """See ``Engine``. The model is the repository where the path is one of the hub's cache."""
        values = dict(args.parse(args_, _schema(version)).values)
        path = str(values.pop(MODEL, ""))
        found = _SNAPSHOT.fullmatch(path)
        if not found:
            return ParsedArgs(path, "", values)
        repository = f"{found['owner']}/{found['name']}"
        return ParsedArgs(repository, found["commit"], {"file": found["file"], **values})

    def compare_args(self, old: Sequence[str], new: Sequence[str], version: str) -> tuple[FlagChange, ...]:
        """See ``Engine``."""
        if list(old) == list(new):
            return ()
        known = _schema(version)
        before, after = self.parse_args(old, version), self.parse_args(new, version)
        pairs = (
            ("model", before.model, after.model),
            ("--revision", before.revision, after.revision),
            ("file", str(before.values.get("file", "")), str(after.values.get("file", ""))),
        )
        changes = [FlagChange(name, a or None, b or None) for name, a, b in pairs if a != b]
        found = args.differences(old, new, known, known)
        return (*changes, *(change for change in found if change.flag != MODEL))

    def environment(self, models: str, cache: str) -> Mapping[str, str]:
        """See ``Engine``. ``LLAMA_CACHE`` is the download directory of llama.cpp itself."""
        del models
        return {"LLAMA_CACHE": f"{cache}/llamacpp"}

    def model_files(self, files: Iterable[WeightFile], pattern: str = "") -> tuple[WeightFile, ...]:
        """Return the GGUF file that the pattern names, with all parts. Raise ModelFilesError otherwise."""
        by_path = {file.path: file for file in files}
        chosen = model_files.choose(by_path, pattern)
        return tuple(by_path[path] for path in chosen.paths)

    def model_config(self, header: bytes) -> Mapping[str, Any]:
        """See ``Engine``."""
        return gguf.model_config(header)

    def is_speculative(self, flags: Mapping[str, object]) -> bool:
        """Return whether a drafter or n-gram speculation is declared."""
        return any(flags.get(name) not in (None, "none") for name in ("spec-type", "spec-draft-model"))

    def check(
        self, service: Service, host: Host, *, total_gib: float | None = None, measured: object = None
    ) -> tuple[Diagnostic, ...]:
        """See ``Engine``."""
        del measured
        diagnostics: list[Diagnostic] = []
        version = self.image_version(service.image) if service.image else ""
        release, exact = schema.nearest(version)
        if not version:
            image = service.engine_source
            text = f"the llama.cpp release in {image} is unknown: flags of {release.version} apply"
            where = field_of(service, "image")
            diagnostics.append(Diagnostic(where, text, severity=Severity.INFO, code="unknown-engine-version"))
        for one in (
            *check.check_arguments(args.render(dict(service.flags), release), release, exact=exact),
            *check.check_environment(dict(service.env), release),
        ):
            flag = one.location.lstrip("-")
            fields = (f"flags.{flag}", f"flags.{flag.removeprefix('no-')}", f"env.{flag}")
            diagnostics.append(replace(one, location=field_of(service, *fields)))
        estimate = self._estimate(service, host, total_memory(host) if total_gib is None else total_gib)
        if estimate is not None and not estimate.fits:
            where = field_of(service, "flags.ctx-size", "flags.c", "model")
            hint = "a smaller ctx-size, cache-type-k and cache-type-v q8_0, or a smaller quantization"
            text = f"it does not fit: {estimate.text()}"
            diagnostics.append(Diagnostic(where, text, hint=hint, code="model-too-large"))
        return tuple(diagnostics)

    def memory_estimate(
        self, service: Service, host: Host, *, total_gib: float, measured: object = None
    ) -> str:
        """See ``Engine``."""
        del measured
        estimate = self._estimate(service, host, total_gib)
        return estimate.text() if estimate else ""

    def _estimate(self, service: Service, host: Host, total_gib: float) -> memory.Estimate | None:
        """Return the estimate; None when the size of the weights is not locked."""
        if not service.weights.files:
            return None
        values = args.parse(self.args(service), _schema(service.engine_version)).values
        size = values.get("--ctx-size")
        context = size if isinstance(size, int) else 0
        others_gib = engines.memory_of_others(service, host, total_gib)
        cache = memory.cache_gib(dict(service.weights.config), values, context)
        gib = service.weights.size / GIB
        return memory.Estimate(gib, cache, context, host.reserve_gib, others_gib, total_gib)


def model_path(service: Service) -> str:
    """Return the path of the model file in the container; with the pattern while it is not locked."""
    weights = service.weights
    name = weights.repo.replace("/", "--")
    file = weights.files[0].path if weights.files else weights.file
    return f"{MODELS}/hub/models--{name}/snapshots/{weights.revision}/{file}"


def _schema(version: str) -> schema.Schema:
    return schema.nearest(version)[0]


ENGINE = LlamaCpp()
